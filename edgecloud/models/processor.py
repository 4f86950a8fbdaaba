"""Between people's data and a model's: waveform and words in, prompt; tokens out, text.

Tokenizer, chat template, audio placeholder and log-mel settings all come from one checkpoint folder.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers import Qwen2Tokenizer

from edgecloud.contracts import Language, Prompt, PromptType, StopLimits
from edgecloud.decoding.stopping import Stopping
from edgecloud.errors import CheckpointError, ModelError
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.features import LogMel, audio_token_count
from edgecloud.models.prompts import prompt_messages

__all__ = ["Processor"]

_AUDIO_TOKEN = "<|AUDIO|>"
_END_TOKENS = ("<|im_end|>", "<|endoftext|>")
_SENTENCE_ENDS = ("。", "！", "？", ".", "!", "?")


class Processor:
    """Everything around the weights of one checkpoint."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._path: Path = checkpoint.path
        # Without its files the tokenizer's class makes an empty vocabulary and says nothing.
        for name in ("tokenizer.json", "preprocessor_config.json"):
            if not (checkpoint.path / name).is_file():
                raise CheckpointError(f"model {checkpoint.path}: {name} is missing; fetch it again")
        try:
            # Not AutoTokenizer: it builds the whole family's configuration, talker included, to
            # find this class.
            self._tokenizer = Qwen2Tokenizer.from_pretrained(
                str(checkpoint.path), local_files_only=True
            )
            self._log_mel = LogMel(checkpoint.path)
        except (KeyError, OSError, ValueError) as error:
            raise CheckpointError(
                f"model {checkpoint.path}: tokenizer or feature extractor: "
                f"{' '.join(str(error).split())}"
            ) from error
        if self._tokenizer.chat_template is None:
            self._tokenizer.chat_template = _chat_template(checkpoint.path)
        self.vocab_size = len(self._tokenizer)
        """Entries of the tokenizer, special tokens included: the vocabulary that models share."""
        self.audio_id = self._token_id(_AUDIO_TOKEN)
        """The token that stands for audio, once for each of its embeddings."""

    def fingerprint(self) -> str:
        """A sha256 of the vocabulary and the chat template: equal for models that can decode
        together."""
        facts = [sorted(self._tokenizer.get_vocab().items()), self._tokenizer.chat_template]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    @property
    def features_key(self) -> str:
        """What features depend on besides the recording, for a cache."""
        settings = (self._path / "preprocessor_config.json").read_bytes()
        return f"log-mel float16 1 {hashlib.sha256(settings).hexdigest()}"

    def features(self, waveform: NDArray[np.float32]) -> NDArray[np.float16]:
        """Log-mel ``(n_mels, T) float16`` of a mono 16 kHz waveform ``(n,)``."""
        return self._log_mel(waveform)

    def prompt(
        self,
        features: NDArray[np.float16],
        *,
        language: Language,
        prompt_type: PromptType,
        transcription: str | None = None,
    ) -> Prompt:
        """The request for one recording, its audio placeholder repeated once per audio embedding."""
        messages = prompt_messages(language, prompt_type, transcription)
        text = self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        ids = self._tokenizer.encode(str(text), add_special_tokens=False)
        if ids.count(self.audio_id) != 1:
            raise ModelError(
                f"model {self._path}: its chat template gives {ids.count(self.audio_id)} audio "
                "placeholders for one recording; it must give one"
            )
        place = ids.index(self.audio_id)
        audio = [self.audio_id] * audio_token_count(features.shape[1])
        return Prompt((*ids[:place], *audio, *ids[place + 1 :]), features)

    def text(self, tokens: list[int] | tuple[int, ...]) -> str:
        """The caption that ``tokens`` spell, without special tokens."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True)).strip()

    def stopping(self, limits: StopLimits) -> Stopping:
        """When captions in this vocabulary end."""
        return Stopping(
            limits=limits,
            end_ids=frozenset(self._token_id(token) for token in _END_TOKENS),
            sentence_ids=self._sentence_ids() if limits.max_sentences is not None else frozenset(),
        )

    def _sentence_ids(self) -> frozenset[int]:
        pieces = self._tokenizer.batch_decode([[i] for i in range(self.vocab_size)])
        return frozenset(
            i for i, piece in enumerate(pieces) if piece.strip().endswith(_SENTENCE_ENDS)
        )

    def _token_id(self, token: str) -> int:
        token_id = self._tokenizer.get_vocab().get(token)
        if token_id is None:
            raise CheckpointError(f"model {self._path}: its tokenizer has no token {token}")
        return int(token_id)


def _chat_template(folder: Path) -> str:
    """The chat template of a folder that keeps it outside the tokenizer's settings.

    Raises:
        CheckpointError: there is none.
    """
    try:
        content = json.loads((folder / "chat_template.json").read_text(encoding="utf-8"))
        return str(content["chat_template"])
    except (KeyError, OSError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"model {folder}: no chat template in tokenizer_config.json, chat_template.jinja or "
            "chat_template.json; fetch it again"
        ) from error
