"""``edgecloud sweep``: many configurations in modelled time, and the frontier they draw."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from edgecloud.errors import ConfigError

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add ``edgecloud sweep`` to ``commands``, the subparsers of the command line."""
    sweep = commands.add_parser(
        "sweep",
        help="many configurations in modelled time: tables and plots of the frontier",
        description="Runs every configuration of a grid over a corpus in modelled time, in parallel "
        "processes. What a sweep that was stopped has done is not done again, and what differs in "
        "hardware profile and link alone is decoded once and timed anew for each.",
    )
    sweep.add_argument(
        "grid",
        nargs="?",
        type=Path,
        metavar="GRID.toml",
        help="policies, places and targets (docs/sweep.md); edgecloud/experiments/frontier.toml when not given",
    )
    sweep.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("reports/frontier"),
        metavar="DIR",
        help="journals, frontier.json, frontier.csv and plots (reports/frontier)",
    )
    sweep.add_argument("--workers", type=int, default=1, metavar="N", help="processes (1)")
    sweep.add_argument(
        "--page",
        type=Path,
        metavar="PAGE.md",
        help="put the tables between this page's <!-- begin NAME --> and <!-- end --> marks",
    )
    sweep.set_defaults(command=_sweep)


def _sweep(parsed: argparse.Namespace) -> int:
    from edgecloud.experiments.frontier import frontier
    from edgecloud.experiments.sweep import DEFAULT_GRID, audio_notes_of, check, read_grid, sweep
    from edgecloud.experiments.targets import check_targets, read_targets
    from edgecloud.files import held
    from edgecloud.models.quantized.cache import sweep as clear_cache
    from edgecloud.report.frontier import write

    if parsed.workers < 1:
        raise ConfigError(f"--workers {parsed.workers}: give a number from 1 on")
    clear_cache()
    grid = parsed.grid or DEFAULT_GRID
    points, targets = read_grid(grid), read_targets(grid)
    for line in check(points):
        print(line, file=sys.stderr, flush=True)
    began = time.monotonic()
    swept = []
    counts: Counter[str] = Counter()
    with held(parsed.output / "frontier.json", flag="-o"):
        for found in sweep(points, parsed.output, workers=parsed.workers, counts=counts):
            swept.append(found)
            spent_s = time.monotonic() - began
            left_s = spent_s / len(swept) * (len(points) - len(swept))
            print(
                f"{len(swept)}/{len(points)} {found[0].name}, {spent_s:.0f} s spent, "
                f"{left_s:.0f} s left",
                file=sys.stderr,
                flush=True,
            )
        print(_told(counts), file=sys.stderr, flush=True)
        blocks = frontier(swept)
        verdicts = check_targets(targets, blocks)
        for path in write(blocks, verdicts, parsed.output, page=parsed.page):
            print(path)
    if (noted := audio_notes_of(swept)) is not None:
        print(f"edgecloud: note: {noted}; their journals say which", file=sys.stderr)
    missed = [verdict for verdict in verdicts if not verdict.met]
    for verdict in missed:
        where = ", ".join(str(value) for value in verdict.place.values() if value)
        print(
            f"missed: {verdict.policy} ({where}): {verdict.measure} {verdict.value}, "
            f"wanted {verdict.bound}",
            file=sys.stderr,
        )
    return 1 if missed else 0


def _told(counts: Counter[str]) -> str:
    """How the journals of a sweep came about."""
    told = {
        "decoded": "decoded",
        "retimed": "timed anew from another's tokens",
        "kept": "complete before",
    }
    return "journals: " + ", ".join(f"{counts[how]} {words}" for how, words in told.items())
