"""``edgecloud table``: results side by side."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add ``edgecloud table`` to ``commands``, the subparsers of the command line."""
    table = commands.add_parser("table", help="results side by side")
    table.add_argument("results", nargs="*", type=Path, metavar="RESULT.json")
    table.add_argument("--results-dir", type=Path, default=Path("reports/results"))
    table.add_argument(
        "--this-run", action="store_true", help="only results of this run of tox or this shell"
    )
    table.set_defaults(command=_table)


def _table(parsed: argparse.Namespace) -> int:
    from edgecloud.report.table import load_results, select_this_run, side_by_side
    from edgecloud.results.environment import run_id
    from edgecloud.textfiles import json_files

    paths = parsed.results or json_files(parsed.results_dir)
    results = load_results(paths)
    if parsed.this_run:
        results = select_this_run(results, run_id())
    print(side_by_side(results))
    return 0
