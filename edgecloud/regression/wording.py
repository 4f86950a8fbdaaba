"""A report in words: for a terminal, as markdown, as GitHub's annotations, as JUnit XML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from edgecloud.regression.model import Check, Report

__all__ = ["error_annotation", "github_annotations", "junit", "markdown", "text"]

_COLUMNS = ("benchmark", "what", "baseline", "new", "change", "interval", "n")
_CONDITIONS = ("load", "drift")
"""Columns of measured times alone: load average before each run, second half over first half."""
_REASONS = ("benchmark", "what", "verdict", "why")
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def text(report: Report) -> str:
    """Tables for a terminal: all rows, then what deserves a note, then why it failed."""
    parts = [f"baseline: {report.baseline}   new: {report.new}   policy: {report.policy}"]
    rows, columns = _rows(report)
    if rows:
        parts.append(_table(rows, columns, "simple"))
    notes = _reasons(_notes(report))
    if notes:
        parts.append("Notes\n" + _table(notes, _REASONS, "simple"))
    if report.failures:
        parts.append("Reasons\n" + _table(_reasons(report.failures), _REASONS, "simple"))
    return "\n\n".join([*parts, _headline(report)])


def markdown(report: Report) -> str:
    """The same for a job summary or a pull request: what failed first, all rows folded."""
    rows, columns = _rows(report)
    parts = [f"### edgecloud gate: {_headline(report)}"]
    if report.failures:
        parts.append(_table(_reasons(report.failures), _REASONS, "github"))
    notes = _reasons(_notes(report))
    if notes:
        parts.append("Notes\n\n" + _table(notes, _REASONS, "github"))
    if rows:
        table = _table(rows, columns, "github")
        parts.append(f"<details><summary>all rows</summary>\n\n{table}\n\n</details>")
    parts.append(f"baseline `{report.baseline}`, new `{report.new}`, policy `{report.policy}`")
    return "\n\n".join(parts) + "\n"


def github_annotations(report: Report) -> str:
    """GitHub's workflow commands: an error a reason, a warning an undecided row, a notice a note."""
    lines = [_annotation("error", check) for check in report.failures]
    lines += [
        _annotation("warning" if check.verdict == "undecided" else "notice", check)
        for check in _notes(report)
    ]
    return "\n".join(lines)


def error_annotation(message: str, file: str) -> str:
    """The annotation of a comparison that could not be made."""
    return f"::error file={_property(file)},title=edgecloud gate::{_escaped(message)}"


def junit(report: Report) -> str:
    """One test case a check; a note goes into the case's output, an undecided one is skipped."""
    from xml.etree import ElementTree  # for this form alone

    checks = report.checks
    skipped = [check for check in report.undecided if not check.fails]
    suite = ElementTree.Element(
        "testsuite",
        name="edgecloud gate",
        tests=str(len(checks)),
        failures=str(len(report.failures)),
        errors="0",
        skipped=str(len(skipped)),
    )
    for check in checks:
        case = ElementTree.SubElement(
            suite, "testcase", classname=_xml(check.benchmark), name=_xml(check.what or "benchmark")
        )
        words = _xml(_sentence(check))
        if check.fails:
            ElementTree.SubElement(case, "failure", type=check.verdict, message=words).text = words
        elif check.verdict == "undecided":
            ElementTree.SubElement(case, "skipped", message=words)
        else:
            ElementTree.SubElement(case, "system-out").text = words
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=False)


def _headline(report: Report) -> str:
    rows = sum(check.n is not None for check in report.checks)
    count = len(report.failures)
    verdict = f"FAILED for {count} reason{'' if count == 1 else 's'}" if count else "passed"
    parts = [verdict, f"{rows} row{'' if rows == 1 else 's'} compared"]
    if report.undecided:
        rounds = [check.more for check in report.undecided if check.more is not None]
        most = f"; about {max(rounds)} more rounds on each side would decide" if rounds else ""
        some = "" if len(rounds) == len(report.undecided) else f" {len(rounds)} of them"
        parts.append(f"{len(report.undecided)} UNDECIDED{most}{some if rounds else ''}")
    return ", ".join(parts)


def _notes(report: Report) -> list[Check]:
    told = (check for check in report.checks if not check.fails)
    return [check for check in told if check.verdict in ("note", "undecided")]


def _rows(report: Report) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """The rows of the table, and its columns: those that no row has anything in are left out."""
    checks = [check for check in report.checks if check.n is not None]
    told = [name for name in _CONDITIONS if any(getattr(check, name) for check in checks)]
    columns = (*_COLUMNS, *told, "verdict")
    return [_row(check, told) for check in checks], columns


def _row(check: Check, conditions: Sequence[str]) -> tuple[str, ...]:
    verdict = f"{check.verdict} ({check.message})" if check.message == "noise" else check.verdict
    return (
        check.benchmark,
        check.what,
        _number(check.baseline),
        _number(check.new),
        check.change,
        check.interval,
        "" if check.n is None else str(check.n),
        *(getattr(check, name) for name in conditions),
        verdict,
    )


def _reasons(checks: Iterable[Check]) -> list[tuple[str, ...]]:
    return [(check.benchmark, check.what, check.verdict, check.message) for check in checks]


def _table(rows: Sequence[Sequence[str]], columns: Sequence[str], form: str) -> str:
    """As tabulate lays texts out, whose import takes a fifth of a verdict's time."""
    bar = form == "github"
    escaped = "\\|" if bar else "|"
    lines = [[" ".join(cell.split()).replace("|", escaped) for cell in row] for row in rows]
    widths = [
        max(len(name) + 2, *(len(line[place]) for line in lines))
        for place, name in enumerate(columns)
    ]

    def told(cells: Sequence[str]) -> str:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        return f"| {' | '.join(padded)} |" if bar else "  ".join(padded).rstrip()

    rule = [f"-{'-' * width}-" if bar else "-" * width for width in widths]
    between = f"|{'|'.join(rule)}|" if bar else "  ".join(rule)
    return "\n".join([told(columns), between, *map(told, lines)])


def _sentence(check: Check) -> str:
    sides = ""
    if check.baseline is not None and check.new is not None:
        sides = f"{_number(check.baseline)} → {_number(check.new)}"
    conditions = [f"{name} {told}" for name in _CONDITIONS if (told := getattr(check, name))]
    parts = (check.verdict, check.message, sides, check.change, check.interval, *conditions)
    return ", ".join(part for part in parts if part)


def _annotation(kind: str, check: Check) -> str:
    title = _property(f"{check.benchmark} {check.what}".strip())
    file = "" if check.source is None else f"file={_property(str(check.source))},"
    return f"::{kind} {file}title={title}::{_escaped(_sentence(check))}"


def _escaped(value: str) -> str:
    return value.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(value: str) -> str:
    return _escaped(value).replace(":", "%3A").replace(",", "%2C")


def _xml(value: str) -> str:
    """Without the characters that XML cannot hold."""
    return _NOT_XML.sub("�", value)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
