"""Presets: several settings by one word, below a flag and above a file; or those of a file that
`edgecloud tune` wrote. Standard library only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgecloud.errors import ConfigError
from edgecloud.textfiles import read_json

__all__ = ["FITTED", "PRESETS", "PRESET_SCHEMA", "TUNE", "preset_content", "preset_settings"]

PRESET_SCHEMA = "edgecloud-preset/1"
TUNE = "edgecloud tune MANIFEST --gap 0.95 -o mine.json"
"""How to get a preset for a pair of one's own; its models are given as everywhere."""

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
FITTED = ("frontier", "frontier-light")
"""Presets whose gate and thresholds are fitted to the embedded pair."""


def preset_settings(preset: str) -> dict[str, Any]:
    """The settings of a preset: one of :data:`PRESETS` by its name, or those of a file of `edgecloud tune`, whose
    calibrated gate, where it chose that, is fitted as the same file says.

    Raises:
        ConfigError: there is no such preset, or the file is none.
    """
    if preset in PRESETS:
        return PRESETS[preset]
    content = preset_content(preset)
    settings: dict[str, Any] = content["settings"]
    if settings.get("gate_type") == "calibrated":
        return {**settings, "calibration": preset}
    return settings


def preset_content(preset: str) -> dict[str, Any]:
    """The content of a preset's file.

    Raises:
        ConfigError: there is no such file, or it is none of `edgecloud tune`.
    """
    if not Path(preset).suffix and not Path(preset).is_file():
        raise ConfigError(
            f"unknown preset {preset!r}; choose one of {', '.join(PRESETS)}, or a file of `edgecloud tune`"
        )
    content = read_json(
        Path(preset), what="preset", error=ConfigError, advice=f"make one with `{TUNE}`"
    )
    settings = content.get("settings") if isinstance(content, dict) else None
    if not isinstance(settings, dict) or content.get("schema") != PRESET_SCHEMA:
        raise ConfigError(f"preset {preset} is no file of `edgecloud tune` ({PRESET_SCHEMA})")
    found: dict[str, Any] = content
    return found
