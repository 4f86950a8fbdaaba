"""The page's tables: what the template shows, and the same as CSV in a link."""

from __future__ import annotations

import base64
import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from io import StringIO

from edgecloud.report import csv as flat
from edgecloud.report.comparison import Group, clock_name
from edgecloud.report.html.theme import Look, looks
from edgecloud.report.notices import ESSENTIAL, environment
from edgecloud.report.paired import EQUAL
from edgecloud.report.summary import headline, headlines
from edgecloud.report.texts import Texts
from edgecloud.results.statistics import Interval

__all__ = [
    "Cell",
    "Row",
    "Table",
    "environment_table",
    "headline_table",
    "metric_table",
    "paired_table",
]

_MINUS = str.maketrans("-", "−")


@dataclass(frozen=True, slots=True)
class Column:
    """The head of a column: a run's ``name`` and its ``look``; that of the cloud that series are compared with stays
    in sight (``pinned``)."""

    name: str
    look: Look
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """``kind`` is a class of the style: ``noise`` (no difference told), ``none`` (no value), ``text``."""

    text: str
    interval: str = ""
    mark: str = ""
    kind: str = ""
    span: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table; ``heading`` has no cells, ``arrow`` says which direction is better."""

    label: str
    cells: tuple[Cell, ...] = ()
    heading: bool = False
    arrow: str = ""
    hint: str = ""


@dataclass(slots=True)
class Table:
    """``href`` is the table as CSV; ``notes`` are numbered from 1, as cells mark them."""

    name: str
    title: str
    corner: str
    columns: list[Column]
    href: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def mark(self, note: str) -> str:
        """The number of ``note``, which is added where it is new."""
        if note not in self.notes:
            self.notes.append(note)
        return str(self.notes.index(note) + 1)


def headline_table(group: Group, texts: Texts, *, name: str) -> Table:
    """The measures that decide, with their intervals."""
    table = _table(
        group, texts, group.arms, name=name, csv_text=flat.write(flat.headline_lines(group))
    )
    table.title = texts("comparison_caption", level="95%")
    if len(group.clocks()) > 1:
        cells = [Cell(texts.clock(clock_name(r)), kind="text") for r in group.arms.values()]
        table.rows.append(Row(texts.label("clock"), tuple(cells)))
    for label, key, form, better in headlines(group):
        cells = []
        for result in group.arms.values():
            interval = headline(result, key)
            if interval.estimate is None:
                note = result.metrics.notes.get(key) or interval.reason or ""
                cells.append(Cell("–", mark=table.mark(texts.note(note)), kind="none"))
            else:
                cells.append(Cell(_form(interval.estimate, form), _range(interval, form)))
        hint = texts(f"better_{better}") if better else ""
        arrow = {"up": "↑", "down": "↓"}.get(better, "")
        table.rows.append(Row(texts.label(label), tuple(cells), arrow=arrow, hint=hint))
    return table


def paired_table(group: Group, texts: Texts, *, name: str) -> Table | None:
    """Paired comparisons; ``None`` where nothing is compared."""
    columns, rows = group.paired()
    if not rows:
        return None
    table = _table(group, texts, columns, name=name, csv_text=flat.write(flat.paired_lines(group)))
    stop = ". " if texts.language == "en" else "。"
    table.title = texts("paired") + stop + texts("paired_caption", level="95%")
    for label, names in group.reference_rows():
        named = tuple(Cell(texts.arm(name), kind="text") for name in names)
        table.rows.append(Row(texts.label(label), named))
    for label, cells in rows:
        shown = tuple(_paired_cell(cell, label, table, texts) for cell in cells)
        table.rows.append(Row(texts.label(label), shown))
    return table


def metric_table(group: Group, texts: Texts, *, name: str) -> Table:
    """Every metric of the text table."""
    table = _table(
        group, texts, group.arms, name=name, csv_text=flat.write(flat.metric_lines(group))
    )
    table.title = texts("all_metrics")
    for block in group.blocks():
        table.rows.append(Row(texts.label(block.heading), heading=True))
        for row in block.rows:
            cells = tuple(
                Cell(
                    texts.label(cell.text).translate(_MINUS) if cell.text else "–",
                    mark=table.mark(texts.note(cell.note)) if cell.note else "",
                    kind="" if cell.text else "none",
                )
                for cell in row.cells
            )
            table.rows.append(Row(texts.label(row.label), cells))
    return table


def environment_table(group: Group, texts: Texts, *, name: str, essential: bool = False) -> Table:
    """Facts about the runs, all or the essential ones; one that is the same for all series has one
    cell. The CSV holds all."""
    facts = environment(group)
    lines = [["item", *group.arms], *([item, *values] for item, values in facts)]
    table = _table(group, texts, group.arms, name=name, csv_text=_csv(lines))
    table.title = texts("facts_essential" if essential else "facts_all")
    table.corner = texts("item")
    if essential:
        known = dict(facts)
        facts = [(label, known[item]) for item, label in ESSENTIAL.items() if item in known]
    for item, values in facts:
        shown = [texts.label(value) for value in values]
        if len(set(values)) == 1:
            cells: tuple[Cell, ...] = (Cell(shown[0], kind="text", span=len(values)),)
        else:
            cells = tuple(Cell(value, kind="text") for value in shown)
        table.rows.append(Row(texts.label(item), cells))
    return table


def _paired_cell(cell: Interval | None, label: str, table: Table, texts: Texts) -> Cell:
    if cell is None:
        return Cell("")
    if cell.estimate is None:
        return Cell("–", mark=table.mark(texts.note(cell.reason or "")), kind="none")
    if label == EQUAL and cell.estimate == 1:
        return Cell(texts("identical_cell"))
    form = "+.3f" if " minus " in label else ".3f"
    if cell.low is None or cell.high is None:
        mark = table.mark(texts.note(cell.reason or ""))
        return Cell(_form(cell.estimate, form), mark=mark, kind="noise")
    null = 1.0 if "factor" in label else 0.0
    noise = "equal" not in label and cell.low <= null <= cell.high
    return Cell(_form(cell.estimate, form), _range(cell, form), kind="noise" if noise else "")


def _table(group: Group, texts: Texts, arms: Iterable[str], *, name: str, csv_text: str) -> Table:
    known = looks(list(group.arms), group.specs)
    clouds = [group.reference(arm, "cloud").name for arm in group.specs or group.arms]
    pinned = next((name for name in reversed(clouds) if name is not None), None)
    columns = [Column(texts.arm(arm), known[arm], arm == pinned) for arm in arms]
    # With a byte order mark, so that spreadsheets read Chinese as such.
    content = base64.b64encode(csv_text.encode("utf-8-sig")).decode("ascii")
    href = f"data:text/csv;charset=utf-8;base64,{content}"
    return Table(name, "", texts("metric"), columns, href)


def _csv(lines: Sequence[Sequence[str]]) -> str:
    buffer = StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(lines)
    return buffer.getvalue()


def _form(value: float, form: str) -> str:
    text = format(value, form)
    return text.replace("+0.000", "0.000").replace("-0.000", "0.000").translate(_MINUS)


def _range(interval: Interval, form: str) -> str:
    if interval.low is None or interval.high is None:
        return ""
    return f"{_form(interval.low, form)} … {_form(interval.high, form)}"
