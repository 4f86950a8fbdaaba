"""The thinker as it is trained: the family's own submodules, and prompts packed for speed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import Cache
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import (
    Qwen2_5OmniAudioEncoder,
    Qwen2_5OmniThinkerTextModel,
)

from edgecloud.embedded.factory import tokenizer as tok
from edgecloud.embedded.factory.layout import load_weights, thinker_config
from edgecloud.models.cached import cache_argument
from edgecloud.models.features import audio_token_count
from edgecloud.models.prompts import SYSTEM_PROMPT

IGNORED: Final = -100


@dataclass(frozen=True, slots=True)
class TextExample:
    """The text after the audio: the prompt's tail and the caption, the latter to be learned."""

    prompt_ids: tuple[int, ...]
    caption_ids: tuple[int, ...]


class PromptIds:
    """Token ids of the request around the audio: the same as the chat template gives."""

    before: ClassVar[str] = ""
    """What the template writes between the user's turn and the audio."""
    after: ClassVar[str] = ""
    """What it writes between the audio and the instruction."""
    context_frames: ClassVar[int] = 0
    """Mel frames after a recording's own that its features hold."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.audio: int = tokenizer.encode(tok.AUDIO).ids[0]
        self.end_of_turn: int = tokenizer.encode(tok.END_OF_TURN).ids[0]
        self.end_of_text: int = tokenizer.encode(tok.END_OF_TEXT).ids[0]
        self._before = self._encode(
            f"<|im_start|>system\n{SYSTEM_PROMPT}<|im_end|>\n<|im_start|>user\n"
            f"{self.before}{tok.AUDIO_START}"
        )
        self._after = self._encode(tok.AUDIO_END)

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text).ids)

    def prefix(self, frames: int) -> list[int]:
        """System prompt and audio of `frames` mel frames, up to the audio end token."""
        count = audio_token_count(frames - self.context_frames)
        return [*self._before, *([self.audio] * count), *self._after]

    def text(self, instruction: str, caption: str = "") -> TextExample:
        """The text after the audio; a caption, if any, ends with the end-of-turn token."""
        prompt = self._encode(f"{self.after}{instruction}<|im_end|>\n<|im_start|>assistant\n")
        answer = (*self._encode(caption), self.end_of_turn) if caption else ()
        return TextExample(prompt, answer)


class Trainable(nn.Module):
    """Audio tower and language model of one family, as :func:`edgecloud.embedded.factory.train.train` takes
    them. Its three methods are those that :class:`Miniature` describes."""

    language_model: Any
    audio_id: int

    def parameter_count(self) -> int:
        """All parameters as stored."""
        return sum(parameter.numel() for parameter in self.parameters())

    def encode_audio(self, features: Sequence[npt.NDArray[np.float16]]) -> tuple[Tensor, list[int]]:
        """Audio embeddings of clips, one after another, and the count of each."""
        raise NotImplementedError

    def embed(self, input_ids: Tensor, audio: Tensor) -> Tensor:
        """Embeddings (B, L, hidden) of `input_ids` (B, L), placeholders replaced by the audio."""
        embeddings = self.language_model.embed_tokens(input_ids)
        mask = (input_ids == self.audio_id).unsqueeze(-1)
        merged: Tensor = embeddings.masked_scatter(mask, audio.to(embeddings.dtype))
        return merged

    def think(
        self,
        embeddings: Tensor,
        positions: Tensor,
        mask: Tensor | Mapping[str, Tensor] | None,
        *,
        cache: Cache | None = None,
    ) -> Tensor:
        """Last hidden states (B, L, hidden)."""
        raise NotImplementedError

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores (…, V) over the vocabulary, from last hidden states (…, hidden)."""
        raise NotImplementedError


