"""Options of pytest-benchmark in bench: each works, or is refused before anything starts, with the reason."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark import plugin
from pytest_benchmark.storage.file import FileStorage
from pytest_benchmark.utils import get_machine_id

from edgecloud.errors import DataError
from edgecloud.textfiles import read_json

__all__ = [
    "NO_EFFECT",
    "WORKING",
    "check_compared",
    "check_options",
    "defaults",
    "settle_comparison",
    "written_folders",
]

_ROUNDS = "a row has one round a sample (--max-samples), after --warmup requests"
_REPLAYED = "rows repeat the times that a run took itself, and there is nothing left to profile"
NO_EFFECT = {
    "benchmark_min_time": _ROUNDS,
    "benchmark_max_time": _ROUNDS,
    "benchmark_min_rounds": _ROUNDS,
    "benchmark_precision": _ROUNDS,
    "benchmark_confidence": _ROUNDS,
    "benchmark_calibration_precision": _ROUNDS,
    "benchmark_warmup": _ROUNDS,
    "benchmark_warmup_iterations": _ROUNDS,
    "benchmark_timer": "the clock of a run is chosen by --clock",
    "benchmark_disable_gc": "the collector is on in the processes that are timed",
    "benchmark_cprofile": _REPLAYED,
    "benchmark_cprofile_loops": _REPLAYED,
    "benchmark_cprofile_top": _REPLAYED,
    "benchmark_cprofile_dump": _REPLAYED,
}
"""Options that would change nothing, and why."""
WORKING = (
    "benchmark_skip",  # with --benchmark-only, which overrides it; alone it is refused
    "benchmark_disable",  # the same with --benchmark-enable
    "benchmark_enable",
    "benchmark_only",
    "benchmark_save",
    "benchmark_autosave",
    "benchmark_save_data",
    "benchmark_json",
    "benchmark_compare",
    "benchmark_compare_fail",
    "benchmark_storage",
    "benchmark_netrc",
    "benchmark_verbose",
    "benchmark_quiet",
    "benchmark_sort",
    "benchmark_group_by",
    "benchmark_columns",
    "benchmark_name",
    "benchmark_time_unit",
    "benchmark_histogram",
)


_NUMBERED = "[0-9][0-9][0-9][0-9]_"
_STATISTICS = ("min", "max", "mean", "stddev", "median", "iqr", "rounds", "iterations")
"""What the tables of the plugin read of an earlier run."""


class _Defaults:
    """In the place of pytest's parser: what the plugin adds to it."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def getgroup(self, name: str) -> _Defaults:
        return self

    def addoption(self, *flags: str, **extra: Any) -> None:
        default, kind = extra.get("default"), extra.get("type")
        if isinstance(default, str) and kind is not None:
            default = kind(default)
        if extra.get("action") == "store_true":
            default = False
        name = extra.get("dest") or flags[0].lstrip("-").replace("-", "_")
        self.found[name] = default


def defaults() -> dict[str, Any]:
    """Every option of the plugin that is installed, with its default."""
    parser = _Defaults()
    plugin.pytest_addoption(parser)
    return parser.found


def check_options(config: pytest.Config) -> None:
    """Refuse what has no effect, and what would fail only at the end. Raises ``pytest.UsageError``."""
    standard = defaults()
    for name, reason in NO_EFFECT.items():
        if config.getoption(name) != standard[name]:
            raise pytest.UsageError(f"{_flag(name)} has no effect in bench: {reason}")
    if config.getoption("benchmark_skip") and not config.getoption("benchmark_only"):
        raise pytest.UsageError("bench has nothing to do under --benchmark-skip: leave it out")
    if config.getoption("benchmark_compare_fail") and not config.getoption("benchmark_compare"):
        raise pytest.UsageError("--benchmark-compare-fail needs --benchmark-compare")
    if config.getoption("benchmark_histogram") and find_spec("pygal") is None:
        raise pytest.UsageError(
            "--benchmark-histogram needs pygal: pip install 'pytest-benchmark[histogram]'"
        )
    for grouping in config.getoption("benchmark_group_by").split(","):
        kind, _, name = grouping.partition(":")
        if kind == "param" and name not in ("", "arm"):
            raise pytest.UsageError(
                f"--benchmark-group-by {grouping}: the parameter of a row is arm, so param:arm"
            )
    _check_storage(config.getoption("benchmark_storage"))


