"""The embedded miniature pair: two small Qwen2.5-Omni thinkers, and the gate fitted to them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent
EDGE_CHECKPOINT: Final = FOLDER / "edge"
CLOUD_CHECKPOINT: Final = FOLDER / "cloud"
