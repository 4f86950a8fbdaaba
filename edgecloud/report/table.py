"""The series side by side, as text: one table for each language and set of samples."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

from edgecloud.report.comparison import Cell, Group, groups
from edgecloud.report.loading import load_results, select_this_run
from edgecloud.report.paired import EQUAL
from edgecloud.results.result import Result
from edgecloud.results.statistics import Interval

__all__ = ["load_results", "select_this_run", "side_by_side"]


class _Footnotes:
    """Numbered reasons; the same reason has one number."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def mark(self, reason: str) -> str:
        return f"[{self._numbers.setdefault(reason, len(self._numbers) + 1)}]"

    def lines(self) -> list[str]:
        return [f"[{number}] {reason}" for reason, number in self._numbers.items()]


def side_by_side(results: Sequence[Result]) -> str:
    """One table for each language, prompt and data set: edge, speculative by acceptance, cloud.

    A value that is not defined is ``–`` with the number of its reason below. Where series share
    samples, a second table holds paired differences with their 95% bootstrap intervals.
    """
    return "\n\n".join(_group(group) for group in groups(results))


def _group(group: Group) -> str:
    columns = list(group.arms)
    notes = _Footnotes()
    rows: list[list[str]] = []
    for block in group.blocks():
        rows.append([block.heading.upper(), *[""] * len(columns)])
        rows += [[row.label, *(_cell(cell, notes) for cell in row.cells)] for row in block.rows]
    title = f"{group.language.capitalize()}, {group.prompt_type} prompt, {group.data}"
    limits = [
        f"limits in force ({', '.join(names)}): {text}" for text, names in group.limits().items()
    ]
    parts = [title, _tabulate(["", *columns], rows), *notes.lines(), *limits]
    paired = _paired(group)
    return "\n".join([*parts, *(["", paired] if paired else [])])


def _cell(cell: Cell, notes: _Footnotes) -> str:
    mark = "" if cell.note is None else notes.mark(cell.note)
    return " ".join(part for part in (cell.text or "–", mark) if part)


def _paired(group: Group) -> str:
    """The table of paired comparisons; empty unless there is one edge and something beside it."""
    columns, paired = group.paired()
    if not paired:
        return ""
    notes = _Footnotes()
    rows = [[label, *(_interval(cell, label, notes) for cell in cells)] for label, cells in paired]
    rows = [[label, *names] for label, names in group.reference_rows()] + rows
    title = "Paired on the same samples, with 95% bootstrap intervals"
    return "\n".join([title, _tabulate(["", *columns], rows), *notes.lines()])


def _interval(cell: Interval | None, label: str, notes: _Footnotes) -> str:
    if cell is None:
        return ""
    if label == EQUAL and cell.estimate == 1:
        return f"identical (n = {cell.n})"
    if cell.estimate is None:
        return "– " + notes.mark(cell.reason or "not defined")
    if cell.low is None or cell.high is None:
        return f"{cell.estimate:.3f} " + notes.mark(cell.reason or "no interval")
    return f"{cell.estimate:.3f} [{cell.low:.3f}, {cell.high:.3f}]"


def _tabulate(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    align = ["left", *["right"] * (len(headers) - 1)]
    return tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True, colalign=align)
