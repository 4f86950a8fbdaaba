"""How often the gate is wrong on simulated noise: 5% spread, 3% outliers of 4×, 30 samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecloud.regression.decide import Comparison, decide, row_level
from edgecloud.regression.intervals import (
    mean_interval,
    median_interval,
    two_medians_interval,
)
from edgecloud.regression.model import Benchmark, Check
from edgecloud.regression.tolerances import Policy
from tests.regression.gate_cases import noise

TRIALS, SAMPLES, ROWS = 1000, 30, 9
"""A pytest-benchmark file of the three experiments has nine rows: total time, TTFT, TPOT of each."""
POLICY = Policy()


def above_tolerance(
    rng: np.random.Generator, shape: tuple[int, ...], slowdown: float
) -> np.ndarray:
    """Which rows the gate calls slower, of ``shape`` rows of 30 noisy pairs."""
    rows = (*shape, SAMPLES)
    ratios = np.log(slowdown * noise(rng, rows) / noise(rng, rows))
    level = row_level(POLICY.wall_level, ROWS)
    low, _ = median_interval(ratios, level=level, resamples=POLICY.wall_resamples)
    called: np.ndarray = low > np.log1p(POLICY.wall_tolerance)
    return called


def test_false_alarms_come_in_fewer_than_one_of_a_hundred_files() -> None:
    called = above_tolerance(np.random.default_rng(11), (TRIALS, ROWS), 1.0)
    assert called.any(axis=1).mean() < 0.01


def test_a_slowdown_of_a_fifth_in_one_row_is_caught_in_over_99_of_100_files() -> None:
    called = above_tolerance(np.random.default_rng(12), (TRIALS, 1), 1.2)
    assert called.any(axis=1).mean() > 0.99


def test_the_rule_that_is_simulated_is_the_one_the_gate_decides_by() -> None:
    rng = np.random.default_rng(13)
    benchmark = Benchmark(name="x", kind="result", source=None, modelled=False, times={})  # type: ignore[arg-type]
    level = row_level(POLICY.wall_level, ROWS)
    for slowdown in np.linspace(1.0, 1.25, 20):
        old, new = noise(rng, SAMPLES), slowdown * noise(rng, SAMPLES)
        comparison = Comparison(benchmark, "ttft", False, "paired", old, new)
        low, _ = median_interval(np.log(new / old), level=level, resamples=POLICY.wall_resamples)
        verdict = decide(comparison, POLICY, level=level).verdict
        assert (verdict == "regression") == bool(low > np.log1p(POLICY.wall_tolerance))


@pytest.mark.parametrize("samples", [6, 10, SAMPLES])
def test_a_slowdown_of_a_tenth_is_hardly_ever_called_the_same(samples: int) -> None:
    rng = np.random.default_rng(16)
    rows = (TRIALS, samples)
    ratios = np.log(1.1 * noise(rng, rows) / noise(rng, rows))
    level = row_level(POLICY.wall_level, ROWS)
    _, high = median_interval(ratios, level=level, resamples=POLICY.wall_resamples)
    assert (high <= np.log1p(POLICY.wall_tolerance)).mean() < 0.02


def compared(rng: np.random.Generator, samples: int, slowdown: float) -> Check:
    benchmark = Benchmark(name="x", kind="result", source=None, modelled=False, times={})  # type: ignore[arg-type]
    old = np.exp(rng.normal(0.0, 0.05, samples))
    new = slowdown * np.exp(rng.normal(0.0, 0.05, samples))
    comparison = Comparison(benchmark, "ttft", False, "paired", old, new)
    return decide(comparison, POLICY, level=row_level(POLICY.wall_level, ROWS))


@pytest.mark.parametrize("slowdown", [1.0, 1.1])
def test_as_many_more_rounds_as_are_named_decide_most_rows(slowdown: float) -> None:
    """Where the truth is as estimated, nineteen in twenty; over all undecided rows, whose estimates lie too
    near the tolerance by chance, the number named is rather too large."""
    rng = np.random.default_rng(17)
    rows = [compared(rng, 10, slowdown) for _ in range(150)]
    named = [row.more for row in rows if row.verdict == "undecided" and row.more is not None]
    assert len(named) > 50
    middle = int(np.median(named))
    assert 5 < middle < 200
    again = [compared(rng, 10 + middle, slowdown).verdict for _ in range(150)]
    wanted = "same" if slowdown == 1.0 else "regression"
    assert again.count(wanted) / len(again) > 0.7


def test_rows_at_the_tolerance_itself_name_no_number_of_rounds() -> None:
    benchmark = Benchmark(name="x", kind="result", source=None, modelled=False, times={})  # type: ignore[arg-type]
    new = np.exp(np.log1p(POLICY.wall_tolerance) + np.linspace(-0.1, 0.1, 201))
    found = decide(
        Comparison(benchmark, "ttft", False, "paired", np.ones(new.size), new),
        POLICY,
        level=0.99,
    )
    assert (found.verdict, found.more) == ("undecided", None)
    assert "no number of rounds" in found.message


def test_a_few_noisy_rounds_at_the_tolerance_name_a_number_that_tells_no_change_from_it() -> None:
    benchmark = Benchmark(name="x", kind="result", source=None, modelled=False, times={})  # type: ignore[arg-type]
    new = np.exp(np.log1p(POLICY.wall_tolerance) + np.linspace(-0.1, 0.1, 11))
    found = decide(
        Comparison(benchmark, "ttft", False, "paired", np.ones(new.size), new),
        POLICY,
        level=0.99,
    )
    assert found.verdict == "undecided"
    assert found.more is not None
    assert 40 < found.more < 120


@pytest.mark.parametrize("n", [2, 3, 6, 31])
def test_medians_drawn_by_their_places_are_those_of_samples_drawn_anew(n: int) -> None:
    """How often each value, or mean of two, is the median of a new sample."""
    rows, draws = 2.0 ** np.arange(n), 40_000
    rng = np.random.default_rng(18)
    anew = np.median(rows[rng.integers(0, n, size=(draws, n))], axis=-1)
    for share in (0.01, 0.1, 0.3, 0.5, 0.8, 0.98):
        low, high = median_interval(rows, level=1 - 2 * min(share, 1 - share), resamples=draws)
        end = low if share <= 0.5 else high
        below, at = np.mean(anew < end), np.mean(anew <= end)
        assert below - 0.01 <= share <= at + 0.01


def test_many_rows_at_once_give_the_intervals_of_each_alone() -> None:
    rows = np.random.default_rng(14).normal(size=(3, 12))
    together = median_interval(rows, level=0.95, resamples=500)
    for index, row in enumerate(rows):
        alone = median_interval(row, level=0.95, resamples=500)
        assert [ends[index] for ends in together] == pytest.approx([float(end) for end in alone])


def test_unpaired_sides_of_calibrated_benchmarks_are_told_apart_too() -> None:
    rng = np.random.default_rng(15)
    old, new = np.log(noise(rng, (200, SAMPLES))), np.log(noise(rng, (200, SAMPLES)))
    low, _ = two_medians_interval(new, old, level=row_level(0.95, ROWS), resamples=500)
    assert (low > np.log1p(0.05)).mean() < 0.01
    low, _ = two_medians_interval(
        new + np.log(1.2), old, level=row_level(0.95, ROWS), resamples=500
    )
    assert (low > np.log1p(0.05)).mean() > 0.95


@settings(max_examples=25)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=30), st.integers(1, 20))
def test_intervals_lie_within_the_values_and_widen_with_the_rows(
    values: list[float], rows: int
) -> None:
    data = np.array(values)
    for interval in (median_interval, mean_interval):
        low, high = interval(data, level=0.9, resamples=200)
        lower, higher = interval(data, level=row_level(0.9, rows), resamples=200)
        assert data.min() - 1e-9 <= lower <= low <= high <= higher <= data.max() + 1e-9
