"""``edgecloud plugins``: gates, acceptance rules and other parts that are chosen by name, and whose they are."""

from __future__ import annotations

import argparse
from typing import Any

from tabulate import tabulate

from edgecloud.registry import HOMES, broken_plugins, registry_of

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command's parser to ``commands``."""
    plugins = commands.add_parser(
        "plugins",
        help="parts that are chosen by name, and which package brings them",
        description="A line for each part: kind, name, where it comes from, what it is. One that is "
        "installed and cannot be loaded is a line, too.",
    )
    plugins.set_defaults(command=_plugins)


def _plugins(parsed: argparse.Namespace) -> int:
    rows = [
        (part.kind, part.name, part.origin, part.summary)
        for group in HOMES
        for part in registry_of(group).parts()
    ]
    print(tabulate(rows, tablefmt="plain", disable_numparse=True))
    for broken in broken_plugins():
        print(broken)
    return 1 if broken_plugins() else 0
