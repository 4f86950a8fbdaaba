"""Which registered parts a configuration uses, and which settings count beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from edgecloud.errors import ConfigError
from edgecloud.registry import BUILT_IN, Registry
from edgecloud.settings.subjects import OPTIONS

__all__ = ["OWN", "PARTS", "own_numbers", "plugins_in_use", "settings_of", "unused_settings"]

PARTS: dict[str, Registry[Any]] = {
    option.name: option.choices for option in OPTIONS if isinstance(option.choices, Registry)
}
"""Settings that choose a registered part by its name. Speculation alone uses them."""
OWN = {"gate_type": "gate_options", "acceptance": "acceptance_options"}
"""And those that give numbers which the chosen part alone knows."""


def plugins_in_use(mode: str, settings: Mapping[str, Any]) -> list[dict[str, str | None]]:
    """What of ``settings`` (JSON) is brought by plug-ins: kind, name, origin, version and sha256 of each."""
    if mode != "spec":
        return []
    chosen = [registry.part(settings[name]) for name, registry in PARTS.items()]
    return [part.to_json() for part in chosen if part.origin != BUILT_IN]


def own_numbers(choice: str, settings: Mapping[str, Any]) -> dict[str, float]:
    """The numbers that the chosen part alone knows: its defaults, and what the option beside the choice gives
    (``gate_options``, ``acceptance_options``), text such as ``floor=-2,ceiling=0.5``.

    Raises:
        ConfigError: the part knows no such number, or it is none.
    """
    option = OWN[choice]
    part = PARTS[choice].part(settings[choice])
    found = {name: float(number) for name, number in part.own.items()}
    for piece in filter(str.strip, (settings.get(option) or "").split(",")):
        name, _, number = (word.strip() for word in piece.partition("="))
        if name not in found:
            known = f"it has {', '.join(found)}" if found else "it has none"
            raise ConfigError(
                f"{option}: {part.kind} {part.name!r} has no {name!r} of its own; {known}"
            )
        try:
            found[name] = float(number)
        except ValueError:
            found[name] = math.nan
        if not math.isfinite(found[name]):
            raise ConfigError(f"{option}: {name} is {number!r}, which is not a finite number")
    return found


def settings_of(choice: str, name: str) -> set[str]:
    """The settings that the part called ``name`` looks at, ``choice`` being the setting that chooses it: those
    that are declared for it, and those of other parts that it names itself
    (:attr:`edgecloud.registry.Part.options`), which is not known of one that is registered nowhere here."""
    registry = PARTS[choice]
    declared = {o.name for o in OPTIONS if o.chosen_by == choice and name in o.used_by}
    return declared | ({*registry.part(name).options} if name in registry else set())


def unused_settings(mode: str, settings: Mapping[str, Any]) -> set[str]:
    """The settings that do not count in an experiment with ``settings`` (JSON): those of other modes, and those
    of other parts than the chosen ones."""
    chosen = {option.name: option.value_in(settings) for option in OPTIONS if option.name in PARTS}
    looked_at = set().union(*(settings_of(choice, name) for choice, name in chosen.items()))
    return {
        option.name
        for option in OPTIONS
        if mode not in option.modes or (option.used_by and option.name not in looked_at)
    }
