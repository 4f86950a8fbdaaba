"""The one place that knows how pytest-benchmark keeps its rows.

The experiment has been run and its samples timed when this comes in; the times are replayed, so that
``stats.data[i]`` is sample ``i``. pytest-benchmark is not typed, so its fixture is ``Any`` here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pytest_benchmark import stats

if TYPE_CHECKING:
    import pytest

__all__ = ["GROUP", "REPLAY", "ReplayTimer", "add_no_row", "add_rows"]

GROUP = "total_time"


class ReplayTimer:
    """A timer whose successive pairs of readings are the given durations apart, exactly."""

    __name__ = "replay"

    def __init__(self) -> None:
        self._readings: list[float] = []

    def load(self, durations_s: Sequence[float]) -> None:
        """Start over with these durations, in seconds."""
        self._readings = [reading for value in reversed(durations_s) for reading in (value, 0.0)]

    def __call__(self) -> float:
        return self._readings.pop()


REPLAY = ReplayTimer()
"""For ``@pytest.mark.benchmark(timer=REPLAY)``: suites run one after another in one process."""


def add_rows(
    benchmark: Any,
    config: pytest.Config,
    *,
    total_times: Sequence[float],
    others: dict[str, tuple[Sequence[str], Sequence[float]]],
    extra_info: dict[str, Any],
) -> None:
    """Record a row of total times, one value a sample, and a row for each of ``others``.

    ``others`` maps a quantity (``ttft``) to the ids of the samples that have it and their values in
    seconds. Without a single value there is no row.
    """
    benchmark.extra_info.update(extra_info)
    if not total_times:
        add_no_row(benchmark)
        return
    REPLAY.load(total_times)
    benchmark.pedantic(_nothing, rounds=len(total_times), iterations=1)
    for quantity, (sample_ids, values) in others.items():
        if values:
            shared = ("mode", "language", "outcome")
            info: dict[str, Any] = {key: extra_info[key] for key in shared if key in extra_info}
            info["sample_ids"] = list(sample_ids)
            _extra_row(benchmark, config, quantity, values, info)


def add_no_row(benchmark: Any) -> None:
    """Leave no row. The fixture warns when it was not used, so it is used without timing."""
    benchmark.disabled = True
    benchmark.pedantic(_nothing)


def _nothing() -> None:
    """What is timed by the replay."""


def _extra_row(
    benchmark: Any,
    config: pytest.Config,
    quantity: str,
    values: Sequence[float],
    extra_info: dict[str, Any],
) -> None:
    """A row of its own for one more quantity of the same run, as first-class as the test's own.

    Half-private interface of pytest-benchmark 5; the project pins it below 6.
    """
    new_row: Any = stats.Metadata
    row = new_row(benchmark, iterations=1, options=dict(benchmark.stats.options))
    row.name = _renamed(benchmark.name, quantity)
    path, separator, name = benchmark.fullname.rpartition("::")
    row.fullname = f"{path}{separator}{_renamed(name, quantity)}"
    row.group = quantity
    row.extra_info = extra_info
    for value in values:
        row.stats.update(value)
    config._benchmarksession.benchmarks.append(row)  # type: ignore[attr-defined]


def _renamed(name: str, quantity: str) -> str:
    """``test_edge[chinese-default]`` → ``test_edge_ttft[chinese-default]``."""
    function, bracket, rest = name.partition("[")
    return f"{function}_{quantity}{bracket}{rest}"
