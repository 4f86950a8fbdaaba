"""``edgecloud retime``: a run as it would have been on other hardware or over another link."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecloud.cli.rescore import write
from edgecloud.errors import JournalError, OutputError

if TYPE_CHECKING:
    from edgecloud.results.recorded_run import RecordedRun
    from edgecloud.results.records import Record
    from edgecloud.settings.config import Config

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add ``edgecloud retime`` to ``commands``, the subparsers of the command line."""
    retime = commands.add_parser(
        "retime",
        help="a journal timed anew on another hardware profile or link, without a model",
        description="Writes what decoding again in modelled time would give, from the journal alone, wherever "
        "tokens do not hang on time. Where they do (draft_ahead, adaptive_k, hand_off, a cloud_budget in "
        "seconds, a missed deadline) it says so; --decode decodes again. The new journal is put into the folder "
        "journals beside the folder results that RESULT.json lies in, or else beside RESULT.json.",
    )
    retime.add_argument("journal", type=Path, metavar="JOURNAL.jsonl")
    retime.add_argument(
        "--hardware-profile",
        "--hardware_profile",
        dest="hardware_profile",
        required=True,
        metavar="NAME",
        help="a name of `edgecloud profile list`, or a file",
    )
    retime.add_argument(
        "--link",
        metavar="NAME",
        help="lan, wifi, lte, 3g, satellite, or a trace file; null: the profile's own; the journal's when not "
        "given",
    )
    retime.add_argument("-o", "--output", type=Path, required=True, metavar="RESULT.json")
    retime.add_argument(
        "--decode",
        action="store_true",
        help="decode again, with the journal's settings, data and models",
    )
    retime.set_defaults(command=_retime)


def _retime(parsed: argparse.Namespace) -> int:
    from edgecloud.experiments.retiming import retimed, timed_by, write_journal
    from edgecloud.results.journal import read
    from edgecloud.results.kept import journal_path
    from edgecloud.results.recorded_run import recorded_run

    header, records = read(parsed.journal)
    found = recorded_run(header, records, path=parsed.journal)
    config = timed_by(found.config, hardware_profile=parsed.hardware_profile, link=parsed.link)
    config = _put_beside(config, parsed.output)
    target = journal_path(found.mode, config)
    if target.resolve() == parsed.journal.resolve():
        raise OutputError(
            f"the journal of {parsed.output} would be {target}, which is read; choose another -o"
        )
    said = {"retimed_from": _origin(parsed.journal, found.config)}
    if parsed.decode:
        return write(_decoded(found, config), parsed.output, said)
    try:
        again = retimed(found, config)
    except JournalError as error:
        raise JournalError(
            f"{parsed.journal} cannot be timed anew: {error}; --decode decodes it again"
        ) from error
    write_journal(again, header["facts"], target)
    return write(again, parsed.output, said)


def _put_beside(config: Config, output: Path) -> Config:
    """``config`` with the journal where a report looks for that of ``output``."""
    folder = output.parent.parent if output.parent.name == "results" else output.parent
    return config.changed(output_dir=str(folder), output_name=output.stem)


def _origin(journal: Path, config: Config) -> Mapping[str, Any]:
    return {
        "journal": journal.name,
        "clock": config.hardware.clock,
        "hardware_profile": config.hardware.profile,
        "link": config.hardware.link,
    }


def _decoded(found: RecordedRun, config: Config) -> RecordedRun:
    """The run decoded once more."""
    from dataclasses import replace

    from edgecloud.experiments.experiment import run
    from edgecloud.experiments.reporting import machine
    from edgecloud.experiments.retiming import mode_of

    def tell(done: int, total: int, record: Record | None) -> None:
        if record is not None:
            print(f"{done}/{total} {record.file_id}", file=sys.stderr, flush=True)

    outcome = run(mode_of(found.mode), config, on_progress=tell, floors=found.floors)
    return replace(
        found,
        config=outcome.config,
        samples=outcome.samples,
        corpus=outcome.corpus,
        records=outcome.records,
        setup=outcome.setup,
        environment=machine(),
        missing=(),
    )
