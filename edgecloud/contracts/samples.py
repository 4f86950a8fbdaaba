"""Inputs: samples of a manifest, and prompts as models take them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["LOG_MEL", "Arrays", "Language", "Prompt", "PromptType", "Sample"]

Language = Literal["chinese", "english"]


PromptType = Literal["concise", "default", "detailed"]

Arrays = Mapping[str, "NDArray[Any]"]
"""What a family's feature extractor makes of a recording, by the names that its own ``forward`` gives them."""

LOG_MEL: Final = "input_features"
"""Name of the log-mel, in most families."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One entry of a manifest, validated.

    ``references`` are captions in ``reference_language``; empty when the entry has none. Either
    ``audio_path`` or, in a text manifest, ``prompt`` is there. ``attributes`` are pairs of name and value: the truth
    about what is heard, where the manifest knows it. No model reads them."""

    file_id: str
    index: int
    dataset: str
    audio_path: Path | None
    references: tuple[str, ...]
    reference_language: Language
    transcription: str | None = None
    prompt: str | None = None
    attributes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """The input of both models: token ids with the audio placeholders expanded, and the features.

    ``arrays``: the features by name, as the family's own extractor makes them; none for text alone. Real
    numbers are rounded once to float16, on the edge, so that every side sees the same ones; whole numbers and
    masks are as they are. ``recording``: as FLAC, only where ``--upload-audio`` is said. ``edge``: the same
    request as the edge takes it, where its family or vocabulary is not the cloud's; it never travels.
    """

    token_ids: tuple[int, ...]
    arrays: Arrays = field(default_factory=dict, hash=False)
    recording: bytes | None = field(default=None, repr=False)
    edge: Prompt | None = field(default=None, repr=False)

    @property
    def length(self) -> int:
        """Tokens, audio placeholders included."""
        return len(self.token_ids)

    @property
    def features(self) -> NDArray[np.float16] | None:
        """The log-mel ``(n_mels, T) float16`` of the families that the fast path runs; None: there is none."""
        return self.arrays.get(LOG_MEL)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.arrays.values())

    def array_bytes(self) -> bytes:
        """The arrays one after the other, by their names' order."""
        return b"".join(self.arrays[name].tobytes() for name in sorted(self.arrays))

    def digest(self) -> str:
        """16 hex digits of a blake2b of tokens and features: from them a link's chances are drawn."""
        content = hashlib.blake2b(repr(self.token_ids).encode(), digest_size=8)
        content.update(self.array_bytes())
        return content.hexdigest()
