"""The declared options as people read them: a file of settings, and the tables of the pages."""

from __future__ import annotations

import re
from itertools import groupby
from typing import Literal

import yaml

from edgecloud.errors import ConfigError
from edgecloud.registry import BUILT_IN, Registry
from edgecloud.settings.declaration import Option
from edgecloud.settings.subjects import OPTIONS

__all__ = ["HEADINGS", "as_yaml", "with_tables"]

HEADINGS = {
    "what": "What is decoded",
    "how": "How it is decoded",
    "where": "Where it runs",
    "run": "How this run is carried out; changes no result",
}
"""What options decide, by their group."""
_COLUMNS = {
    "en": ("option", "values", "default", "meaning"),
    "zh": ("选项", "取值", "默认", "含义"),
}
_FREE = {
    bool: {"en": "switch", "zh": "开关"},
    int: {"en": "whole number", "zh": "整数"},
    float: {"en": "number", "zh": "数"},
    str: {"en": "text", "zh": "文本"},
}
"""What stands in the place of values where there are neither choices nor bounds."""
_TABLE = re.compile(r"(<!-- options (en|zh): ([\w\s]+) -->\n).*?(<!-- /options -->)", re.DOTALL)


def as_yaml() -> str:
    """Every setting with its default and its meaning, as a file that ``--config`` reads."""
    blocks = []
    for group, options in groupby(OPTIONS, lambda option: option.group):
        blocks.append("\n".join([f"# {HEADINGS[group]}", *map(_line, options)]))
    return "\n\n".join(blocks) + "\n"


def _line(option: Option) -> str:
    choices = f" ({' | '.join(option.choices)})" if option.choices else ""
    return f"{f'{option.name}: {_default(option)}':30} # {option.help}{choices}"


def _default(option: Option) -> str:
    """The default as YAML has it."""
    return yaml.safe_dump([option.default]).removeprefix("- ").strip()


def with_tables(page: str) -> str:
    """``page`` with its tables of options as they are declared. One stands between
    ``<!-- options en: NAME NAME … -->`` (or ``zh``, in Chinese) and ``<!-- /options -->``.

    Raises:
        ConfigError: a table names an option that is not declared.
    """
    known = {option.name: option for option in OPTIONS}

    def written(found: re.Match[str]) -> str:
        unknown = [name for name in found[3].split() if name not in known]
        if unknown:
            raise ConfigError(f"a table of options names {', '.join(unknown)}, which is no setting")
        language: Literal["en", "zh"] = "en" if found[2] == "en" else "zh"
        head = _COLUMNS[language]
        rows = [_cells(known[name], language) for name in found[3].split()]
        lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
        return "\n".join([f"{found[1]}{lines[0]}", "|---" * len(head) + "|", *lines[1:], found[4]])

    return _TABLE.sub(written, page)


def _cells(option: Option, language: Literal["en", "zh"]) -> tuple[str, str, str, str]:
    choices = option.choices
    if isinstance(choices, Registry):  # what is installed beside this package is not on its pages
        choices = [part.name for part in choices.parts() if part.origin == BUILT_IN]
    values = (", " if language == "en" else "、").join(f"`{choice}`" for choice in choices)
    ends = ["" if end is None else f"{end:g}" for end in (option.minimum, option.maximum)]
    if any(ends):
        values = "…".join(ends)
    elif not values:
        values = _FREE[option.kind][language]
    meaning = option.help if language == "en" else option.chinese or option.help
    return f"`{option.flags[0]}`", values, f"`{_default(option)}`", meaning
