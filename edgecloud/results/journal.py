"""The journal of a run: one line of JSON per sample, on disk as soon as the sample ends.

The first line says whose journal it is. A killed run leaves at most one torn line, which the next
opening cuts away; a run with other settings, data or models cannot go on with it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

from edgecloud.errors import JournalError, OutputError
from edgecloud.files import put
from edgecloud.jsontypes import Mismatch
from edgecloud.results.records import Facts, Record
from edgecloud.results.weights import without_former
from edgecloud.settings.config import Config
from edgecloud.textfiles import parse_json, uncollected

__all__ = ["SCHEMA", "Journal", "check_run", "differences", "read", "record_at", "stream"]

SCHEMA = "edgecloud-journal/1"


class Journal:
    """An open journal. ``records`` holds the completed samples by ``file_id``, in order of writing, each as ``kept``
    gives it back; failed ones are not among them, so that a resumed run tries them again. ``notes`` say in
    sentences what a reader of the run should know of how it goes on."""

    def __init__(
        self,
        path: Path,
        handle: BinaryIO,
        records: dict[str, Record],
        *,
        identity: Mapping[str, Any],
        notes: Sequence[str] = (),
        kept: Callable[[Record], Record] = lambda record: record,
    ) -> None:
        self.path = path
        self._identity = identity
        self.records = records
        self.notes = tuple(notes)
        self._handle = handle
        self._kept = kept

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        mode: str,
        identity: Mapping[str, Any],
        resume: bool = False,
        keep_degraded: bool = False,
        kept: Callable[[Record], Record] = lambda record: record,
    ) -> Journal:
        """Open the journal at ``path`` for a run.

        With ``resume`` the run goes on where the journal ends, when there is one; without it, an
        existing journal is replaced. Samples that failed or lost the cloud run again, the latter unless
        ``keep_degraded``. ``identity`` holds JSON values: settings, data and model hashes. ``kept`` gives what is
        held in memory of a record: all of it, when not given.

        Raises:
            JournalError: it belongs to another run (the differences are listed) or is damaged.
            OutputError: it cannot be written.
        """
        target = Path(path)
        header = _plain({"schema": SCHEMA, "mode": mode, "identity": dict(identity)})
        records: dict[str, Record] = {}
        notes: list[str] = []
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            rows = _rows(target) if resume and target.exists() else iter(())
            if (first := next(rows, None)) is None:
                put(target, _line(header))
            else:
                before, length = first
                notes = check_run(target, _headed(target, before), mode=mode, identity=identity)
                with uncollected():
                    for number, (row, end) in enumerate(rows, start=2):
                        record, length = _recorded(target, number, row), end
                        records.pop(record.file_id, None)
                        if record.ok and (keep_degraded or record.loss is None):
                            records[record.file_id] = kept(record)
                if length < target.stat().st_size:
                    os.truncate(target, length)
            handle = target.open("ab")
        except OSError as error:
            raise OutputError(
                f"cannot write the journal {target}: {error.strerror or error}; choose another --output-dir"
            ) from error
        return cls(target, handle, records, identity=header["identity"], notes=notes, kept=kept)

    def describe(self, facts: Mapping[str, Any]) -> None:
        """Put what a result needs besides the samples into the first line, under ``facts``.

        Facts identify no run: those of an earlier part of a resumed run are replaced.

        Raises:
            OutputError: the journal cannot be written.
        """
        try:
            self._handle.close()
            with self.path.open("rb") as rows:
                header = json.loads(rows.readline())
                # From now on the weights are known by their content, however they were before.
                header |= {"identity": self._identity, "facts": dict(facts)}
                put(self.path, _line(header), rows)
            self._handle = self.path.open("ab")
        except OSError as error:
            raise OutputError(
                f"cannot write the journal {self.path}: {error.strerror or error}"
            ) from error

    def append(self, record: Record) -> Record:
        """Write one sample's record and wait until it is on disk; returns what is held of it.

        Raises:
            OutputError: the disk refused it.
        """
        try:
            self._handle.write(_line(record.to_json()))
            self._handle.flush()
            os.fsync(self._handle.fileno())
        except OSError as error:
            raise OutputError(
                f"cannot write the journal {self.path}: {error.strerror or error}"
            ) from error
        self.records.pop(record.file_id, None)
        held = self._kept(record)
        if record.ok:
            self.records[record.file_id] = held
        return held

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        self._handle.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def read(path: str | Path) -> tuple[dict[str, Any], list[Record]]:
    """The header and the records of a journal, the latest of each sample; a torn end is ignored.

    Raises:
        JournalError: there is none, or it is damaged.
    """
    header, records = stream(path)
    with uncollected():
        latest = {record.file_id: record for _, record in records}
    return header, list(latest.values())


def stream(
    path: str | Path, *, whole: Callable[[bytes], bool] = lambda _: True
) -> tuple[dict[str, Any], Iterator[tuple[int, Record]]]:
    """The header of a journal, and its records one after the other as they were written, each with the byte at
    which its line begins: a sample that was run again comes again. A torn end is ignored. Where ``whole`` is False of a
    line, its trace is not looked at: that of the record has the output alone, at second 0.

    Raises:
        JournalError: there is none, or its first line is damaged; while it is read, another is.
    """
    target = Path(path)
    rows = _rows(target, whole)
    first = next(rows, None)
    if first is None:
        raise JournalError(f"the journal {target} is empty")
    header = _headed(target, first[0])
    if header.get("schema") != SCHEMA:
        raise JournalError(f"{target} is not a journal of this version ({SCHEMA})")
    try:
        Facts.of(header)
    except Mismatch as error:
        raise JournalError(f"the journal {target} is damaged in line 1 ({error})") from None

    def records(begin: int) -> Iterator[tuple[int, Record]]:
        for number, (row, end) in enumerate(rows, start=2):
            yield begin, _recorded(target, number, row)
            begin = end

    return header, records(first[1])


def record_at(path: Path, begin: int) -> Record:
    """The record in the line that begins at a byte of a journal, which :func:`stream` gave.

    Raises:
        JournalError: the line is damaged.
        OSError: the journal cannot be read.
    """
    with path.open("rb") as lines:
        lines.seek(begin)
        line = lines.readline()
    try:
        return Record.from_json(parse_json(line, finite=True))
    except ValueError as error:
        raise JournalError(
            f"the journal {path} is damaged in the line at byte {begin} ({error})"
        ) from None


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """The value as JSON gives it back (tuples become lists), so that what is compared is alike."""
    return cast("dict[str, Any]", json.loads(json.dumps(value, allow_nan=False)))


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _rows(
    path: Path, whole: Callable[[bytes], bool] = lambda _: True
) -> Iterator[tuple[dict[str, Any], int]]:
    """The objects in a journal's lines, each with where its line ends; a torn last line is left out. ``whole`` is
    :func:`stream`'s.

    Raises:
        JournalError: it cannot be read, or a line before the last is no object.
    """
    end, torn = 0, None
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if torn is not None:
                    raise _damaged(path, number - 1, torn)
                why = "it is no object"
                try:
                    read = _parsed if whole(line) else _outline
                    row = read(line) if line.endswith(b"\n") else None
                except ValueError as error:
                    row, why = None, str(error)
                if isinstance(row, dict):
                    end += len(line)
                    yield row, end
                else:  # if it is the last: the run was killed while it wrote this line
                    torn = why
    except OSError as error:
        raise JournalError(f"cannot read the journal {path}: {error.strerror or error}") from error


def _parsed(line: bytes) -> Any:
    return parse_json(line, finite=True)


def _outline(line: bytes) -> Any:
    """What is in a line, its trace being no more than its output. A line that is not as :meth:`Journal.append` writes it
    is read whole."""
    before, mark, rest = line.partition(b'"trace": [{')  # no text holds a quotation mark like this
    _, end, after = rest.rpartition(b'}], "references": ')
    if not (mark and end):
        return _parsed(line)
    try:
        row = parse_json(before + b'"references": ' + after, finite=True)
        output = {"tokens": row["tokens"], "origins": row["origins"]}
    except (ValueError, KeyError):
        return _parsed(line)
    return {**row, "trace": [{"kind": "commit", "start_s": 0.0, "end_s": 0.0, **output}]}


def _damaged(path: Path, number: int, why: object) -> JournalError:
    return JournalError(
        f"the journal {path} is damaged in line {number} ({why}); run again without --resume"
    )


def _headed(path: Path, row: dict[str, Any]) -> dict[str, Any]:
    try:
        return _header(row)
    except Mismatch as error:
        raise _damaged(path, 1, error) from None


def _recorded(path: Path, number: int, row: dict[str, Any]) -> Record:
    try:
        return Record.from_json(row)
    except Mismatch as error:
        raise _damaged(path, number, error) from None


def _header(header: dict[str, Any]) -> dict[str, Any]:
    """A journal's first line, as far as its schema is this version's.

    Raises:
        Mismatch: its shape is of none.
    """
    if not isinstance(header.get("schema"), str):
        raise Mismatch("it names no schema")
    identity = header.get("identity")
    known = isinstance(identity, Mapping) and isinstance(header.get("mode"), str)
    if header["schema"] == SCHEMA and not known:  # another is refused in other words
        raise Mismatch("mode or identity are missing")
    return header


def check_run(
    path: Path, found: Mapping[str, Any], *, mode: str, identity: Mapping[str, Any]
) -> list[str]:
    """Check that the journal with the first line ``found`` is of the run of ``mode`` with ``identity``; returns
    what to say of what cannot be told.

    Raises:
        JournalError: it is of another (the differences are listed).
    """
    expected = _plain({"schema": SCHEMA, "mode": mode, "identity": dict(identity)})
    if found.get("schema") != SCHEMA:
        raise JournalError(
            f"{path} is not a journal of this version ({SCHEMA}); run again without --resume"
        )
    before, now, sides = without_former(found.get("identity") or {}, expected["identity"])
    before, now = _with_defaults(before), _with_defaults(now)
    lines = differences(
        {**{key: value for key, value in found.items() if key != "facts"}, "identity": before},
        {**expected, "identity": now},
        names=("in the journal", "now"),
    )
    if lines:
        raise JournalError(
            f"the journal {path} belongs to another run ({'; '.join(lines)}); "
            "give its settings again, or run without --resume"
        )
    return [
        f"the journal {path} knows the weights of the {side} by their headers alone: their names and "
        "shapes are those of now, but whether its samples are of these very weights cannot be told; "
        "run without --resume to be sure"
        for side in sides
    ]


def _with_defaults(identity: Mapping[str, Any]) -> dict[str, Any]:
    """A setting that an older journal does not know had the value that is the default now."""
    settings = identity.get("settings")
    if not isinstance(settings, Mapping):
        return dict(identity)
    absent = {k: v for k, v in _plain(Config().identity()).items() if k not in settings}
    return {**identity, "settings": {**settings, **absent}}


def differences(
    one: Mapping[str, Any], other: Mapping[str, Any], *, names: tuple[str, str]
) -> list[str]:
    """Every value in which two mappings differ, ``settings.k: 3 in the journal, 5 now``; inner
    mappings are compared key by key."""
    before, now = _flat(one), _flat(other)
    return [
        f"{key}: {before.get(key, 'not there')!r} {names[0]}, {now.get(key, 'not there')!r} {names[1]}"
        for key in dict.fromkeys([*before, *now])
        if before.get(key, _MISSING) != now.get(key, _MISSING)
    ]


_MISSING = object()


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping):
            flat.update(_flat(item, f"{name}."))
        else:
            flat[name] = item
    return flat
