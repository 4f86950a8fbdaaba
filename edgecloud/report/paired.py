"""What one arm gains over another on the samples that both completed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from edgecloud.measure.statistics import Interval, gap_closed, mean_difference, median_log_ratio

__all__ = ["paired_rows"]

Arms = Mapping[str, Mapping[str, Any]]
Row = tuple[str, list[Interval | None]]

_QUALITIES = (("cider", "CIDEr"), ("emotion_accuracy", "emotion accuracy"))


def paired_rows(arms: Arms, columns: Sequence[str], *, edge: str, cloud: str | None) -> list[Row]:
    """Rows of intervals, one for each of ``columns``; ``None`` where an arm meets itself.

    Differences of quality to the edge and to the cloud, the share of the gap between them that an
    arm closes, and the factor of total time over the edge. ``edge`` and ``cloud`` name their arms.
    """
    rows: list[Row] = []
    for name, label in _QUALITIES:
        baselines = (("edge", edge), ("cloud", cloud))
        rows += [
            (f"{label} minus {side}", [_difference(arms, c, baseline, name) for c in columns])
            for side, baseline in baselines
            if baseline is not None
        ]
        if cloud is not None:
            cells = [_gap(arms, edge, column, cloud, name) for column in columns]
            rows.append((f"{label} gap closed", cells))
    if cloud is not None:
        rows.append(("captions equal to the cloud's", [_equal(arms, c, cloud) for c in columns]))
    rows.append(("total time over edge (factor)", [_factor(arms, c, edge) for c in columns]))
    return rows


def _difference(arms: Arms, arm: str, baseline: str, name: str) -> Interval | None:
    if arm == baseline:
        return None
    values, others = _shared(name, arms[arm], arms[baseline])
    return mean_difference(values, others)


def _gap(arms: Arms, edge: str, arm: str, cloud: str, name: str) -> Interval | None:
    if arm in (edge, cloud):
        return None
    first, middle, last = _shared(name, arms[edge], arms[arm], arms[cloud])
    return gap_closed(first, middle, last)


def _equal(arms: Arms, arm: str, cloud: str) -> Interval | None:
    """The share of captions that are the cloud's own, token for token."""
    if arm == cloud:
        return None
    own, other = (
        {e["file_id"]: e["tokens"] for e in arms[name]["detailed_results"] if e["status"] == "ok"}
        for name in (arm, cloud)
    )
    equal = [float(tokens == other[file_id]) for file_id, tokens in own.items() if file_id in other]
    return mean_difference(equal, [0.0] * len(equal))


def _factor(arms: Arms, arm: str, edge: str) -> Interval | None:
    if arm == edge:
        return None
    clocks = {_timing(arms[name]) for name in (arm, edge)}
    if len(clocks) > 1:
        return Interval(None, None, None, 0, reason="the arms were timed by different clocks")
    values, others = _shared("total_time", arms[arm], arms[edge])
    found = median_log_ratio(values, others)
    low, high = (None if end is None else math.exp(end) for end in (found.low, found.high))
    estimate = None if found.estimate is None else math.exp(found.estimate)
    return Interval(estimate, low, high, found.n, found.level, found.reason)


def _timing(result: Mapping[str, Any]) -> tuple[str, str]:
    config = result["experiment_config"]
    return config["clock"], config["hardware_profile"] if config["clock"] == "modelled" else ""


def _shared(name: str, *results: Mapping[str, Any]) -> list[list[float]]:
    """The values of one quantity in each result, over the samples for which all have it."""
    columns = [_values(result, name) for result in results]
    ids = [file_id for file_id in columns[0] if all(file_id in column for column in columns)]
    return [[column[file_id] for file_id in ids] for column in columns]


def _values(result: Mapping[str, Any], name: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for entry in result["detailed_results"]:
        holder = entry if name in entry else entry["latency_metrics"] or {}
        if holder.get(name) is not None:
            found[entry["file_id"]] = holder[name]
    return found
