"""``edgecloud baseline``: record an intended change of the baselines of ``edgecloud gate``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add ``edgecloud baseline`` and its actions to ``commands``, the subparsers of the command line."""
    baseline = commands.add_parser(
        "baseline", help="the baselines of edgecloud gate"
    ).add_subparsers(required=True, metavar="ACTION")
    accept = baseline.add_parser("accept", help="make new results the baselines, with a reason")
    accept.add_argument("new", nargs="+", type=Path, metavar="NEW", help="files or folders")
    accept.add_argument("--reason", required=True, help="why the change is intended")
    accept.add_argument(
        "--to", type=Path, default=Path("bench/baselines"), help="folder of the baselines"
    )
    accept.add_argument(
        "--prune", action="store_true", help="remove the baselines of benchmarks that NEW lacks"
    )
    accept.add_argument(
        "--allow-degraded",
        action="store_true",
        help="accept results with samples that lost the cloud, which are refused otherwise",
    )
    accept.set_defaults(command=_accept)


def _accept(parsed: argparse.Namespace) -> int:
    from edgecloud.regression.baselines import HISTORY, accept

    done = accept(
        parsed.new,
        parsed.to,
        reason=parsed.reason,
        prune=parsed.prune,
        allow_degraded=parsed.allow_degraded,
    )
    for path in done.written:
        print(f"baseline: {path}")
    for path in done.removed:
        print(f"removed: {path}")
    line = done.history
    commit = line["commit"] or line["reasons"]["commit"]
    print(f"measured at: {commit}{', with changes beside it' if line['dirty'] else ''}")
    print(f"history: {parsed.to / HISTORY}")
    return 0
