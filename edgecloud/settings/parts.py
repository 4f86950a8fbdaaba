"""Which registered parts a configuration uses, and which settings those look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgecloud.decoding.acceptance import RULES
from edgecloud.decoding.gates import GATES
from edgecloud.registry import BUILT_IN, Registry

__all__ = ["PARTS", "plugins_in_use", "unused_settings"]

PARTS: dict[str, Registry[Any]] = {"gate_type": GATES, "acceptance": RULES}
"""Settings that choose a registered part by its name. Speculation alone uses them."""


def plugins_in_use(mode: str, settings: Mapping[str, Any]) -> list[dict[str, str | None]]:
    """What of ``settings`` (JSON) is brought by plug-ins: kind, name, origin, version and sha256 of each."""
    if mode != "spec":
        return []
    chosen = [registry.part(settings[name]) for name, registry in PARTS.items()]
    return [part.to_json() for part in chosen if part.origin != BUILT_IN]


def unused_settings(mode: str | None, settings: Mapping[str, Any]) -> set[str]:
    """The settings that gates and acceptance rules look at, and those of ``settings`` (JSON) do not. A part
    that is registered no more, or nowhere but elsewhere, looks at none of the others'."""
    unused: set[str] = set()
    used: set[str] = set()
    for name, registry in PARTS.items():
        for part in registry.parts():
            if mode == "spec" and part.name == settings.get(name):
                used |= {*part.options}
            elif part.origin == BUILT_IN:  # a plug-in brings no settings, and may look at any
                unused |= {*part.options}
    return unused - used
