"""``edgecloud-gate``: the commands ``gate`` and ``baseline`` of ``edgecloud``, without the rest of it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from edgecloud_gate import __version__
from edgecloud_gate.cli import baseline, gate
from edgecloud_gate.errors import EdgeCloudError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0, 1 when a run is worse, 2 when nothing could be compared."""
    parser = argparse.ArgumentParser(prog="edgecloud-gate", description=__doc__)
    parser.add_argument("--version", action="version", version=f"edgecloud-gate {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in (gate, baseline):
        module.add(commands)
    parsed = parser.parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = parsed.command
    try:
        return command(parsed)
    except EdgeCloudError as error:
        print(f"edgecloud-gate: error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
