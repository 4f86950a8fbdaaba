"""Inputs: samples of a manifest, and prompts as models take them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Language", "Prompt", "PromptType", "Sample"]

Language = Literal["chinese", "english"]


PromptType = Literal["concise", "default", "detailed"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One entry of a manifest, validated.

    ``references`` are captions in ``reference_language``; empty when the entry has none. Either
    ``audio_path`` or, in a text manifest, ``prompt`` is there."""

    file_id: str
    index: int
    dataset: str
    audio_path: Path | None
    references: tuple[str, ...]
    reference_language: Language
    transcription: str | None = None
    prompt: str | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """The input of both models: token ids with the audio placeholders expanded, and the features.

    ``features``: log-mel ``(n_mels, T) float16``, rounded once on the edge so that every side sees the
    same numbers; ``None`` for text alone. ``recording``: as FLAC, only where ``--upload-audio`` is said.
    ``edge``: the same request as the edge takes it, where its family or vocabulary is not the cloud's; it
    never travels.
    """

    token_ids: tuple[int, ...]
    features: NDArray[np.float16] | None = None
    recording: bytes | None = field(default=None, repr=False)
    edge: Prompt | None = field(default=None, repr=False)

    @property
    def length(self) -> int:
        """Tokens, audio placeholders included."""
        return len(self.token_ids)

    def digest(self) -> str:
        """16 hex digits of a blake2b of tokens and features: from them a link's chances are drawn."""
        content = hashlib.blake2b(repr(self.token_ids).encode(), digest_size=8)
        if self.features is not None:
            content.update(self.features.tobytes())
        return content.hexdigest()
