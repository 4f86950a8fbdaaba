"""``edgecloud tune``: choose a preset for a pair of models by a goal."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecloud.cli.settings_of import print_progress, settings_over
from edgecloud.settings.options import add_options

if TYPE_CHECKING:
    from edgecloud.experiments.tune import Tuned

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add ``edgecloud tune`` to ``commands``, the subparsers of the command line."""
    tune = commands.add_parser(
        "tune",
        help="choose a preset for a pair of models: gate, thresholds and lengths that reach a goal",
        usage="edgecloud tune MANIFEST [--gap G] [--busy B] [--time T] [SETTINGS] -o PRESET.json",
        description="Decodes a calibration manifest by the edge alone, by the cloud alone and with everything "
        "verified, fits the gate, tries candidates in modelled time, computing only what no other has asked "
        "yet, and writes the one that reaches the goal at the least cost, with what it gives on samples that "
        "it was not chosen by. Settings of how to decode that are given are kept (docs/tuning.md).",
    )
    tune.add_argument(
        "manifest", metavar="MANIFEST", help="samples that nothing is judged on later"
    )
    tune.add_argument(
        "--gap", type=float, metavar="G", help="least share of the quality gap closed"
    )
    tune.add_argument("--busy", type=float, metavar="B", help="most of the cloud's work alone")
    tune.add_argument("--time", type=float, metavar="T", help="most of the edge's time alone")
    tune.add_argument(
        "--quality",
        choices=("references", "agreement"),
        help="CIDEr against the references; or ROUGE-L against what the cloud alone writes (the first where every "
        "sample has a reference in the language)",
    )
    tune.add_argument("-o", "--output", type=Path, required=True, metavar="PRESET.json")
    add_options(tune.add_argument)
    tune.set_defaults(command=_tune)


def _tune(parsed: argparse.Namespace) -> int:
    from edgecloud.experiments.tune import check, tune
    from edgecloud.experiments.tuning import Goal
    from edgecloud.results.result_file import write_result

    goal = Goal(parsed.gap, parsed.busy, parsed.time)
    config, samples = check(settings_over(parsed, "tune"))

    def say(text: str) -> None:
        print(f"edgecloud: {text}", file=sys.stderr, flush=True)

    folder = parsed.output.with_suffix(".tune")
    found = tune(
        config, samples, goal, folder, quality=parsed.quality, told=print_progress, say=say
    )
    _show(found)
    print(f"preset: {write_result(parsed.output, found.content, flag='-o')}")
    return 0


def _show(found: Tuned) -> None:
    """What was chosen, and what to expect."""
    from tabulate import tabulate

    settings = found.choice.candidate.settings
    print(
        " ".join(
            f"--{k.replace('_', '-')}{'' if v is True else f' {v}'}" for k, v in settings.items()
        )
    )
    names = {
        "gap_closed": "gap closed",
        "busy": "busy / cloud",
        "time": "time / edge",
        "ttft": "first token / edge",
        "calls": "calls",
    }
    blocks = (found.choice.expected, found.choice.seen)
    rows = [[title, *(_told(block[name]) for block in blocks)] for name, title in names.items()]
    print(
        tabulate(
            rows, headers=["", "expected on new data", "on these samples"], disable_numparse=True
        )
    )
    print(
        f"{found.tried} candidates; {found.choice.agreed} of 4 choices without a fold are the same; "
        f"{found.computed} of {found.asked} answers were computed"
    )


def _told(block: dict[str, Any]) -> str:
    if block["estimate"] is None:
        return f"none: {block['reason']}"
    ends = "" if block["low"] is None else f" ({block['low']:.3f} … {block['high']:.3f})"
    return f"{block['estimate']:.3f}{ends}"