def _check_storage(uri: str) -> None:
    if "://" not in uri or uri.startswith("file://"):
        return
    if not uri.startswith("elasticsearch+"):
        raise pytest.UsageError(
            f"--benchmark-storage {uri}: give a folder, file://FOLDER or elasticsearch+https://…"
        )
    if find_spec("elasticsearch") is None:
        raise pytest.UsageError(
            "--benchmark-storage elasticsearch+… needs its client: "
            "pip install 'pytest-benchmark[elasticsearch]'"
        )


def check_compared(config: pytest.Config) -> None:
    """Refuse files of ``--benchmark-compare`` that cannot be compared with; the plugin would find out when all
    has run. Raises ``pytest.UsageError``."""
    compare, uri = (config.getoption(f"benchmark_{name}") for name in ("compare", "storage"))
    if not compare or uri.startswith("elasticsearch+"):
        return
    storage = FileStorage(
        uri.removeprefix("file://"), logger=None, default_machine_id=get_machine_id()
    )
    try:
        # As the plugin does: of earlier runs the last one.
        files = storage.query(_NUMBERED)[-1:] if compare is True else storage.query(compare)
        for file in files:
            wrong = _unusable(read_json(file, what="benchmark file", error=DataError))
            if wrong is not None:
                raise DataError(
                    f"benchmark file {file}: {wrong}; give one that pytest-benchmark wrote"
                )
    except (DataError, ValueError) as error:
        raise pytest.UsageError(f"--benchmark-compare: {error}") from None


def _unusable(content: Any) -> str | None:
    """The reason why a benchmark file cannot be compared with; ``None``: it can."""
    rows = content.get("benchmarks") if isinstance(content, dict) else None
    if not isinstance(rows, list):
        return "it has no list of benchmarks"
    for place, row in enumerate(rows):
        if not isinstance(row, dict) or not isinstance(row.get("fullname"), str):
            return f"benchmarks[{place}] has no fullname"
        stats = row.get("stats")
        if not isinstance(stats, dict):
            return f"benchmarks[{place}] has no stats"
        for name in _STATISTICS:
            value = stats.get(name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                return f"benchmarks[{place}].stats.{name} is not a number"
    return None


def written_folders(config: pytest.Config) -> dict[str, Path]:
    """By flag, the folders that the plugin writes into when all is done."""
    found: dict[str, Path] = {}
    if config.getoption("benchmark_json") is not None:
        found["--benchmark-json"] = Path(config.getoption("benchmark_json")).parent
    uri = config.getoption("benchmark_storage")
    saves = config.getoption("benchmark_save") or config.getoption("benchmark_autosave")
    if saves and not uri.startswith("elasticsearch+"):
        found["--benchmark-storage"] = Path(uri.removeprefix("file://"))
    prefix = config.getoption("benchmark_histogram")
    if prefix:
        first = prefix[0] if isinstance(prefix, list | tuple) else prefix
        found["--benchmark-histogram"] = Path(str(first)).parent
    return found


def settle_comparison(config: pytest.Config) -> list[str]:
    """What to tell of a comparison with nothing. A first run, which has no earlier file yet, is held to
    no ``--benchmark-compare-fail``; a run that is named must be there.

    Raises ``pytest.UsageError``.
    """
    session: Any = config._benchmarksession  # type: ignore[attr-defined]
    if not session.compare or session.compared_mapping:
        return []
    if session.compare is not True:
        raise pytest.UsageError(
            f"--benchmark-compare {session.compare}: no such run in {session.storage}"
        )
    unheld = "; --benchmark-compare-fail has nothing to hold it to" if session.compare_fail else ""
    session.compare_fail = []
    return [f"there is no earlier run in {session.storage} to compare with{unheld}"]


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
