"""What a reader of a run should know of its preset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgecloud.edge.messages import Mode
from edgecloud.settings.config import Config
from edgecloud.settings.presets import FITTED, PRESETS, TUNE, preset_content

__all__ = ["preset_notes"]


def preset_notes(mode: Mode, config: Config, models: Mapping[str, Any]) -> list[str]:
    """A sentence where the preset of a run was chosen for another pair than its ``models`` (facts by side) and how to
    get one for these; none elsewhere.

    Raises:
        ConfigError: the preset is a file that cannot be read any more.
    """
    preset = config.preset
    if mode != "spec" or preset is None:
        return []
    if preset in PRESETS:
        own = config.models.edge or config.models.cloud
        if preset not in FITTED or not own:
            return []
        return [
            f"the preset {preset} was chosen for the embedded pair, with its gate; `{TUNE}` with these models "
            "chooses one for them (docs/tuning.md)"
        ]
    tuned_on = preset_content(preset).get("tuned_on")
    before = tuned_on.get("models") if isinstance(tuned_on, Mapping) else None
    if not isinstance(before, Mapping):
        return []
    others = [
        side
        for side, found in models.items()
        if found and (before.get(side) or {}).get("sha256") != found.get("sha256")
    ]
    if not others:
        return []
    return [
        f"the preset {preset} was chosen with other weights of the {' and the '.join(others)}: what it expects does "
        f"not hold for these; `{TUNE}` with these models chooses one for them (docs/tuning.md)"
    ]
