"""Recording an intended change: new baselines, and a line in their history."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgecloud.errors import DataError, OutputError
from edgecloud.files import put
from edgecloud.regression.compact import to_baseline
from edgecloud.regression.model import Benchmark
from edgecloud.regression.reading import read
from edgecloud.results.environment import commit_of
from edgecloud.textfiles import json_files

__all__ = ["HISTORY", "Accepted", "accept"]

HISTORY = "history.jsonl"
"""One line an acceptance, oldest first, beside the baselines."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The files written, those removed because their benchmark is gone, and the line in the history."""

    written: tuple[Path, ...]
    removed: tuple[Path, ...]
    history: Mapping[str, Any]


def accept(
    paths: Sequence[Path],
    folder: Path,
    *,
    reason: str,
    prune: bool = False,
    allow_degraded: bool = False,
) -> Accepted:
    """Make the benchmarks in ``paths`` (files or folders) the baselines in ``folder``.

    ``prune`` removes the baselines of other benchmarks, as after one was renamed or dropped. With
    ``allow_degraded`` samples may have lost the cloud: where that is what is measured, as over a link with
    outages.

    What is recorded as ``commit`` and ``dirty`` is what the results were measured at, by their own
    account; ``baselines_commit`` and ``baselines_dirty`` are of the checkout that ``folder`` lies in,
    before the acceptance. What cannot be told is null, and ``reasons`` says why.

    Raises:
        DataError: nothing to accept, a broken file, a failed or degraded run, no reason, or two of one
            name.
        OutputError: ``folder`` cannot be written.
    """
    if not reason.strip():
        raise DataError("an accepted baseline needs a reason: --reason 'why it changed'")
    benchmarks = [benchmark for path in paths for benchmark in read(path)]
    files = _file_names(benchmarks)
    if not allow_degraded:
        _refuse_degraded(benchmarks)
    said = {
        "reason": reason.strip(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    here = _checkout(folder)
    gone = _others(folder, files) if prune else []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, benchmark in files.items():
            accepted = _recorded({**said, **_measured([benchmark])}, here)
            put(folder / name, _lines(to_baseline(benchmark, accepted)).encode())
        for path in gone:
            path.unlink()
        line = {
            **_recorded({**said, **_measured(list(files.values()))}, here),
            "accepted": sorted(files),
            "removed": [path.name for path in gone],
        }
        with (folder / HISTORY).open("a", encoding="utf-8", newline="\n") as history:
            history.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
    except OSError as error:
        raise OutputError(
            f"cannot write baselines into {folder}: {error.strerror or error}; choose another --to"
        ) from error
    return Accepted(tuple(folder / name for name in files), tuple(gone), line)


def _recorded(measured: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, Any]:
    reasons = {**measured["reasons"], **here["reasons"]}
    found = {key: value for key, value in {**measured, **here}.items() if key != "reasons"}
    return {**found, "reasons": reasons} if reasons else found


def _measured(benchmarks: Sequence[Benchmark]) -> dict[str, Any]:
    """The one commit that all of these were measured at."""
    commits = {_text(benchmark.provenance.get("commit")) for benchmark in benchmarks}
    states = {benchmark.provenance.get("dirty") for benchmark in benchmarks}
    reasons: dict[str, str] = {}
    known = sorted(commit for commit in commits if commit is not None)
    if len(commits) > 1:
        more = " and results that name none" if None in commits else ""
        reasons["commit"] = f"the results are of {', '.join(known)}{more}"
    elif not known:
        reasons["commit"] = "the results name none"
    dirty = any(state is True for state in states)
    if not dirty and states != {False}:
        reasons["dirty"] = "not every result says so"
    return {
        "commit": None if "commit" in reasons else known[0],
        "dirty": None if "dirty" in reasons else dirty,
        "reasons": reasons,
    }


def _text(commit: Any) -> str | None:
    """pytest-benchmark calls what lies in no repository ``unversioned``."""
    return commit if isinstance(commit, str) and commit not in ("", "unversioned") else None


def _checkout(folder: Path) -> dict[str, Any]:
    """The repository that the baselines are kept in, if it is one."""
    absolute = folder.absolute()
    there = next(path for path in (absolute, *absolute.parents) if path.is_dir())
    reasons: dict[str, str] = {}
    commit, dirty = commit_of(there, reasons)
    return {
        "baselines_commit": commit,
        "baselines_dirty": dirty,
        "reasons": {f"baselines_{key}": why for key, why in reasons.items()},
    }


def _file_names(benchmarks: Sequence[Benchmark]) -> dict[str, Benchmark]:
    """A file for each, named after it. A failed run is no baseline."""
    files: dict[str, Benchmark] = {}
    for benchmark in benchmarks:
        if benchmark.failed or benchmark.problem is not None:
            why = benchmark.problem or f"{len(benchmark.failed)} samples failed"
            raise DataError(
                f"{benchmark.source}: {benchmark.name} failed ({why}); accept a whole run"
            )
        name = re.sub(r"[^\w.-]+", "-", benchmark.name).strip("-.") + ".json"
        if name in files:
            raise DataError(
                f"{files[name].source} and {benchmark.source} both hold {benchmark.name}; "
                "accept them into different folders (--to)"
            )
        files[name] = benchmark
    return files


def _refuse_degraded(benchmarks: Sequence[Benchmark]) -> None:
    for benchmark in benchmarks:
        lost = benchmark.degraded
        if lost:
            shown = ", ".join(lost[:3]) + (f" and {len(lost) - 3} more" if len(lost) > 3 else "")
            raise DataError(
                f"{benchmark.source}: in {benchmark.name} {len(lost)} of {len(benchmark.samples)} samples "
                f"lost the cloud ({shown}), so it measured the edge alone there; run them again with "
                "--resume, or accept them as they are with --allow-degraded"
            )


def _others(folder: Path, files: Mapping[str, Any]) -> list[Path]:
    return [path for path in json_files(folder) if path.name not in files]


def _lines(content: Mapping[str, Any]) -> str:
    """JSON with one line a field of the first two levels: small, and readable as a difference."""
    parts = []
    for key, value in content.items():
        if isinstance(value, dict) and value:
            inner = ",\n".join(f"  {_dump(k)}: {_dump(v)}" for k, v in value.items())
            parts.append(f" {_dump(key)}: {{\n{inner}\n }}")
        else:
            parts.append(f" {_dump(key)}: {_dump(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
