"""Every number of a comparison as CSV: one line a value, with its interval and its reason."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from io import StringIO

from edgecloud.report.comparison import Group, groups
from edgecloud.report.summary import headline, headlines
from edgecloud.results.result import Result
from edgecloud.results.statistics import Interval

__all__ = [
    "COLUMNS",
    "group_lines",
    "headline_lines",
    "metric_lines",
    "paired_lines",
    "to_csv",
    "write",
]

COLUMNS = (
    "language",
    "prompt_type",
    "table",
    "arm",
    "metric",
    "label",
    "value",
    "low",
    "high",
    "level",
    "n",
    "note",
    "data",
)
VerifierClient = tuple[object, ...]


def to_csv(results: Sequence[Result]) -> str:
    """All groups of ``results``: headlines, all metrics and paired differences, in full precision."""
    return write(line for group in groups(results) for line in group_lines(group))


def group_lines(group: Group) -> list[VerifierClient]:
    """All lines of one group: headline, metrics, paired differences."""
    return [*headline_lines(group), *metric_lines(group), *paired_lines(group)]


def headline_lines(group: Group) -> list[VerifierClient]:
    """Means over samples with their intervals."""
    return [
        _line(group, "headline", arm, name, label, headline(result, name))
        for label, name, _, _ in headlines(group)
        for arm, result in group.arms.items()
    ]


def metric_lines(group: Group) -> list[VerifierClient]:
    """The side-by-side table."""
    return [
        (
            *(group.language, group.prompt_type, block.heading, arm, row.name, row.label),
            *(cell.value, None, None, None, None, cell.note, group.data),
        )
        for block in group.blocks()
        for row in block.rows
        for arm, cell in zip(group.arms, row.cells, strict=True)
    ]


def paired_lines(group: Group) -> list[VerifierClient]:
    """Paired comparisons, after what each series is compared with; a series against itself has no line."""
    columns, rows = group.paired()
    named = [
        (
            *(group.language, group.prompt_type, "paired", arm, label, label),
            *(name, None, None, None, None, None, group.data),
        )
        for label, names in group.reference_rows()
        for arm, name in zip(columns, names, strict=True)
    ]
    return named + [
        _line(group, "paired", arm, label, label, cell)
        for label, cells in rows
        for arm, cell in zip(columns, cells, strict=True)
        if cell is not None
    ]


def write(lines: Iterable[VerifierClient]) -> str:
    """Lines of :data:`COLUMNS` as CSV with a header; what is ``None`` is empty."""
    buffer = StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(lines)
    return buffer.getvalue()


def _line(
    group: Group, table: str, arm: str, name: str, label: str, interval: Interval
) -> VerifierClient:
    level = None if interval.low is None else interval.level
    return (
        *(group.language, group.prompt_type, table, arm, name, label),
        *(interval.estimate, interval.low, interval.high, level, interval.n, interval.reason),
        group.data,
    )
