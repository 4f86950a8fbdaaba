"""``edgecloud data``: converters to the unified manifest."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

__all__ = ["add"]


def add(commands: Any) -> None:
    data = commands.add_parser("data", help="datasets").add_subparsers(
        required=True, metavar="DATASET"
    )
    secap = data.add_parser("secap", help="convert SECap's own layout to a unified manifest")
    secap.add_argument("src", type=Path, metavar="SRC", help="folder with text.txt and wav/")
    secap.add_argument("dest", type=Path, metavar="DEST", help="folder to write")
    secap.set_defaults(command=_secap)


def _secap(parsed: argparse.Namespace) -> int:
    from edgecloud.datasets.secap import convert

    def progress(done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{done}/{total} recordings", end="", file=sys.stderr, flush=True)

    count = convert(parsed.src, parsed.dest, progress=progress)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    print(f"{count} samples: {parsed.dest / 'manifest.json'}")
    return 0
