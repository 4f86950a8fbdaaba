"""Result files back into memory, and which of them belong together."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from edgecloud.errors import DataError
from edgecloud.measure.results import SCHEMA

__all__ = ["load_results", "select_this_run"]

Result = dict[str, Any]


def load_results(paths: Iterable[str | Path]) -> list[Result]:
    """The results in these files; a folder stands for every ``*.json`` in it.

    Raises:
        DataError: a path does not exist, cannot be read, or is no result of this version.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            files += sorted(path.glob("*.json"))
        else:
            files.append(path)
    if not files:
        raise DataError("there are no result files; run the experiments first: pytest bench")
    return [_load(path) for path in files]


def select_this_run(results: Sequence[Result], run_id: str) -> list[Result]:
    """Those that one invocation wrote: their ``run.run_id`` is the same.

    Raises:
        DataError: there is none.
    """
    chosen = [result for result in results if result["run"].get("run_id") == run_id]
    if not chosen:
        raise DataError(f"none of {len(results)} results is of this run ({run_id})")
    return chosen


def _load(path: Path) -> Result:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"result file {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"result file {path} is not JSON: {error}") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise DataError(f"{path} is not a result file of this version ({SCHEMA})")
    return content
