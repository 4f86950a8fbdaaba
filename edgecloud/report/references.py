"""For each series of a group, the runs of the edge and the cloud alone that it is compared with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from edgecloud.results.comparable import Side, described, mismatches
from edgecloud.results.result import Result

__all__ = ["Reference", "reference"]


@dataclass(frozen=True, slots=True)
class Reference:
    """``name`` is the series to compare with; ``None`` where there is none, for ``reason``."""

    name: str | None
    reason: str | None = None


def reference(arms: Mapping[str, Result], arm: str, side: Side) -> Reference:
    """The run of ``side`` alone that ``arm`` may be compared with (:mod:`edgecloud.results.comparable`).

    Of several, one of the same hardware profile comes first, then one of the same run, then the one started next to it.
    A series that is itself of ``side`` alone is its own reference.
    """
    own = arms[arm]
    if own.mode == side:
        return Reference(arm)
    found: list[tuple[tuple[Any, ...], str, dict[str, tuple[str, str]]]] = []
    for position, (name, result) in enumerate(arms.items()):
        if result.mode == side:
            differing = mismatches(own, result, side)
            rank = (
                len(differing),
                not _same_profile(own, result),
                not _same_run(own, result),
                _apart_s(own, result),
                position,
            )
            found.append((rank, name, differing))
    if not found:
        return Reference(None, f"there is no run of the {side} alone")
    _, name, differing = min(found, key=lambda one: one[0])
    if differing:
        return Reference(None, f"not comparable with {name}: {described(differing)}")
    return Reference(name)


def _same_profile(one: Result, other: Result) -> bool:
    return one.experiment_config.hardware_profile == other.experiment_config.hardware_profile


def _same_run(one: Result, other: Result) -> bool:
    return one.run.run_id is not None and one.run.run_id == other.run.run_id


def _apart_s(one: Result, other: Result) -> float:
    """Seconds between the starts of two runs; infinite where they are not known."""
    started = [_started(result) for result in (one, other)]
    first, second = started
    return math.inf if first is None or second is None else abs(first - second)


def _started(result: Result) -> float | None:
    try:
        return datetime.fromisoformat(str(result.run.started_at)).timestamp()
    except ValueError:
        return None
