"""Paired differences of two runs on the samples that both completed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from math import inf

from edgecloud.quality.metric import Value, values
from edgecloud.report.references import Reference
from edgecloud.results.comparable import Side
from edgecloud.results.result import Result
from edgecloud.results.statistics import Interval, gap_closed, mean_difference, median_log_ratio

__all__ = ["EQUAL", "is_known", "paired_rows", "qualities"]

Arms = Mapping[str, Result]
Column = Callable[[str, str], Mapping[str, float]]
"""A quantity of each sample of a series, by the series' and the quantity's names."""
Row = tuple[str, list[Interval | None]]
References = Mapping[Side, Mapping[str, Reference]]

EQUAL = "captions equal to the cloud's"
"""The row whose value is 1 where all captions are identical."""


def qualities(arms: Arms) -> dict[str, str]:
    """By name the label of each score that arms are compared by, sample by sample, headlines in their order first; those
    that need the truth only where an arm has it."""
    found = [value for value in values().values() if value.paired]
    found.sort(key=lambda value: inf if value.headline is None else value.headline)
    return {value.name: value.label() for value in found if is_known(value, arms.values())}


def is_known(value: Value, results: Iterable[Result]) -> bool:
    """False for a score that needs a truth of which none of ``results`` knows anything."""
    return not value.of_truth or any(result.per_sample(value.name) for result in results)


def paired_rows(arms: Arms, columns: Sequence[str], references: References) -> list[Row]:
    """Rows of intervals, one for each of ``columns``; ``None`` where a series meets itself.

    Differences of quality to the edge and to the cloud, the share of the gap between them that an
    series closes, and the factors of total time over the edge's and the cloud's. ``references`` has what each column is
    compared with, by side; where that is nothing, the interval has the reason.
    """
    rows: list[Row] = []

    @cache
    def column(arm: str, name: str) -> Mapping[str, float]:
        return arms[arm].per_sample(name)

    def row(label: str, sides: Sequence[Side], measure: Callable[..., Interval | None]) -> None:
        """``measure`` is given a series and what it is compared with, for each of ``sides``."""
        if all(side in references for side in sides):
            cells = [_compared(arm, sides, references, measure) for arm in columns]
            rows.append((label, cells))

    for name, label in qualities(arms).items():
        difference, gap = partial(_difference, column, name), partial(_gap, column, name)
        row(f"{label} minus edge", ("edge",), difference)
        row(f"{label} minus cloud", ("cloud",), difference)
        row(f"{label} gap closed", ("edge", "cloud"), gap)
    row(EQUAL, ("cloud",), partial(_equal, arms))
    row("total time over edge (factor)", ("edge",), partial(_factor, column))
    row("total time over cloud (factor)", ("cloud",), partial(_factor, column))
    return rows


def _compared(
    arm: str,
    sides: Sequence[Side],
    references: References,
    measure: Callable[..., Interval | None],
) -> Interval | None:
    found = [references[side][arm] for side in sides]
    if arm in (reference.name for reference in found):
        return None
    missing = [reference.reason for reference in found if reference.name is None]
    if missing:
        return Interval(None, None, None, 0, reason=missing[0])
    return measure(arm, *(reference.name for reference in found))


def _difference(column: Column, name: str, arm: str, baseline: str) -> Interval:
    values, others = _shared(column, name, arm, baseline)
    return mean_difference(values, others)


def _gap(column: Column, name: str, arm: str, edge: str, cloud: str) -> Interval:
    first, middle, last = _shared(column, name, edge, arm, cloud)
    return gap_closed(first, middle, last)


def _equal(arms: Arms, arm: str, cloud: str) -> Interval:
    """The share of captions that are the cloud's own, token for token."""
    own, other = (
        {sample.file_id: sample.tokens for sample in arms[name].completed} for name in (arm, cloud)
    )
    equal = [float(tokens == other[file_id]) for file_id, tokens in own.items() if file_id in other]
    return mean_difference(equal, [0.0] * len(equal))


def _factor(column: Column, arm: str, alone: str) -> Interval:
    values, others = _shared(column, "total_time", arm, alone)
    found = median_log_ratio(values, others)
    low, high = (None if end is None else math.exp(end) for end in (found.low, found.high))
    estimate = None if found.estimate is None else math.exp(found.estimate)
    return Interval(estimate, low, high, found.n, found.level, found.reason)


def _shared(column: Column, name: str, *arms: str) -> list[list[float]]:
    """The values of one quantity in each of ``arms``, over the samples for which all have it."""
    columns = [column(arm, name) for arm in arms]
    ids = [file_id for file_id in columns[0] if all(file_id in column for column in columns)]
    return [[column[file_id] for file_id in ids] for column in columns]
