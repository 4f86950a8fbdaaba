"""The embedded miniatures: a pair of small Qwen2.5-Omni thinkers with the gate fitted to them, and an edge of
another family, a small Qwen2-Audio with a vocabulary of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

FOLDER: Final = Path(__file__).parent
EDGE_CHECKPOINT: Final = FOLDER / "edge"
CLOUD_CHECKPOINT: Final = FOLDER / "cloud"
OTHER_CHECKPOINT: Final = FOLDER / "qwen2-audio"

NAMED: Final[Mapping[str, Path]] = MappingProxyType(
    {
        "embedded-edge": EDGE_CHECKPOINT,
        "embedded-cloud": CLOUD_CHECKPOINT,
        "embedded-qwen2-audio": OTHER_CHECKPOINT,
    }
)
"""Each by the name that results and ``--edge-model`` call it."""
