"""Parts of the site that are written from declarations, and pages of the repository that it takes in.

A page holds ``<!-- site: NAME -->``, where NAME is one of :data:`GENERATED`, or ``<!-- site: page FILE -->``: all of a
file below its title, or ``<!-- site: page FILE ## HEADING -->``: one section of it, without its heading.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import edgecloud
from edgecloud.cli.main import command_line
from edgecloud.quality import METRICS
from edgecloud.quality.metric import Metric, Value
from edgecloud.settings.options import OPTIONS, add_options, add_plugin_option
from edgecloud.settings.pages import HEADINGS, with_tables

__all__ = ["GENERATED", "api", "commands", "metrics", "options", "page", "schema"]

DOCS = Path(__file__).parent
ROOT = DOCS.parent
_MARK = re.compile(r"<!-- site: (\w+)(?: ([\w./-]+))?(?: (#+ .+?))? -->")
_LINK = re.compile(
    r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)"
)
_BETTER = {True: "higher", False: "lower", None: "neither"}


def page(docname: str, text: str) -> str:
    """The text of a page with what it asks for filled in, and links that lead somewhere from the site."""
    here = DOCS / f"{docname}.md"
    folder = here.parent

    def filled(found: re.Match[str]) -> str:
        if found[1] == "page":
            file = ROOT / found[2]
            return _relinked(_section(file.read_text("utf-8"), found[3]), file.parent, folder, here)
        return GENERATED[found[1]]()

    # Links of the page itself first: what is filled in brings its own.
    return _MARK.sub(filled, _relinked(text, folder, folder, here))


def _section(text: str, heading: str | None) -> str:
    """What stands under ``heading``; under the title, where none is given."""
    heading = heading or text.splitlines()[0]
    level = len(heading) - len(heading.lstrip("#"))
    inside: list[str] = []
    found = fenced = False
    for line in text.splitlines():
        fenced ^= line.lstrip().startswith("```")
        if not fenced and re.match(rf"#{{1,{level}}} ", line):
            found = line == heading
            continue
        if found:
            inside.append(line)
    if not inside:
        raise ValueError(f"there is no section {heading!r}")
    return "\n".join(inside)


def _relinked(text: str, folder: Path, to: Path, here: Path | None = None) -> str:
    """Links of a text in ``folder`` as a page in the folder ``to`` needs them: to the page of the site that has the
    file, to the repository where ``project.urls`` of pyproject.toml names one, else to a copy of the file; a folder,
    another page or the page ``here`` itself is named, no more."""

    def link(found: re.Match[str]) -> str:
        mark, text, target, anchor = found[1], found[2], found[3], found[4] or ""
        path = Path(os.path.normpath(folder / target))
        inside = path.relative_to(ROOT).as_posix()
        own = _pages().get(inside)
        if own is None and path.suffix == ".md" and path.is_relative_to(DOCS):
            own = path
        if own is not None and own == here:
            return text
        if own is not None:
            return f"[{text}]({os.path.relpath(own, to)}{anchor})"
        if not mark and not path.is_relative_to(DOCS) and (url := _repository()):
            return f"[{text}]({url}/blob/main/{inside})"
        if path.is_dir() or path.suffix == ".md":
            return text if text.strip("`") == inside else f"{text} (`{inside}`)"
        return f"{mark}[{text}]({os.path.relpath(path, to)})"

    lines, fenced = [], False
    for block in re.split(r"(^ *```.*$)", text, flags=re.MULTILINE):
        if block.lstrip().startswith("```"):
            fenced = not fenced
        lines.append(block if fenced else _LINK.sub(link, block))
    return "".join(lines)


@cache
def _pages() -> dict[str, Path]:
    """Files outside ``docs`` that a page of the site has."""
    found = {"README.md": DOCS / "index.md", "README.zh.md": DOCS / "start.zh.md"}
    found["reports/result.schema.json"] = DOCS / "reference" / "result-schema.md"
    for path in sorted(DOCS.rglob("*.md")):
        for mark in _MARK.finditer(path.read_text("utf-8")):
            if mark[1] == "page":
                found[mark[2]] = path
    return found


@cache
def _repository() -> str | None:
    """The repository's address, where pyproject.toml has one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    urls = {name.lower(): url for name, url in project.get("urls", {}).items()}
    return urls.get("repository") or urls.get("source")


