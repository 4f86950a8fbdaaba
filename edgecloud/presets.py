"""Presets: several settings by one word, below a flag and above a file. Standard library only."""

from __future__ import annotations

from typing import Any

__all__ = ["PRESETS"]

PRESETS: dict[str, dict[str, Any]] = {
    "recommended": {"entropy_threshold": 1.5, "k": 3},
    "quick": {"entropy_threshold": 1.45, "k": 5},
    "high-acceptance": {"entropy_threshold": 2.0, "k": 5},
    "high-precision": {"entropy_threshold": 1.0, "k": 3},
    "cpu-limited": {"entropy_threshold": 4.0, "k": 5, "max_cpu_cores": 2, "max_memory_gb": 16.0},
}
"""The run guide's: what each sets."""
