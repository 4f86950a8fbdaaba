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
from edgecloud.measure.environment import run_block
from edgecloud.measure.files import put
from edgecloud.measure.gating.compact import to_baseline
from edgecloud.measure.gating.model import Benchmark
from edgecloud.measure.gating.reading import read

__all__ = ["HISTORY", "Accepted", "accept"]

HISTORY = "history.jsonl"
"""One line an acceptance, oldest first, beside the baselines."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The files written, and those removed because their benchmark is gone."""

    written: tuple[Path, ...]
    removed: tuple[Path, ...]


def accept(paths: Sequence[Path], folder: Path, *, reason: str, prune: bool = False) -> Accepted:
    """Make the benchmarks in ``paths`` (files or folders) the baselines in ``folder``.

    ``prune`` removes the baselines of other benchmarks, as after one was renamed or dropped.

    Raises:
        DataError: nothing to accept, a broken file, a failed run, no reason, or two of one name.
        OutputError: ``folder`` cannot be written.
    """
    if not reason.strip():
        raise DataError("an accepted baseline needs a reason: --reason 'why it changed'")
    benchmarks = [benchmark for path in paths for benchmark in read(path)]
    files = _file_names(benchmarks)
    here = run_block()
    accepted = {
        "reason": reason.strip(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": here["commit"],
        "dirty": here["dirty"],
    }
    gone = _others(folder, files) if prune else []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, benchmark in files.items():
            put(folder / name, _lines(to_baseline(benchmark, accepted)).encode())
        for path in gone:
            path.unlink()
        line = {**accepted, "accepted": sorted(files), "removed": [path.name for path in gone]}
        with (folder / HISTORY).open("a", encoding="utf-8", newline="\n") as history:
            history.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
    except OSError as error:
        raise OutputError(
            f"cannot write baselines into {folder}: {error.strerror or error}; choose another --to"
        ) from error
    return Accepted(tuple(folder / name for name in files), tuple(gone))


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


def _others(folder: Path, files: Mapping[str, Any]) -> list[Path]:
    return [path for path in sorted(folder.glob("*.json")) if path.name not in files]


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
