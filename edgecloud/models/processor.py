"""Between people's data and a model's: waveform and words in, prompt; tokens out, text.

Tokenizer, chat template, audio placeholder and log-mel settings all come from one checkpoint folder,
and the checkpoint's family says how they go together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub.errors import StrictDataclassError
from jinja2 import TemplateError
from numpy.typing import NDArray

from edgecloud.contracts import Arrays, Language, Prompt, PromptType, StopLimits
from edgecloud.decoding.stopping import Stopping
from edgecloud.errors import CheckpointError, ModelError
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.features import FeatureExtractor
from edgecloud.models.spelling import Vocabulary, spelled
from edgecloud.textfiles import parse_json

__all__ = ["Processor"]

_FEATURES = "preprocessor_config.json"
_PROCESSOR = "processor_config.json"
"""File in which newer checkpoints have the settings of every part, the feature extractor's among them."""
_FAILURES = (
    ArithmeticError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What feature extractors and tokenizers raise."""
_SENTENCE_ENDS = ("。", "！", "？", ".", "!", "?")


class Processor:
    """Everything around the weights of one checkpoint."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._path: Path = checkpoint.path
        self._family = checkpoint.family
        self._messages = checkpoint.guarded(checkpoint.family.messages)
        self._text_messages = checkpoint.guarded(checkpoint.family.text_messages)
        self._tower = checkpoint.family.tower_settings(checkpoint.config)
        self._extractor: FeatureExtractor | None = None
        # Without its files the tokenizer's class makes an empty vocabulary and says nothing.
        self._features_file = _FEATURES
        if not (checkpoint.path / _FEATURES).is_file() and (checkpoint.path / _PROCESSOR).is_file():
            self._features_file = _PROCESSOR
        for name in ("tokenizer.json", *([self._features_file] if self.accepts_audio else [])):
            if not (checkpoint.path / name).is_file():
                raise CheckpointError(f"model {checkpoint.path}: {name} is missing; fetch it again")
        try:
            self._tokenizer = self._family.tokenizer(checkpoint.path)
            if self.accepts_audio:
                self._extractor = self._family.feature_extractor(checkpoint.path)
        except (KeyError, OSError, StrictDataclassError, ValueError) as error:
            raise CheckpointError(
                f"model {checkpoint.path}: tokenizer or feature extractor: "
                f"{' '.join(str(error).split())}"
            ) from error
        if self._tokenizer.chat_template is None:
            self._tokenizer.chat_template = _chat_template(checkpoint.path)
        self.vocab_size = min(len(self._tokenizer), checkpoint.rows or len(self._tokenizer))
        """Entries of the tokenizer, special tokens included: the vocabulary that models share."""
        self._audio_id = self._placeholder(checkpoint) if self.accepts_audio else -1
        self._around = [
            self._token_id(token) for token in self._family.around_audio if self.accepts_audio
        ]
        self._end_ids = self._ends(checkpoint)

    @property
    def accepts_audio(self) -> bool:
        """True when the model takes recordings; otherwise :meth:`text_prompt` makes its prompts."""
        return self._family.accepts_audio

    @property
    def takes_waveform(self) -> bool:
        """True when the arrays of a prompt are the recording itself (:class:`edgecloud.models.families.Family`)."""
        return self._family.takes_waveform

    @property
    def audio_id(self) -> int | None:
        """The token that stands for audio, once for each of its embeddings; None where none does."""
        return self._audio_id if self.accepts_audio else None

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of transformers."""
        return self._tokenizer

    def shared(self) -> dict[str, Any]:
        """JSON: what two models must have in common to decode together, in parts that can be told
        apart (:mod:`edgecloud.models.pairing`). Padding of the output layer is none of it."""
        return dict(self._shared)

    @cached_property
    def _shared(self) -> dict[str, Any]:
        vocabulary = sorted(self._tokenizer.get_vocab().items())
        special = self._tokenizer.added_tokens_decoder
        extractor = self._extractor
        # Where the family names them they are equal by that.
        ends = {} if self._family.end_tokens else {"end ids": sorted(self._end_ids)}
        return {
            "family": self._family.model_type,
            "vocabulary": {"entries": self.vocab_size, "sha256": _sha256(vocabulary)},
            "special ids": {str(token): index for index, token in sorted(special.items())},
            "chat template": _sha256(self._tokenizer.chat_template),
            "audio": {} if extractor is None else {**extractor.settings, **self._tower},
            **ends,
        }

    @property
    def chat_template(self) -> str:
        """The template that makes text of a conversation."""
        return str(self._tokenizer.chat_template)

    def rendered(self, messages: list[dict[str, Any]], *, template: str | None = None) -> str:
        """A conversation as text, up to where the answer begins; by another ``template`` in this
        vocabulary where one is given.

        Raises:
            ModelError: the template cannot take such a conversation.
        """
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=True, chat_template=template
                )
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise ModelError(
                f"model {self._path}: the chat template cannot take this run's requests "
                f"({' '.join(str(error).split())})"
            ) from error

    def length(self, messages: list[dict[str, Any]]) -> int:
        """Tokens of a conversation without audio, up to where the answer begins.

        Raises:
            ModelError: as :meth:`rendered` does.
        """
        return len(self._ids(messages))

    def fingerprint(self) -> str:
        """A sha256 of the vocabulary and the chat template: equal for models that can decode
        together."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        facts = [sorted(self._tokenizer.get_vocab().items()), self._tokenizer.chat_template]
        return _sha256(facts)

    @property
    def features_key(self) -> str:
        """Key of a cache of features: all that they depend on besides the recording."""
        settings = (self._path / self._features_file).read_bytes()
        padding = "padded " if self._family.pads_audio else ""
        return f"arrays float16 1 {padding}{hashlib.sha256(settings).hexdigest()}"

    def features(self, waveform: NDArray[np.float32]) -> Arrays:
        """The arrays, by name, that the family's extractor makes of a mono 16 kHz waveform ``(n,)``.

        Raises:
            AudioError: the model cannot take such a recording.
            ModelError: it takes none at all, or its extractor fails.
        """
        extractor = self._feature_extractor
        with self._failing("its feature extractor"):
            return extractor.arrays(waveform)

    def prompt(
        self,
        features: Arrays,
        *,
        language: Language,
        prompt_type: PromptType,
        transcription: str | None = None,
    ) -> Prompt:
        """The request for one recording, its audio placeholder repeated once per audio embedding."""
        ids = self._ids(self._messages(language, prompt_type, transcription))
        if ids.count(self._audio_id) != 1:
            raise ModelError(
                f"model {self._path}: its chat template gives {ids.count(self._audio_id)} audio "
                "placeholders for one recording; it must give one"
            )
        place = ids.index(self._audio_id)
        audio = [self._audio_id] * self._feature_extractor.tokens(features)
        audio = [*self._around[:1], *audio, *self._around[1:]]
        return Prompt((*ids[:place], *audio, *ids[place + 1 :]), features)

    def text_prompt(self, text: str) -> Prompt:
        """The request that ``text`` is, as one turn of the user; the system prompt is the template's."""
        return Prompt(tuple(self._ids(self._text_messages(text))))

    def text(self, tokens: list[int] | tuple[int, ...]) -> str:
        """The caption that ``tokens`` spell, without special tokens.

        Raises:
            ModelError: its tokenizer fails.
        """
        with self._failing("its tokenizer"):
            return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True)).strip()

    def vocabulary(self) -> Vocabulary:
        """What each token spells, and which end an answer.

        Raises:
            ModelError: what its tokens stand for cannot be told.
        """
        return spelled(self._tokenizer, self._end_ids, size=self.vocab_size)

    def stopping(self, limits: StopLimits) -> Stopping:
        """The ends of an output in this vocabulary."""
        return Stopping(
            limits=limits,
            end_ids=frozenset(self._end_ids),
            sentence_ids=self._sentence_ids() if limits.max_sentences is not None else frozenset(),
        )

    @property
    def _feature_extractor(self) -> FeatureExtractor:
        if self._extractor is None:
            raise ModelError(
                f"model {self._path} takes text alone; give --dataset-type text, or a model that accepts audio"
            )
        return self._extractor

    @contextmanager
    def _failing(self, what: str) -> Iterator[None]:
        """What a family's own code raises, as an error that names the model."""
        try:
            yield
        except _FAILURES as error:
            raise ModelError(
                f"model {self._path}: {what} fails ({type(error).__name__}: "
                f"{' '.join(str(error).split())[:300]})"
            ) from error

    def _ids(self, messages: list[dict[str, Any]]) -> list[int]:
        """The token ids of a conversation, up to where the answer begins."""
        return list(self._tokenizer.encode(self.rendered(messages), add_special_tokens=False))

    def _sentence_ids(self) -> frozenset[int]:
        pieces = self._tokenizer.batch_decode([[i] for i in range(self.vocab_size)])
        return frozenset(
            i for i, piece in enumerate(pieces) if piece.strip().endswith(_SENTENCE_ENDS)
        )

    def _ends(self, checkpoint: Checkpoint) -> tuple[int, ...]:
        """The tokens that end an answer: the family's, else those at which ``generate`` ends one, else the
        tokenizer's own."""
        if self._family.end_tokens:
            return tuple(map(self._token_id, self._family.end_tokens))
        found = checkpoint.generation.get("eos_token_id")
        if found is None:
            found = self._tokenizer.eos_token_id
        ids = found if isinstance(found, list) else [found]
        if not ids or not all(isinstance(i, int) and 0 <= i < self.vocab_size for i in ids):
            raise CheckpointError(
                f"model {self._path}: neither generation_config.json nor the tokenizer names a token that "
                "ends an answer (eos_token_id)"
            )
        return tuple(dict.fromkeys(ids))

    def _placeholder(self, checkpoint: Checkpoint) -> int:
        found = self._family.audio_id(checkpoint.config)
        if found is not None and not 0 <= found < self.vocab_size:
            raise CheckpointError(
                f"model {self._path}: its audio_token_id {found} is no token of its tokenizer"
            )
        return self._token_id(self._family.audio_token) if found is None else found

    def _token_id(self, token: str) -> int:
        token_id = self._tokenizer.get_vocab().get(token)
        if token_id is None:
            raise CheckpointError(f"model {self._path}: its tokenizer has no token {token}")
        return int(token_id)


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _chat_template(folder: Path) -> str:
    """The chat template of a folder that keeps it outside the tokenizer's settings.

    Raises:
        CheckpointError: there is none.
    """
    try:
        content = parse_json((folder / "chat_template.json").read_bytes())
        return str(content["chat_template"])
    except (KeyError, OSError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"model {folder}: no chat template in tokenizer_config.json, chat_template.jinja or "
            "chat_template.json; fetch it again"
        ) from error
