"""A comparison as GitHub-flavoured markdown, for a pull request or a paper's draft."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tabulate import tabulate

from edgecloud.report.comparison import Group, clock_name, groups
from edgecloud.report.notices import group_name, notices
from edgecloud.report.paired import EQUAL
from edgecloud.report.summary import headline, headlines, summarize
from edgecloud.report.texts import Texts, UiLanguage
from edgecloud.results.result import Result
from edgecloud.results.statistics import Interval

__all__ = ["to_markdown"]


def to_markdown(results: Sequence[Result], *, language: UiLanguage = "en") -> str:
    """Summary, headline table, paired differences, all metrics (folded) and warnings, by group."""
    texts = Texts(language)
    parts = [f"# {_plain(texts('title'))}"]
    for group in groups(results):
        parts += _group(group, texts)
    return "\n\n".join(parts) + "\n"


def _group(group: Group, texts: Texts) -> list[str]:
    arms = [_plain(texts.arm(arm)) for arm in group.arms]
    found = [f"## {_plain(group_name(group, texts))}", _paragraphs(group, texts)]
    rows = [
        [texts.label(label), *(_interval(headline(r, name), form) for r in group.arms.values())]
        for label, name, form, _ in headlines(group)
    ]
    if len(group.clocks()) > 1:
        rows.insert(
            0,
            [
                texts.label("clock"),
                *(_plain(texts.clock(clock_name(r))) for r in group.arms.values()),
            ],
        )
    found.append(_table([texts("metric"), *arms], rows))
    columns, paired = group.paired()
    if paired:
        found.append(f"### {texts('paired')}")
        cells = [
            [texts.label(label), *(_plain(texts.arm(name)) for name in names)]
            for label, names in group.reference_rows()
        ]
        cells += [
            [texts.label(label), *(_paired(cell, label, texts) for cell in row)]
            for label, row in paired
        ]
        found.append(_table([texts("metric"), *(_plain(texts.arm(c)) for c in columns)], cells))
    found.append(_folded(texts("all_metrics"), _all(group, arms, texts)))
    if said := notices(group, texts):
        found += [f"### {texts('warnings')}", _bullets(said)]
    return found


def _paragraphs(group: Group, texts: Texts) -> str:
    return "\n\n".join(map(_plain, summarize(group, texts).paragraphs(texts)))


def _paired(cell: Interval | None, label: str, texts: Texts) -> str:
    if cell is not None and label == EQUAL and cell.estimate == 1:
        return texts("identical_cell")
    return _interval(cell, ".3f")


def _all(group: Group, arms: Sequence[str], texts: Texts) -> str:
    rows: list[list[str]] = []
    for block in group.blocks():
        rows.append([f"**{texts.label(block.heading)}**", *[""] * len(arms)])
        for row in block.rows:
            cells = [_plain(texts.label(cell.text)) or "–" for cell in row.cells]
            rows.append([texts.label(row.label), *cells])
    return _table([texts("metric"), *arms], rows)


def _interval(cell: Interval | None, form: str) -> str:
    if cell is None:
        return ""
    if cell.estimate is None:
        return "–"
    text = format(cell.estimate, form)
    if cell.low is None or cell.high is None:
        return text
    return f"{text} [{format(cell.low, form)}, {format(cell.high, form)}]"


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    align = ["left", *["right"] * (len(headers) - 1)]
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True, colalign=align)


def _bullets(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {_plain(sentence)}" for sentence in sentences)


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"


def _plain(text: str) -> str:
    """Text that markdown takes as it is: names of runs may hold anything."""
    for mark in ("\\", "`", "*", "_", "<", "|", "["):
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
