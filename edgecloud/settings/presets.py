"""Presets: several settings by one word, below a flag and above a file. Standard library only."""

from __future__ import annotations

from typing import Any

__all__ = ["PRESETS"]

_LISTENING: dict[str, Any] = {
    "gate_type": "calibrated",
    "gate_scope": "token",
    "verify_scope": "since-last-call",
    "acceptance": "bounded",
    "k": 16,
}
"""Draft on while sure, and let one verification cover all since the last."""

PRESETS: dict[str, dict[str, Any]] = {
    "recommended": {"entropy_threshold": 1.5, "k": 3},
    "quick": {"entropy_threshold": 1.45, "k": 5},
    "high-acceptance": {"entropy_threshold": 2.0, "k": 5},
    "high-precision": {"entropy_threshold": 1.0, "k": 3},
    "cpu-limited": {"entropy_threshold": 4.0, "k": 5, "max_cpu_cores": 2, "max_memory_gb": 16.0},
    "frontier": {
        **_LISTENING,
        "calibrated_threshold": 0.03,
        "continuation": 6,
        "parallel_prefill": True,
        "cloud_seed_tokens": 4,
    },
    "frontier-light": {
        **_LISTENING,
        "calibrated_threshold": 0.04,
        "parallel_prefill": True,
        "cloud_seed_tokens": 4,
    },
}
"""The run guide's five, then the project's own: near the cloud's quality in two thirds of the edge's
time, and in less of it for half the cloud. See reports/frontier.md."""
