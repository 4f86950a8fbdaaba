"""Speculation and cost: hand-worked values, and what holds for every trace."""

from __future__ import annotations

from dataclasses import fields
from operator import mul

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecloud.contracts import Commit, Draft, Trace, Verify
from edgecloud.results.cost import COST_NAMES, cost
from edgecloud.results.speculation import COUNT_NAMES, RATE_NAMES, pool, speculation
from tests.results.synthetic import trace as rows

LENGTHS = ("mean_acceptance_length", "acceptance_by_position")
seeds, ks, lengths = st.integers(0, 10_000), st.integers(1, 8), st.integers(1, 30)


def made(mode: str, seed: int = 0, k: int = 3, length: int = 12) -> Trace:
    return Trace.from_json(rows(mode, seed=seed, k=k, length=length))


def test_three_rounds_worked_by_hand() -> None:
    """Local, corrected after one token, wholly kept with a bonus: 2 calls in 3 rounds."""
    trace = Trace(
        (
            Draft(0, 1, (1, 2, 3), escalated=False),
            Commit(1, 1, (1, 2, 3), ("edge", "edge", "edge")),
            Draft(1, 2, (4, 5, 6), escalated=True),
            Verify(2, 3, drafted=3, kept=1, token=9),
            Commit(3, 3, (4, 9), ("verified", "corrected")),
            Draft(3, 4, (7, 8), escalated=True),
            Verify(4, 5, drafted=2, kept=2, token=11),
            Commit(5, 5, (7, 8, 11), ("verified", "verified", "bonus")),
        )
    )
    found = speculation(trace, k=3)
    assert (found.draft_rounds, found.cloud_calls) == (3, 2)
    assert (found.drafted, found.verified, found.accepted) == (8, 5, 3)
    assert found.cloud_call_rate == pytest.approx(2 / 3)
    assert found.acceptance_rate == pytest.approx(6 / 8)
    assert found.verified_acceptance_rate == pytest.approx(3 / 5)
    assert found.correction_rate == 0.5
    assert found.useful_call_rate == 1.0
    assert found.cloud_token_share == pytest.approx(2 / 8)
    assert found.accept_histogram == (0, 1, 1, 0)
    # Two drafts had a second token, of which one was kept; one had a third, which was not.
    assert (found.verified_by_position, found.acceptance_by_position) == (
        (2, 2, 1),
        (1.0, 0.5, 0.0),
    )
    assert found.mean_acceptance_length == 5 / 2


def test_a_call_that_only_confirms_the_end_is_not_useful() -> None:
    trace = Trace(
        (
            Draft(0, 1, (1, 2), escalated=True),
            Verify(1, 2, drafted=2, kept=2, token=None),
            Commit(2, 2, (1, 2), ("verified", "verified")),
        )
    )
    found = speculation(trace, k=2)
    assert (found.correction_rate, found.useful_call_rate) == (0.0, 0.0)
    assert found.mean_acceptance_length == 2.0


@pytest.mark.parametrize(("mode", "share"), [("edge", 0.0), ("cloud", 1.0)])
def test_without_speculation_rates_are_null_and_the_share_is_known(mode: str, share: float) -> None:
    found = speculation(made(mode), k=3)
    assert found.cloud_token_share == share
    for name in {*RATE_NAMES, *LENGTHS} - {"cloud_token_share"}:
        assert getattr(found, name) is None
        assert name in found.reasons


@settings(deadline=None)
@given(seeds, ks, lengths)
def test_rates_are_rates_and_counts_add_up(seed: int, k: int, length: int) -> None:
    found = speculation(made("spec", seed, k, length), k=k)
    for name in RATE_NAMES:
        assert getattr(found, name) is None or 0.0 <= getattr(found, name) <= 1.0
        assert (getattr(found, name) is None) == (name in found.reasons)
    assert sum(found.accept_histogram) == found.cloud_calls
    kept = sum(n * count for n, count in enumerate(found.accept_histogram))
    assert kept == found.accepted <= found.verified <= found.drafted
    assert found.reached_output + found.cloud_tokens == found.output_tokens
    by_position = found.acceptance_by_position or ()
    assert sum(found.verified_by_position) == found.verified
    assert sum(map(mul, by_position, found.verified_by_position)) == pytest.approx(found.accepted)


@settings(deadline=None)
@given(st.lists(seeds, min_size=1, max_size=5), ks)
def test_pooled_rates_are_rates_of_the_sums(some: list[int], k: int) -> None:
    each = [speculation(made("spec", seed, k), k=k) for seed in some]
    found = pool(each)
    for name in COUNT_NAMES:
        assert getattr(found, name) == sum(getattr(one, name) for one in each)
    of_calls = sum(one.cloud_calls * (one.mean_acceptance_length or 0.0) for one in each)
    assert (found.mean_acceptance_length or 0.0) * found.cloud_calls == pytest.approx(of_calls)
    if found.draft_rounds:
        assert found.cloud_call_rate == found.cloud_calls / found.draft_rounds


@settings(deadline=None)
@given(seeds, ks, lengths)
def test_costs_are_the_sums_of_the_calls(seed: int, k: int, length: int) -> None:
    trace = made("spec", seed, k, length)
    found = cost(trace)
    assert found.cloud_verified_tokens == speculation(trace, k=k).verified
    assert found.cloud_busy_time == pytest.approx(
        sum(call.cost.busy_s for call in trace.of(Verify))
    )
    assert {entry.name for entry in fields(found)} == {*COST_NAMES, "reasons"}


def test_the_edge_alone_costs_the_cloud_nothing_and_unread_energy_says_why() -> None:
    readings = {"cpu_energy_j": 2.5, "energy_j": None, "reasons": {"energy_j": "no counter"}}
    found = cost(made("edge"), resources=readings)
    assert {getattr(found, name) for name in COST_NAMES} == {0, 2.5, None}
    assert found.reasons == {"energy_j": "no counter"}
