"""``edgecloud merge``: the journals of shards put together to the result of the whole run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from edgecloud.cli.rescore import write

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add ``edgecloud merge`` to ``commands``, the subparsers of the command line."""
    merge = commands.add_parser("merge", help="join the journals of shards to one result")
    merge.add_argument("journals", type=Path, nargs="+", metavar="SHARD.jsonl")
    merge.add_argument("-o", "--output", type=Path, required=True, metavar="RESULT.json")
    merge.set_defaults(command=_merge)


def _merge(parsed: argparse.Namespace) -> int:
    from edgecloud.results.journal import read
    from edgecloud.results.merge import Part, merge
    from edgecloud.results.recorded_run import recorded_run

    merged = merge([Part(path, *read(path)) for path in parsed.journals])
    for part in merged.parts:
        for line in part["differences"]:
            print(f"edgecloud: note: {part['journal']}: {line}", file=sys.stderr)
    found = recorded_run(merged.header, merged.records, path=parsed.journals[0])
    return write(found, parsed.output, {"merged_from": merged.parts})