def _table(columns: str, rows: Iterable[Iterable[str]]) -> str:
    """A table of Markdown. ``columns`` are divided by commas."""
    head = columns.split(", ")
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *cells)) + "\n"


def _prose(docstring: str | None) -> str:
    """A docstring as Markdown, without what it raises."""
    text = inspect.cleandoc(docstring or "")
    text = re.split(r"\n*\bRaises\b", text)[0].rstrip()
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?([\w]+)`", r"`\1`", text)
    return text.replace("``", "`")


def metrics() -> str:
    """Every registered metric: what it is, its values, and what the registry says of them."""
    return "\n".join(_metric(METRICS[name]) for name in METRICS)


def _metric(metric: Metric) -> str:
    module = sys.modules[metric.compute.__module__]
    paragraphs = [_prose(module.__doc__), _prose(metric.compute.__doc__)]
    by = ", ".join(metric.libraries) or metric.source or "this package"
    facts = [f"Computed by {by}", f"of {metric.takes}"]
    if len(metric.languages) == 1:
        facts.append(f"{metric.languages[0].capitalize()} alone")
    if metric.needs:
        facts.append("needs " + ", ".join(need.replace("_", " ") for need in metric.needs))
    table = _table(
        "name in results, what it is called, range or unit, better, loss that the gate counts, corpus value",
        map(_value, metric.values),
    )
    return "\n\n".join([f"### {metric.title}", *paragraphs, "; ".join(facts) + ".", table])


def _value(value: Value) -> list[str]:
    of_corpus = "pooled" if value.pooled else "mean" if value.per_sample else "its own"
    return [
        ", ".join(f"`{key}`" for key in dict.fromkeys((value.name, *value.keys))),
        value.label(),
        value.extent(),
        _BETTER[value.higher_is_better],
        "" if value.tolerance is None else f"{value.tolerance:g}",
        of_corpus,
    ]


_SETTINGS = {flag for option in OPTIONS for flag in option.flags} | {"--config", "--preset"}


def commands() -> str:
    """Every command of ``edgecloud`` with its arguments, from its parser."""
    return "\n".join(_command(name, parser, said) for name, parser, said in _parsers())


def _parsers() -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    def below(
        name: str, parser: argparse.ArgumentParser, said: str
    ) -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
        yield name, parser, said
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                told = {choice.dest: choice.help or "" for choice in action._choices_actions}
                for own, inner in action.choices.items():
                    yield from below(f"{name} {own}", inner, told.get(own, ""))

    everything = below("edgecloud", command_line(), "")
    next(everything)
    return everything


def _command(name: str, parser: argparse.ArgumentParser, said: str) -> str:
    everything = {flag for action in parser._actions for flag in action.option_strings}
    settings = everything >= _SETTINGS
    rows = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction | argparse._HelpAction):
            continue
        if settings and _SETTINGS & {*action.option_strings}:
            continue
        if "--plugin" in action.option_strings:
            continue
        words = ", ".join(f"`{flag}`" for flag in action.option_strings)
        takes = action.metavar or ("|".join(map(str, action.choices)) if action.choices else None)
        takes = " ".join(takes) if isinstance(takes, tuple) else takes
        takes = takes or ("" if action.nargs == 0 else action.dest.upper())
        default = action.default if isinstance(action.default, str | int | float) else None
        shown = "" if isinstance(default, bool) or default in (None, "") else f"`{default}`"
        meaning = action.help if action.help != argparse.SUPPRESS else ""
        rows.append([words or f"`{takes}`", f"`{takes}`" if words and takes else "", shown, meaning or ""])  # fmt: skip
    parts = [f"### {name}", f"{(parser.description or said or '').rstrip('.')}."]
    if settings:
        parts.append("Takes every [option](options.md) as well.")
    if rows:
        parts.append(_table("argument, takes, default, meaning", rows))
    return "\n\n".join(parts)


