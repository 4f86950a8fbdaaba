"""The embedded corpus: synthetic test utterances with captions in two languages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

FOLDER: Final = Path(__file__).parent
MANIFESTS: Final[Mapping[str, Path]] = MappingProxyType(
    {"chinese": FOLDER / "chinese.json", "english": FOLDER / "english.json"}
)
"""The manifest of each caption language; both list every clip."""
ATTRIBUTES: Final = FOLDER / "attributes.json"
"""What is audible in each clip, by file id."""
