"""Are two benchmarks of the same thing: data, models, settings, scorers, hardware?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgecloud.regression.model import ASPECTS, Benchmark, Check
from edgecloud.regression.tolerances import Policy, score_of
from edgecloud.results.weights import Identity, former_alike

__all__ = ["differences", "other_processor", "other_scorers", "software_differs"]

_MOST_SHOWN = 4
_HEADERS = ".headers_sha256"
_SOFTWARE = ("versions.", "options.")
_FORMER_MODELS = {f"{side}.adapter": "fast" for side in ("edge", "cloud")}
"""Facts about models that results have not always had: there was one way to run them."""


def differences(old: Benchmark, new: Benchmark, policy: Policy) -> list[Check]:
    """One check an aspect that differs; a note where the policy allows it."""
    found: list[Check] = []
    if old.modelled != new.modelled:
        clocks = ("modelled" if side.modelled else "wall" for side in (old, new))
        message = "clock: " + " → ".join(clocks)
        return [Check(new.name, "settings", "different", message, source=new.source)]
    for aspect in ASPECTS:
        before, now = (side.identity.get(aspect, {}) for side in (old, new))
        if aspect == "models":
            before, now, sides = _by_content(before, now)
            found += [_former(new, side) for side in sides]
        changed = _changed(aspect, before, now, old)
        refused = {k: v for k, v in changed.items() if not policy.allows(aspect, k)}
        allowed = {k: v for k, v in changed.items() if k not in refused}
        if refused:
            message = _told(refused)
            found.append(Check(new.name, aspect, "different", message, source=new.source))
        if allowed:
            message = f"allowed: {_told(allowed)}"
            found.append(Check(new.name, aspect, "note", message, source=new.source))
    return found


def _by_content(
    old: Mapping[str, Any], new: Mapping[str, Any]
) -> tuple[Mapping[str, Any], Mapping[str, Any], list[str]]:
    """Models' facts without what former identities say, and the sides that only those compare."""
    plain = [{k: v for k, v in m.items() if not k.endswith(_HEADERS)} for m in (old, new)]
    sides = []
    for side in ("edge", "cloud"):
        key = f"{side}.sha256"
        facts = [Identity(m.get(key), m.get(side + _HEADERS)) for m in (old, new)]
        if former_alike(facts[0], facts[1]):
            sides.append(side)
            for some in plain:
                some.pop(key, None)
    return plain[0], plain[1], sides


def _former(new: Benchmark, side: str) -> Check:
    message = (
        f"{side}: its weights are known by their headers alone on a side; names and shapes are equal, "
        "whether the weights are cannot be told"
    )
    return Check(new.name, "models", "note", message, source=new.source)


def other_scorers(old: Benchmark, new: Benchmark) -> frozenset[str]:
    """The scores that the two sides computed in different ways."""
    before, after = (side.identity.get("scorers", {}) for side in (old, new))
    return frozenset(score_of(key) for key in _changed("scorers", before, after, old))


def other_processor(old: Benchmark, new: Benchmark) -> str:
    """The differences of processors and devices, in words; empty when none is known."""
    return _told(_environment(old, new, software=False))


def software_differs(old: Benchmark, new: Benchmark) -> str:
    """The versions of libraries and options of pytest-benchmark that differ, in words."""
    return _told(_environment(old, new, software=True))


def _environment(old: Benchmark, new: Benchmark, *, software: bool) -> dict[str, tuple[Any, Any]]:
    """Fields that both sides recorded and that differ; a field that one side lacks tells nothing."""
    return {
        key: (value, new.environment[key])
        for key, value in old.environment.items()
        if key.startswith(_SOFTWARE) is software
        and key in new.environment
        and value != new.environment[key]
    }


def _changed(
    aspect: str, old: Mapping[str, Any], new: Mapping[str, Any], benchmark: Benchmark
) -> dict[str, tuple[Any, Any]]:
    keys = list(dict.fromkeys((*old, *new)))
    absent = _absent(aspect) if set(old) != set(new) else {}
    lenient = aspect == "scorers" or (aspect == "hardware" and not benchmark.modelled)
    if lenient and set(old) & set(new):
        keys = [key for key in keys if key in old and key in new]
    sides = {key: (old.get(key, absent.get(key)), new.get(key, absent.get(key))) for key in keys}
    return {key: (before, after) for key, (before, after) in sides.items() if before != after}


def _absent(aspect: str) -> Mapping[str, Any]:
    """What a field was that an older file does not know: as it is by default now."""
    if aspect == "settings":
        # All settings are imported, which files of other projects do not have.
        from edgecloud.settings.config import Config

        return Config().to_json()
    return _FORMER_MODELS if aspect == "models" else {}


def _told(changed: Mapping[str, tuple[Any, Any]]) -> str:
    shown = [f"{key} {_short(a)} → {_short(b)}" for key, (a, b) in changed.items()]
    more = f"; {len(shown) - _MOST_SHOWN} more" if len(shown) > _MOST_SHOWN else ""
    return "; ".join(shown[:_MOST_SHOWN]) + more


def _short(value: Any) -> str:
    """A hash by its beginning, the rest as it is."""
    text = "not known" if value is None else str(value)
    return text if len(text) <= 48 else f"{text[:16]}…"