def options() -> str:
    """Every option of experiments, by what it decides, from the declarations."""
    parts = []
    for group, heading in HEADINGS.items():
        names = " ".join(option.name for option in OPTIONS if option.group == group)
        table = with_tables(f"<!-- options en: {names} -->\n<!-- /options -->")
        parts.append(f"## {heading}\n\n{table}\n")
    beside: list[list[str]] = []

    def other(*flags: str, **extra: Any) -> None:
        if extra.get("dest") not in {option.name for option in OPTIONS}:
            beside.append([f"`{flags[0]}`", f"`{extra.get('metavar', '')}`", extra.get("help", "")])

    add_options(other)
    add_plugin_option(other)
    parts.append("## Files and plug-ins\n\n" + _table("option, takes, meaning", beside))
    return "\n".join(parts)


def schema() -> str:
    """Every object of a result file, from its JSON Schema."""
    content = json.loads((ROOT / "reports" / "result.schema.json").read_text("utf-8"))
    parts = []
    for name, its in content["$defs"].items():
        required = set(its.get("required", ()))
        rows = [
            [f"`{field}`", _type(of), "yes" if field in required else ""]
            for field, of in its.get("properties", {}).items()
        ]
        more = its.get("additionalProperties")
        if isinstance(more, dict):
            rows.append(["any other", _type(more), ""])
        parts += [f"### {name}", _prose(its.get("description")), _table("field, type, required", rows)]  # fmt: skip
    return "\n\n".join(parts)


def _type(of: dict[str, Any]) -> str:
    """A type of the schema in words."""
    if "$ref" in of:
        name = of["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in of:
        return " or ".join(_type(one) for one in of["anyOf"])
    if "enum" in of:
        return ", ".join(f"`{value}`" for value in of["enum"])
    if of.get("type") == "array":
        return f"list of {_type(of['items'])}" if of.get("items") else "list"
    if of.get("type") == "object" and isinstance(of.get("additionalProperties"), dict):
        return f"object of {_type(of['additionalProperties'])}"
    bounds = [of.get("minimum"), of.get("maximum")]
    ends = ["" if end is None or abs(end) >= 1e12 else f"{end:g}" for end in bounds]
    name = str(of.get("type", "anything"))
    return f"{name} {ends[0]}…{ends[1]}" if any(ends) else name


def api() -> str:
    """Every public name of :mod:`edgecloud`, its errors, vocabulary and conformance suites."""
    own = [name for name in edgecloud.__all__ if name != "__version__"]
    seams = ("acceptance_rule", "converter", "family", "gate", "metric")
    parts = [
        (
            "## Functions",
            "edgecloud",
            [name for name in own if name[0].islower() and name not in seams],
        ),
        ("## Decorators of your own parts", "edgecloud", [name for name in own if name in seams]),
        ("## Types", "edgecloud", [name for name in own if name[0].isupper()]),
    ]
    for heading, module in (
        ("## The vocabulary: `edgecloud.contracts`", "contracts"),
        ("## Errors: `edgecloud.errors`", "errors"),
        ("## Conformance suites: `edgecloud.testing`", "testing"),
    ):
        held = __import__(f"edgecloud.{module}", fromlist=["__all__"])
        names = [name for name in held.__all__ if name not in own]
        parts.append((heading, f"edgecloud.{module}", names))
    return "\n\n".join(f"{heading}\n\n{_documented(module, names)}" for heading, module, names in parts)  # fmt: skip


def _documented(module: str, names: Iterable[str]) -> str:
    found = __import__(module, fromlist=["__all__"])
    lines = []
    for name in names:
        its = getattr(found, name)
        if inspect.isclass(its):
            lines += [f".. autoclass:: {module}.{name}", "   :members:", "   :show-inheritance:"]
        elif callable(its) and hasattr(its, "__code__"):
            lines += [f".. autofunction:: {module}.{name}"]
        else:
            lines += [f".. autodata:: {module}.{name}", "   :no-value:"]
        lines.append("")
    return "\n".join(["```{eval-rst}", *lines, "```"])


GENERATED: dict[str, Callable[[], str]] = {
    "metrics": metrics,
    "commands": commands,
    "options": options,
    "schema": schema,
    "api": api,
}
