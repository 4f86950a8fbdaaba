"""``edgecloud rescore``: a result made again from its journal alone."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecloud.errors import JournalError

if TYPE_CHECKING:
    from edgecloud.results.recorded_run import RecordedRun

__all__ = ["add", "write"]


def add(commands: Any) -> None:
    """Add ``edgecloud rescore`` to ``commands``, the subparsers of the command line."""
    rescore = commands.add_parser("rescore", help="a result made again from its journal alone")
    rescore.add_argument("journal", type=Path, metavar="JOURNAL.jsonl")
    rescore.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="RESULT.json",
        help="what to write; the journal's name with -rescored beside it when not given",
    )
    rescore.add_argument(
        "--partial", action="store_true", help="take what there is of a run that has not ended"
    )
    rescore.set_defaults(command=_rescore)


def _rescore(parsed: argparse.Namespace) -> int:
    from edgecloud.results.journal import stream
    from edgecloud.results.recorded_run import recorded_run

    header, lines = stream(parsed.journal)
    records = (record for _, record in lines)
    found = recorded_run(header, records, path=parsed.journal, traces=False)
    if found.missing and not parsed.partial:
        raise JournalError(
            f"{parsed.journal} holds {len(found.records)} of the run's {len(found.samples)} samples: "
            "go on with the run by --resume, or take what there is with --partial"
        )
    output = parsed.output or Path(f"{parsed.journal.stem}-rescored.json")
    return write(found, output, {"rescored_from": {"journal": parsed.journal.name}})


def write(found: RecordedRun, output: Path, said: dict[str, Any]) -> int:
    """Build the result of a replayed run, write it and name it; ``said`` goes into its ``run``.

    Raises:
        OutputError: a run that has not ended will write it, or it cannot be written.
    """
    from edgecloud.experiments.reporting import result_of
    from edgecloud.files import held
    from edgecloud.results.degraded import sentence
    from edgecloud.results.environment import run_block
    from edgecloud.results.result_file import write_result

    with held(output, flag="-o"):
        result = result_of(
            found,
            environment=found.environment,
            run_block={**run_block(), **said},
            floors=found.floors,
        )
        print(f"result: {write_result(output, result, flag='-o')}")
    if lost := sentence(result.samples):
        print(f"edgecloud: {lost}", file=sys.stderr)
    if found.missing:
        print(f"{len(found.missing)} samples are not in it yet", file=sys.stderr)
    return 0
