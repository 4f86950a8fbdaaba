"""Result files with what lies beside them: the journals, which hold the traces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgecloud.errors import JournalError
from edgecloud.report.loading import load_results, result_files
from edgecloud.results.journal import records_of
from edgecloud.results.records import Record
from edgecloud.results.result import Result

__all__ = ["Source", "load_sources"]


@dataclass(frozen=True, slots=True)
class Source:
    """One result, its file, and its journal's records by ``file_id``.

    ``records`` is empty when there is no usable journal; then ``missing`` names the file and
    ``foreign`` says whether it is there but of another run.
    """

    path: Path
    result: Result
    records: Mapping[str, Record]
    missing: Path | None = None
    foreign: bool = False


def load_sources(paths: Iterable[str | Path], *, journals: Path | None = None) -> list[Source]:
    """Results and journals. A folder stands for its ``*.json``; the journal of
    ``results/NAME.json`` is ``journals/NAME.jsonl`` beside that folder, or in ``journals``.

    Raises:
        DataError: a result is missing or broken. A missing journal is no error.
    """
    files = result_files(paths)
    results = load_results(files)  # refuses an empty list, saying what to do
    return [_source(file, result, journals) for file, result in zip(files, results, strict=True)]


def _source(path: Path, result: Result, journals: Path | None) -> Source:
    folder = journals or path.resolve().parent.parent / "journals"
    file = folder / f"{path.stem}.jsonl"
    if not file.is_file():
        return Source(path, result, {}, missing=file)
    tokens = {sample.file_id: sample.tokens for sample in result.samples}
    try:
        records = records_of(file, mode=result.mode, tokens=tokens)
    except JournalError:
        records = None
    if records is None:
        return Source(path, result, {}, missing=file, foreign=True)
    return Source(path, result, records)
