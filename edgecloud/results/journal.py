"""The journal of a run: one line of JSON per sample, on disk as soon as the sample ends.

The first line says whose journal it is. A killed run leaves at most one torn line, which the next
opening cuts away; a run with other settings, data or models cannot go on with it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

from edgecloud.errors import JournalError, OutputError
from edgecloud.jsontypes import Mismatch
from edgecloud.results.files import put
from edgecloud.results.records import Facts, Record
from edgecloud.results.weights import without_former
from edgecloud.settings.config import Config
from edgecloud.textfiles import parse_json

__all__ = ["SCHEMA", "Journal", "check_run", "differences", "read", "records_of"]

SCHEMA = "edgecloud-journal/1"


class Journal:
    """An open journal. ``records`` holds the completed samples by ``file_id``, in order of writing;
    failed ones are not among them, so that a resumed run tries them again. ``notes`` say in sentences
    what a reader of the run should know of how it goes on."""

    def __init__(
        self,
        path: Path,
        handle: BinaryIO,
        records: dict[str, Record],
        *,
        identity: Mapping[str, Any],
        notes: Sequence[str] = (),
    ) -> None:
        self.path = path
        self._identity = identity
        self.records = records
        self.notes = tuple(notes)
        self._handle = handle

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        mode: str,
        identity: Mapping[str, Any],
        resume: bool = False,
        keep_degraded: bool = False,
    ) -> Journal:
        """Open the journal at ``path`` for a run.

        With ``resume`` the run goes on where the journal ends, when there is one; without it, an
        existing journal is replaced. Samples that failed or lost the cloud run again, the latter unless
        ``keep_degraded``. ``identity`` holds JSON values: settings, data and model hashes.

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
            content = target.read_bytes() if resume and target.exists() else b""
            before, found, length = _parse(target, content)
            if before is not None:
                notes = check_run(target, before, mode=mode, identity=identity)
                for record in found:
                    records.pop(record.file_id, None)
                    if record.ok and (keep_degraded or record.loss is None):
                        records[record.file_id] = record
                if length < len(content):
                    os.truncate(target, length)
            else:
                put(target, _line(header))
            handle = target.open("ab")
        except OSError as error:
            raise OutputError(
                f"cannot write the journal {target}: {error.strerror or error}; choose another --output-dir"
            ) from error
        return cls(target, handle, records, identity=header["identity"], notes=notes)

    def describe(self, facts: Mapping[str, Any]) -> None:
        """Put what a result needs besides the samples into the first line, under ``facts``.

        Facts identify no run: those of an earlier part of a resumed run are replaced.

        Raises:
            OutputError: the journal cannot be written.
        """
        try:
            first, _, rows = self.path.read_bytes().partition(b"\n")
            header = json.loads(first)
            # From now on the weights are known by their content, however they were before.
            header |= {"identity": self._identity, "facts": dict(facts)}
            self._handle.close()
            put(self.path, _line(header) + rows)
            self._handle = self.path.open("ab")
        except OSError as error:
            raise OutputError(
                f"cannot write the journal {self.path}: {error.strerror or error}"
            ) from error

    def append(self, record: Record) -> None:
        """Write one sample's record and wait until it is on disk.

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
        if record.ok:
            self.records[record.file_id] = record

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
    target = Path(path)
    try:
        header, records, _ = _parse(target, target.read_bytes())
    except OSError as error:
        raise JournalError(
            f"cannot read the journal {target}: {error.strerror or error}"
        ) from error
    if header is None:
        raise JournalError(f"the journal {target} is empty")
    if header.get("schema") != SCHEMA:
        raise JournalError(f"{target} is not a journal of this version ({SCHEMA})")
    try:
        Facts.of(header)
    except Mismatch as error:
        raise JournalError(f"the journal {target} is damaged in line 1 ({error})") from None
    latest = {record.file_id: record for record in records}
    return header, list(latest.values())


def records_of(
    path: str | Path, *, mode: str, tokens: Mapping[str, tuple[int, ...]]
) -> dict[str, Record] | None:
    """The records by ``file_id`` of the journal of a run in ``mode`` whose samples have these ``tokens``;
    ``None``: it is of another run.

    Raises:
        JournalError: there is none, or it is damaged.
    """
    header, rows = read(path)
    records = {record.file_id: record for record in rows}
    same = header.get("mode") == mode and all(
        name in records and records[name].tokens == its for name, its in tokens.items()
    )
    return records if same else None


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """The value as JSON gives it back (tuples become lists), so that what is compared is alike."""
    return cast("dict[str, Any]", json.loads(json.dumps(value, allow_nan=False)))


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _parse(path: Path, content: bytes) -> tuple[dict[str, Any] | None, list[Record], int]:
    """The first line, the records, and how many bytes of ``content`` they take; a torn last line is left
    out. No first line: ``None``."""
    header: dict[str, Any] | None = None
    records: list[Record] = []
    length = 0
    lines = content.splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        try:
            row = parse_json(line, finite=True) if line.endswith(b"\n") else None
        except ValueError as error:
            row, why = None, str(error)
        else:
            why = "it is no object"
        if not isinstance(row, dict):
            if number == len(lines):
                break  # torn: the run was killed while it wrote this line
            raise JournalError(
                f"the journal {path} is damaged in line {number} ({why}); run again without --resume"
            )
        try:
            if header is None:
                header = _header(row)
            else:
                records.append(Record.from_json(row))
        except Mismatch as error:
            raise JournalError(
                f"the journal {path} is damaged in line {number} ({error}); run again without "
                "--resume"
            ) from None
        length += len(line)
    return header, records, length


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
