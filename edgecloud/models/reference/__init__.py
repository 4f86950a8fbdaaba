"""The embedded miniature pair: two small Qwen2.5-Omni thinkers, and the code that made them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

EDGE_CHECKPOINT: Final = Path(__file__).parent / "edge"
CLOUD_CHECKPOINT: Final = Path(__file__).parent / "cloud"