class Miniature(Trainable):
    """Audio tower and language model of a Qwen2.5-Omni thinker; the head is the embedding."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Random weights; `config` is the content of a checkpoint's config.json."""
        super().__init__()
        thinker = thinker_config(config)
        self.audio_tower = Qwen2_5OmniAudioEncoder._from_config(  # type: ignore[no-untyped-call]
            thinker.audio_config, attn_implementation="sdpa"
        )
        self.language_model = Qwen2_5OmniThinkerTextModel._from_config(  # type: ignore[no-untyped-call]
            thinker.text_config, attn_implementation="sdpa"
        )
        self.audio_id = int(thinker.audio_token_index)

    def encode_audio(self, features: Sequence[npt.NDArray[np.float16]]) -> tuple[Tensor, list[int]]:
        """Audio embeddings of clips.

        Args:
            features: one (T, 128) array a clip.

        Returns:
            (sum of counts, hidden), all clips one after another, and the count of each.
        """
        device = self.audio_tower.conv1.weight.device
        packed = torch.from_numpy(np.concatenate(features)).to(device).float().T
        lengths = torch.tensor([len(f) for f in features], device=device)
        after_convolution = (lengths - 1) // 2 + 1
        output: Tensor = self.audio_tower(
            packed, feature_lens=lengths, aftercnn_lens=after_convolution
        ).last_hidden_state
        return output, [audio_token_count(len(f)) for f in features]

    def think(
        self,
        embeddings: Tensor,
        positions: Tensor,
        mask: Tensor | Mapping[str, Tensor] | None,
        *,
        cache: Cache | None = None,
    ) -> Tensor:
        """Last hidden states (B, L, hidden).

        Args:
            positions: (B, L); the family's three rows are equal without images.
            mask: (B, past + L) of 0 and 1, or the attention mask itself by layer type.
            cache: keys and values of the past, extended in place.
        """
        hidden: Tensor = self.language_model(
            inputs_embeds=embeddings,
            position_ids=positions.unsqueeze(0).expand(3, -1, -1),
            attention_mask=mask,
            use_cache=cache is not None,
            **{cache_argument(self.language_model): cache},
        ).last_hidden_state
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores (…, V) over the vocabulary, from last hidden states (…, hidden)."""
        return nn.functional.linear(hidden, self.language_model.embed_tokens.weight)


@dataclass(frozen=True)
class Packed:
    """A batch in which every row is one clip followed by several texts that share its audio.

    ids, positions, labels (B, L), int64; mask (B, 1, L, L), bool: a text sees the shared beginning
    and itself. `audio_end` (B,) is the place of the audio end token.
    """

    ids: Tensor
    positions: Tensor
    labels: Tensor
    mask: Tensor
    audio_end: Tensor


def pack(
    prefixes: Sequence[Sequence[int]], texts: Sequence[Sequence[TextExample]], *, pad_id: int
) -> Packed:
    """Pack B prefixes, each with its texts; a label is the token that follows its place."""
    rows: list[tuple[list[int], list[int], list[int], list[int]]] = []
    for prefix, examples in zip(prefixes, texts, strict=True):
        ids, positions = list(prefix), list(range(len(prefix)))
        labels, segments = [IGNORED] * len(prefix), [0] * len(prefix)
        for number, example in enumerate(examples, start=1):
            tokens = [*example.prompt_ids, *example.caption_ids[:-1]]
            ids += tokens
            positions += range(len(prefix), len(prefix) + len(tokens))
            labels += [IGNORED] * (len(example.prompt_ids) - 1) + list(example.caption_ids)
            segments += [number] * len(tokens)
        rows.append((ids, positions, labels, segments))
    longest = max(len(row[0]) for row in rows)

    def padded(column: int, filler: int) -> Tensor:
        return torch.tensor([row[column] + [filler] * (longest - len(row[0])) for row in rows])

    segment = padded(3, -1)
    same = segment.unsqueeze(2) == segment.unsqueeze(1)
    shared = (segment == 0).unsqueeze(1)
    causal = torch.ones(longest, longest, dtype=torch.bool).tril()
    return Packed(
        ids=padded(0, pad_id),
        positions=padded(1, 0),
        labels=padded(2, IGNORED),
        mask=((same | shared) & causal).unsqueeze(1),
        audio_end=torch.tensor([len(prefix) - 1 for prefix in prefixes]),
    )


def load_miniature(folder: Path) -> Miniature:
    """A stored checkpoint, in float32, ready to decode."""
    model = Miniature(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    load_weights(folder, audio_tower=model.audio_tower, language_model=model.language_model)
    return model.eval()
