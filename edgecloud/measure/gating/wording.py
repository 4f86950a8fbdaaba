"""A report in words: for a terminal, as markdown, as GitHub's annotations, as JUnit XML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from xml.etree import ElementTree

from tabulate import tabulate

from edgecloud.measure.gating.model import Check, Report

__all__ = ["error_annotation", "github_annotations", "junit", "markdown", "text"]

_COLUMNS = ("benchmark", "what", "baseline", "new", "change", "interval", "n", "verdict")
_REASONS = ("benchmark", "what", "verdict", "why")
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def text(report: Report) -> str:
    """Tables for a terminal: all rows, then what deserves a note, then why it failed."""
    parts = [f"baseline: {report.baseline}   new: {report.new}   policy: {report.policy}"]
    rows = [_row(check) for check in report.checks if check.n is not None]
    if rows:
        parts.append(_table(rows, _COLUMNS, "simple"))
    notes = _reasons(_notes(report))
    if notes:
        parts.append("Notes\n" + _table(notes, _REASONS, "simple"))
    if report.failures:
        parts.append("Reasons\n" + _table(_reasons(report.failures), _REASONS, "simple"))
    return "\n\n".join([*parts, _headline(report)])


def markdown(report: Report) -> str:
    """The same for a job summary or a pull request: what failed first, all rows folded."""
    rows = [_row(check) for check in report.checks if check.n is not None]
    parts = [f"### edgecloud gate: {_headline(report)}"]
    if report.failures:
        parts.append(_table(_reasons(report.failures), _REASONS, "github"))
    notes = _reasons(_notes(report))
    if notes:
        parts.append("Notes\n\n" + _table(notes, _REASONS, "github"))
    if rows:
        table = _table(rows, _COLUMNS, "github")
        parts.append(f"<details><summary>all rows</summary>\n\n{table}\n\n</details>")
    parts.append(f"baseline `{report.baseline}`, new `{report.new}`, policy `{report.policy}`")
    return "\n\n".join(parts) + "\n"


def github_annotations(report: Report) -> str:
    """GitHub's workflow commands: an error a reason, a notice a note."""
    lines = [_annotation("error", check) for check in report.failures]
    lines += [_annotation("notice", check) for check in _notes(report)]
    return "\n".join(lines)


def error_annotation(message: str, file: str) -> str:
    """The annotation of a comparison that could not be made."""
    return f"::error file={_property(file)},title=edgecloud gate::{_escaped(message)}"


def junit(report: Report) -> str:
    """One test case a check; a note goes into the case's output, an undecided one is skipped."""
    checks = report.checks
    skipped = [check for check in checks if check.verdict == "undecided"]
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
    if report.passed:
        return f"passed, {rows} rows compared"
    count = len(report.failures)
    return f"FAILED for {count} reason{'' if count == 1 else 's'}, {rows} rows compared"


def _notes(report: Report) -> list[Check]:
    return [check for check in report.checks if check.verdict in ("note", "undecided")]


def _row(check: Check) -> tuple[str, ...]:
    verdict = f"{check.verdict} ({check.message})" if check.message == "noise" else check.verdict
    return (
        check.benchmark,
        check.what,
        _number(check.baseline),
        _number(check.new),
        check.change,
        check.interval,
        "" if check.n is None else str(check.n),
        verdict,
    )


def _reasons(checks: Iterable[Check]) -> list[tuple[str, ...]]:
    return [(check.benchmark, check.what, check.verdict, check.message) for check in checks]


def _table(rows: Sequence[Sequence[str]], columns: Sequence[str], form: str) -> str:
    if form == "github":
        rows = [[_cell(value) for value in row] for row in rows]
    return tabulate(rows, headers=columns, tablefmt=form, disable_numparse=True)


def _cell(value: str) -> str:
    return value.replace("|", "\\|").replace("\n", " ")


def _sentence(check: Check) -> str:
    sides = ""
    if check.baseline is not None and check.new is not None:
        sides = f"{_number(check.baseline)} → {_number(check.new)}"
    parts = (check.verdict, check.message, sides, check.change, check.interval)
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
