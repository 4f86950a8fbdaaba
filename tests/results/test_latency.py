"""Latency: hand-worked values, and what holds for every trace."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecloud.contracts import CloudCost, Commit, Features, Finish, Generate, Prefill, Trace
from edgecloud.results.latency import LATENCY_NAMES, latency
from tests.results.synthetic import trace as rows

traces = st.builds(
    lambda mode, seed, k, length: Trace.from_json(rows(mode, seed=seed, k=k, length=length)),
    st.sampled_from(["edge", "cloud", "spec"]),
    st.integers(0, 10_000),
    st.integers(1, 8),
    st.integers(1, 30),
)


def test_a_speculative_request_worked_by_hand() -> None:
    trace = Trace(
        (
            Features(0.0, 0.1),
            Prefill(0.1, 0.6, "edge", 50),
            Commit(1.0, 1.0, (5, 6, 7), ("edge",) * 3),
            Commit(1.5, 1.5, (8,), ("edge",)),
            Commit(2.5, 2.5, (9, 2), ("verified", "bonus")),
            Finish(2.5, 2.6, "end_of_text"),
        )
    )
    found = latency(trace, audio_s=5.2, input_tokens=50)
    assert found.ttft == 1.0
    assert found.total_time == 2.6
    assert found.prefill_time == pytest.approx(0.5)
    assert found.itps == pytest.approx(100.0)
    assert found.oet == 1.5
    assert found.otps == pytest.approx(6 / 2.5)
    assert found.tpot == pytest.approx(1.5 / 3)
    assert found.block_gap == (0.5, 1.0)
    assert found.tokens_per_block == (3, 1, 2)
    assert found.rtf == pytest.approx(0.5)
    assert found.reasons == {}


def test_one_commit_has_no_time_per_token_and_says_why() -> None:
    trace = Trace(
        (
            Commit(1.0, 1.0, (2,), ("edge",)),
            Finish(1.0, 1.1),
        )
    )
    found = latency(trace)
    assert found.tpot is None
    assert "first commit" in found.reasons["tpot"]
    assert found.oet == 0.0


def test_an_empty_trace_is_all_nulls_with_reasons() -> None:
    found = latency(Trace(()))
    assert all(getattr(found, name) is None for name in LATENCY_NAMES)
    assert set(found.reasons) >= set(LATENCY_NAMES)


@settings(deadline=None)
@given(traces)
def test_times_are_ordered_and_blocks_add_up(trace: Trace) -> None:
    found = latency(trace, audio_s=3.0, input_tokens=60)
    assert 0 < found.ttft <= found.ttft + found.oet <= found.total_time
    assert sum(found.block_gap) == pytest.approx(found.oet)
    assert sum(found.tokens_per_block) == found.output_tokens
    assert 0 < found.prefill_time < found.ttft
    for name in LATENCY_NAMES:
        assert (getattr(found, name) is None) == (name in found.reasons)
    if found.tpot is not None:
        after_first = found.output_tokens - found.tokens_per_block[0]
        assert found.tpot * after_first == pytest.approx(found.oet)


def streamed(*, came_s: float, made_s: float, count: int = 6) -> Trace:
    """A stream of the cloud: ``count`` tokens, each made in ``made_s`` and ``came_s`` after the last."""
    events: list[Any] = [Prefill(0.0, 0.1, "cloud", 50)]
    for number in range(count):
        at = 0.1 + number * came_s
        cost = CloudCost(busy_s=0.1 if number == 0 else made_s)
        events.append(Generate(max(0.0, at - came_s), at, (number,), cost))
        events.append(Commit(at, at, (number,), ("cloud",)))
    events.append(Finish(at, at, "end_of_text"))
    return Trace(tuple(sorted(events, key=lambda event: event.start_s)))


def test_tokens_that_came_together_have_no_tpot_and_the_sample_is_flagged() -> None:
    found = latency(streamed(came_s=0.00001, made_s=0.0014))
    assert found.delivered_late is True
    assert found.tpot is None
    assert "although the cloud was busy with them for 7.0 ms" in found.reasons["tpot"]
    assert found.ttft == pytest.approx(0.1)


@pytest.mark.parametrize("came_s", [0.00135, 0.0014, 0.002])
def test_tokens_that_came_as_they_were_made_have_a_tpot(came_s: float) -> None:
    found = latency(streamed(came_s=came_s, made_s=0.0014))
    assert found.delivered_late is False
    assert found.tpot == pytest.approx(came_s)
