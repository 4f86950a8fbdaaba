"""``edgecloud settings``: every setting with its default, as a file for ``--config``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from edgecloud.errors import ConfigError
from edgecloud.settings.pages import as_yaml, with_tables
from edgecloud.textfiles import read_text

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command's parser to ``commands``."""
    settings = commands.add_parser(
        "settings",
        help="every setting with its default, as a file for --config",
        description="Print every setting with its default and its meaning, as a YAML file for --config.",
    )
    settings.add_argument(
        "--tables",
        nargs="+",
        type=Path,
        default=(),
        metavar="PAGE.md",
        help="instead, write the tables of options in these pages anew, as the settings are declared",
    )
    settings.set_defaults(command=_settings)


def _settings(parsed: argparse.Namespace) -> int:
    for page in parsed.tables:
        text = read_text(page, what="page", error=ConfigError)
        page.write_text(with_tables(text), "utf-8")
    if not parsed.tables:
        print(as_yaml(), end="")
    return 0
