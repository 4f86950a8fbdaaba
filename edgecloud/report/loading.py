"""Result files back into memory, and which of them belong together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from edgecloud.errors import DataError
from edgecloud.results.result import Result, read_result
from edgecloud.textfiles import json_files

__all__ = ["load_results", "result_files", "select_this_run"]


def load_results(paths: Iterable[str | Path]) -> list[Result]:
    """The results in these files; a folder stands for every ``*.json`` in it.

    Raises:
        DataError: there are none, or some cannot be read or are no results of this version; a line for
            each of those.
    """
    files = result_files(paths)
    if not files:
        raise DataError("there are no result files; run the experiments first: pytest bench")
    results: list[Result] = []
    problems: list[str] = []
    for file in files:
        try:
            results.append(read_result(file))
        except DataError as error:
            problems.append(" ".join(str(error).split()))
    if problems:
        raise DataError("\n".join(problems))
    return results


def result_files(paths: Iterable[str | Path]) -> list[Path]:
    """The files that paths stand for: a folder for its ``*.json``, anything else for itself."""
    files: list[Path] = []
    for path in map(Path, paths):
        try:
            files += json_files(path) if path.is_dir() else [path]
        except (OSError, ValueError):  # no right to look, or no path at all: reading it says so
            files.append(path)
    return files


def select_this_run(results: Sequence[Result], run_id: str) -> list[Result]:
    """Those that one invocation wrote: their ``run.run_id`` is the same.

    Raises:
        DataError: there is none.
    """
    chosen = [result for result in results if result.run.run_id == run_id]
    if not chosen:
        raise DataError(f"none of {len(results)} results is of this run ({run_id})")
    return chosen
