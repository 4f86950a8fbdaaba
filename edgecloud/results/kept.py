"""Journals of runs that did not end: how far they came, and where they go when another run takes their
name."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from edgecloud.errors import JournalError
from edgecloud.results.journal import read
from edgecloud.results.records import Facts
from edgecloud.settings.config import Config

__all__ = [
    "MOST_KEPT",
    "Standing",
    "journal_path",
    "keep_unfinished",
    "result_path",
    "standing",
    "told",
]

MOST_KEPT = 5
"""Of each name so many unfinished journals stay; the oldest go first."""

Standing = tuple[int, int | None]
"""Samples that are in a journal, and that its run meant to do; None: the journal does not say."""


def journal_path(mode: str, config: Config) -> Path:
    """Path of an experiment's journal."""
    return Path(config.output.folder) / "journals" / f"{_name(mode, config)}.jsonl"


def result_path(mode: str, config: Config) -> Path:
    """Path of an experiment's result."""
    return Path(config.output.folder) / "results" / f"{_name(mode, config)}.json"


def _name(mode: str, config: Config) -> str:
    return config.output.name or f"{mode}_results"


def standing(journal: Path) -> Standing | None:
    """Progress of the run of a journal; ``None``: there is none, or it cannot be read."""
    try:
        header, records = read(journal)
    except JournalError:
        return None
    facts = Facts.of(header)
    if facts is None:
        return len(records), None
    wanted = set(facts.samples)
    return sum(record.file_id in wanted for record in records), len(wanted)


def told(journal: Path) -> str | None:
    """Last words on a run that wrote no result; ``None``: there is no journal to go on with."""
    found = standing(journal)
    if found is None:
        return None
    done, total = found
    many = f"{done} samples" if total is None else f"{done} of {total} samples"
    return f"{many} in {journal}; go on with --resume"


def keep_unfinished(journal: Path, result: Path) -> str | None:
    """Move the journal of a run that did not end, or whose ``result`` was not written, to ``kept/`` beside
    it; returns a sentence that says so. ``None``: there is none, it holds no sample, or its run ended.

    Raises:
        OSError: it cannot be moved.
    """
    if not journal.is_file():
        return None
    found = standing(journal)
    if found is None:
        if b"\n" not in journal.read_bytes().rstrip(b"\n"):
            return None  # a first line at most
        what = "a journal that cannot be read"
    else:
        done, total = found
        if done == 0 or (total is not None and done >= total and _newer(result, journal)):
            return None
        what = f"{done}{'' if total is None else f' of {total}'} samples of an unfinished run"
    folder = journal.parent / "kept"
    folder.mkdir(exist_ok=True)
    target = folder / f"{journal.stem}-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.jsonl"
    journal.replace(target)
    for old in _kept(folder, journal.stem)[:-MOST_KEPT]:
        old.unlink(missing_ok=True)
    return (
        f"{journal} held {what}, now in {target}: to go on with them, stop this run, move the file "
        "back, and give --resume"
    )


def _newer(result: Path, journal: Path) -> bool:
    """Whether ``result`` is there and was written after the journal."""
    return result.is_file() and result.stat().st_mtime_ns >= journal.stat().st_mtime_ns


def _kept(folder: Path, name: str) -> list[Path]:
    """The journals kept of a name, oldest first."""
    form = re.compile(rf"{re.escape(name)}-\d{{8}}T\d{{6}}\.\d{{6}}Z\.jsonl")
    return sorted(path for path in folder.iterdir() if form.fullmatch(path.name))
