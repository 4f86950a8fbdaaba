"""``edgecloud table``: results side by side."""

from __future__ import annotations

import argparse
import shutil
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
    table.add_argument(
        "--deployed",
        metavar="PROFILE",
        help="the first look instead: each run as it ran, and its traces timed on this hardware profile "
        "(edgecloud profile list), from the journals in the folder beside that of the results",
    )
    table.set_defaults(command=_table)


def _table(parsed: argparse.Namespace) -> int:
    from edgecloud.hardware.profiles import profile
    from edgecloud.report.loading import load_results, result_files, select_this_run
    from edgecloud.report.overview import overview
    from edgecloud.report.table import side_by_side
    from edgecloud.results.environment import run_id
    from edgecloud.textfiles import json_files

    paths = result_files(parsed.results or json_files(parsed.results_dir))
    results = load_results(paths)
    chosen = select_this_run(results, run_id()) if parsed.this_run else results
    if parsed.deployed is None:
        print(side_by_side(chosen))
        return 0
    journals = {
        id(result): path.resolve().parent.parent / "journals" / f"{path.stem}.jsonl"
        for path, result in zip(paths, results, strict=True)
    }
    text = overview(
        [(result, journals[id(result)]) for result in chosen],
        hardware_profile=parsed.deployed,
        source=profile(parsed.deployed).source,
        width=shutil.get_terminal_size().columns,
    )
    print(text)
    return 0
