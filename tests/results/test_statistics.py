"""Summaries, histograms and paired comparisons."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecloud.results import statistics
from edgecloud.results.histogram import EDGES_S, histogram
from edgecloud.results.percentiles import drift, summarize
from edgecloud.results.statistics import (
    Interval,
    gap_closed,
    mean_difference,
    mean_ratio,
    median_log_ratio,
)

numbers = st.floats(0.0, 1e6)


def test_the_99th_percentile_needs_100_samples() -> None:
    few, reasons = summarize([1.0] * 99, "ttft")
    assert few["ttft_p99"] is None
    assert "100" in reasons["ttft_p99"]
    many, none = summarize([float(n) for n in range(100)], "ttft")
    assert many["ttft_p99"] == pytest.approx(98.01)
    assert none == {}


def test_missing_values_are_left_out_and_no_value_is_null_with_a_reason() -> None:
    found, _ = summarize([None, 2.0, 4.0], "tpot")
    assert found["tpot_mean"] == 3.0
    empty, reasons = summarize([None, None], "tpot")
    assert set(empty.values()) == {None}
    assert set(reasons) == set(empty)


@settings(deadline=None)
@given(st.lists(numbers, min_size=1, max_size=150))
def test_statistics_are_ordered(values: list[float]) -> None:
    found, _ = summarize(values, "x")
    low, mid, high, top = (found[f"x_{name}"] for name in ("min", "p50", "p90", "max"))
    assert low is not None
    assert mid is not None
    assert high is not None
    assert top is not None
    assert low <= mid <= high <= top
    assert low <= (found["x_mean"] or 0.0) <= top


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), numbers), max_size=60))
def test_a_histogram_loses_nothing(values: list[float | None]) -> None:
    found = histogram(values)
    total = sum(found.counts) + found.below + found.above
    assert total == sum(value is not None for value in values)
    assert len(found.counts) == len(found.edges_s) - 1


def test_histogram_edges_are_frozen_and_rising() -> None:
    assert (EDGES_S[0], EDGES_S[10], EDGES_S[-1], len(EDGES_S)) == (0.0001, 0.001, 1000.0, 71)
    assert list(EDGES_S) == sorted(set(EDGES_S))
    assert histogram([0.001]).counts[10] == 1


def test_a_constant_difference_has_a_closed_interval() -> None:
    found = mean_difference([3.0, 4.0, 5.0], [1.0, 2.0, 3.0])
    assert (found.estimate, found.low, found.high, found.n) == (2.0, 2.0, 2.0, 3)
    assert not found.includes_zero


def test_a_fifth_slower_is_seen_through_noise_and_outliers() -> None:
    draw = np.random.default_rng(1)
    base = draw.lognormal(0.0, 0.5, 40)
    slower = base * 1.2 * draw.lognormal(0.0, 0.05, 40)
    slower[3] *= 4
    found = median_log_ratio(list(slower), list(base))
    assert found.estimate == pytest.approx(math.log(1.2), abs=0.03)
    assert not found.includes_zero


def test_the_bootstrap_is_repeatable() -> None:
    draw = np.random.default_rng(2)
    a, b = list(draw.normal(size=30)), list(draw.normal(size=30))
    assert mean_difference(a, b) == mean_difference(a, b)


def test_half_of_the_gap_closed_is_one_half() -> None:
    draw = np.random.default_rng(3)
    edge = draw.normal(size=50)
    found = gap_closed(list(edge), list(edge + 0.5), list(edge + 1.0))
    assert found.estimate == pytest.approx(0.5)
    assert found.low == pytest.approx(0.5)


def test_no_gap_means_none_closed_with_a_reason() -> None:
    draw = np.random.default_rng(4)
    edge, spec, cloud = (list(draw.normal(size=30)) for _ in range(3))
    found = gap_closed(edge, spec, cloud)
    assert found.estimate is None
    assert found.reason is not None


def test_one_pair_gives_no_interval_and_none_gives_no_estimate() -> None:
    assert mean_difference([1.0], [0.0]).low is None
    assert mean_difference([], []).estimate is None
    with pytest.raises(ValueError, match="differ in number"):
        mean_difference([1.0], [])


def test_drift_compares_the_halves_of_a_run_and_is_unknown_for_a_few_samples() -> None:
    assert drift([2.0] * 5 + [3.0] * 5)["second_half_over_first"] == 1.5
    assert drift([1.0] * 7) == {"second_half_over_first": None, "n": 7}


def _at_once(statistic: str, columns: list[np.ndarray]) -> tuple[float, float]:  # type: ignore[type-arg]
    """The ends of the interval as one draw of all indices gives them."""
    n = columns[0].size
    drawn = np.random.default_rng(0).integers(0, n, size=(statistics.RESAMPLES, n))
    rows = [column[drawn] for column in columns]
    found = {
        "mean": lambda: np.mean(rows[0], axis=-1),
        "median": lambda: np.median(rows[0], axis=-1),
        "ratio": lambda: np.mean(rows[0], axis=-1) / np.mean(rows[1], axis=-1),
    }[statistic]()
    low, high = np.nanquantile(found, [tail := (1.0 - 0.95) / 2.0, 1.0 - tail])
    return float(low), float(high)


@pytest.mark.parametrize("digits", [1, 17])
@pytest.mark.parametrize("n", [2, 63, 1000])
def test_resamples_in_blocks_give_the_very_intervals_of_all_at_once(n: int, digits: int) -> None:
    draw = np.random.default_rng(n)
    a, b, c = (draw.random(n).round(digits) + shift for shift in (0.1, 0.6, 5.0))

    def ends(found: Interval) -> tuple[float | None, float | None]:
        return found.low, found.high

    assert ends(mean_difference(list(a), list(b))) == _at_once("mean", [a - b])
    assert ends(median_log_ratio(list(a), list(b))) == _at_once("median", [np.log(a / b)])
    assert ends(mean_ratio(list(a), list(b))) == _at_once("ratio", [a, b])
    assert ends(gap_closed(list(a), list(b), list(c))) == _at_once("ratio", [b - a, c - a])


def test_the_interval_of_the_same_values_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [float(number) for number in range(1, 40)]
    first = mean_difference(values, [0.5] * 39)
    monkeypatch.setattr(np.random, "default_rng", None)
    assert mean_difference(values, [0.5] * 39) is first
    with pytest.raises(TypeError):
        mean_difference(values[1:], [0.5] * 38)


def test_intervals_that_share_their_resamples_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    values, others = np.random.default_rng(1).random((2, 70)).tolist()
    shared = [mean_difference(values, others), mean_ratio(values, others)]
    monkeypatch.setattr(statistics, "_MOST_SHARED", 0)
    monkeypatch.setattr(statistics, "_KEPT", {})
    assert [mean_difference(values, others), mean_ratio(values, others)] == shared
