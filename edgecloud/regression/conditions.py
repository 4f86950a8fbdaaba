"""Load and drift beside measured times: what else may have made them what they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from edgecloud.regression.model import Benchmark, Check, Series
from edgecloud.results.percentiles import drift

__all__ = ["beside_conditions"]

_DRIFT = 1.1
"""From this on, or below its inverse, one half of a run was measured under other conditions."""


def beside_conditions(
    checks: Iterable[Check], pairs: Iterable[tuple[Benchmark, Benchmark]]
) -> list[Check]:
    """The checks of measured times with load and drift of both sides, and a note for each benchmark
    that was measured on a busy machine, or whose run drifted otherwise than its baseline's."""
    sides = {new.name: (old, new) for old, new in pairs if not new.modelled}
    found: list[Check] = []
    drifted: dict[str, list[str]] = {}
    for check in checks:
        old, new = sides.get(check.benchmark, (None, None))
        if old is None or new is None or check.what not in new.times:
            found.append(check)
            continue
        moved = [_drift(side, check.what) for side in (old, new)]
        found.append(replace(check, load=_both(map(_load, (old, new))), drift=_both(moved)))
        # The few rounds of a micro-benchmark move by more than this by chance.
        if new.samples and moved[1] and not 1 / _DRIFT <= moved[1] / (moved[0] or 1.0) <= _DRIFT:
            drifted.setdefault(check.benchmark, []).append(f"{check.what} {_both(moved)}")
    for name, (old, new) in sides.items():
        told = [*_busy(old, "the baseline"), *_busy(new, "the new run")]
        if name in drifted:
            told.append(f"second half over first: {', '.join(drifted[name])}")
        if told:
            message = f"{'; '.join(told)}: measure again on a quiet machine"
            found.append(Check(name, "conditions", "note", message, source=new.source))
    return found


def _busy(side: Benchmark, whose: str) -> list[str]:
    load, cores = _load(side), side.environment.get("cpu.logical_cores")
    if load is None or not isinstance(cores, int) or load <= cores:
        return []
    return [f"{whose} began beside a load of {load:.1f} on {cores} cores"]


def _load(side: Benchmark) -> float | None:
    """The load average of the last minute before the run began; ``None`` where it was not recorded."""
    found = side.provenance.get("load_average")
    if not isinstance(found, list) or not found or isinstance(found[0], bool):
        return None
    return float(found[0]) if isinstance(found[0], int | float) else None


def _drift(side: Benchmark, what: str) -> float | None:
    series = side.times.get(what)
    if not isinstance(series, Series):
        return None
    return drift(series.values)["second_half_over_first"]


def _both(sides: Iterable[float | None]) -> str:
    told = ["?" if value is None else f"{value:.2f}" for value in sides]
    return "" if set(told) == {"?"} else " → ".join(told)
