"""Result files with what lies beside them: the journals, which hold the traces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgecloud.contracts import Draft, Trace
from edgecloud.errors import JournalError
from edgecloud.report.loading import load_results, result_files
from edgecloud.report.tokens import Doubt, doubts
from edgecloud.results.journal import record_at, stream
from edgecloud.results.result import Result

__all__ = ["Source", "Traces", "load_sources"]


@dataclass(frozen=True, slots=True)
class Traces(Mapping[str, Trace]):
    """The traces in a journal, by ``file_id``: each is read when it is asked for. ``begins`` holds the byte at
    which each sample's line begins."""

    path: Path
    begins: Mapping[str, int]

    def __getitem__(self, file_id: str) -> Trace:
        return record_at(self.path, self.begins[file_id]).trace

    def __contains__(self, file_id: object) -> bool:
        return file_id in self.begins

    def __iter__(self) -> Iterator[str]:
        return iter(self.begins)

    def __len__(self) -> int:
        return len(self.begins)


@dataclass(frozen=True, slots=True)
class Source:
    """One result, its file, and what its journal says besides, by ``file_id``: its ``traces``, and what is known
    of each token (``doubts``).

    Both are empty when there is no usable journal; then ``missing`` names the file and ``foreign`` says whether it
    is there but of another run.
    """

    path: Path
    result: Result
    traces: Mapping[str, Trace] = field(default_factory=dict)
    doubts: Mapping[str, Sequence[Doubt]] = field(default_factory=dict)
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
        return Source(path, result, missing=file)
    try:
        found = _read(file, path, result)
    except JournalError:
        found = None
    return found or Source(path, result, missing=file, foreign=True)


def _read(file: Path, path: Path, result: Result) -> Source | None:
    """The source with its journal, of which one record at a time is held; ``None``: it is of another run.

    Raises:
        JournalError: the journal is damaged.
    """
    # Who did not draft has no doubts: such traces are read when a timeline shows them.
    header, records = stream(file, whole=lambda line: b'"draft"' in line)
    wanted = {sample.file_id: sample.tokens for sample in result.samples}
    begins: dict[str, int] = {}
    known: dict[str, Sequence[Doubt]] = {}
    same: dict[str, bool] = {}
    for begin, record in records:
        name = record.file_id
        same[name] = name not in wanted or wanted[name] == record.tokens
        begins.pop(name, None)
        if record.trace.events:
            begins[name] = begin
        known[name] = tuple(doubts(record.trace)) if record.trace.of(Draft) else ()
    if header.get("mode") != result.mode or not all(same.get(name) for name in wanted):
        return None
    return Source(path, result, Traces(file, begins), known)
