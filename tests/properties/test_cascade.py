"""Cascade and router: each caption is the edge's own or the cloud's own, and is paid for as that."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecloud.contracts import (
    CloudChunk,
    CloudModel,
    CloudSession,
    Degrade,
    Draft,
    Prompt,
    StopLimits,
    Trace,
)
from edgecloud.contracts.sampling import GREEDY, Sampling
from edgecloud.decoding.gates import Thresholds
from edgecloud.decoding.recorded import differing
from edgecloud.decoding.speculative import Speculation
from edgecloud.errors import CloudTimeout, ConfigError
from edgecloud.results.latency import latency
from tests.properties.loop import (
    MODELLED,
    Case,
    cases,
    run_cloud,
    run_edge,
    run_modelled,
    run_recorded,
    run_speculative,
)

GATES = st.sampled_from(["never", "always", "entropy", "margin", "logprob", "mean-logprob"])
SCOPES = st.sampled_from(["start", "caption"])
whole = cases(gate=GATES, gate_scope=SCOPES)


@given(whole)
def test_a_caption_is_the_edges_own_or_the_clouds_own(case: Case) -> None:
    found = run_speculative(case, case.edge(), case.cloud())
    asked = found.trace.of(Draft)[0].escalated
    own = run_cloud(case) if asked else run_edge(case)
    assert (found.tokens, found.stop) == (own.tokens, own.stop)
    assert {*found.origins} == {"cloud" if asked else "edge"}
    if case.settings.gate in ("never", "always"):
        assert asked == (case.settings.gate == "always")
    seen = found.trace.of(Draft)[0]
    if case.settings.gate_scope == "caption":
        assert list(seen.tokens) == run_edge(case).tokens
    else:
        assert list(seen.tokens) == run_edge(case).tokens[: case.settings.k]
    if case.settings.gate == "mean-logprob":
        mean = sum(seen.logprobs) / len(seen.logprobs)
        assert asked == (mean < case.settings.thresholds.logprob)


@given(whole)
def test_it_takes_what_was_written_on_the_edge_and_the_clouds_own_time(case: Case) -> None:
    found = run_modelled(case, case.edge(), case.cloud())
    first = found.trace.of(Draft)[0]
    edge_s = MODELLED.edge.prefill_s + (len(first.tokens) - 1) * MODELLED.edge.step_s
    assert first.end_s == pytest.approx(edge_s)
    if first.escalated:
        n = len(found.tokens)
        cloud_s = MODELLED.link.round_trip_s + MODELLED.cloud.prefill_s
        cloud_s += (n - 1) * MODELLED.cloud.step_s
        assert latency(found.trace).total_time == pytest.approx(edge_s + cloud_s)
    else:
        alone = MODELLED.edge.prefill_s + (len(found.tokens) - 1) * MODELLED.edge.step_s
        assert latency(found.trace).total_time == pytest.approx(alone)
        assert not found.trace.calls


@given(whole, st.booleans())
def test_its_trace_decodes_anew(case: Case, measured: bool) -> None:
    decode = run_speculative if measured else run_modelled
    before = Trace.from_json(
        json.loads(json.dumps(decode(case, case.edge(), case.cloud()).trace.to_json()))
    )
    again = run_recorded(case, before)
    expected = run_modelled(case, case.edge(), case.cloud())
    assert again.trace == expected.trace
    assert differing(before, again.trace) is None


@dataclass
class _Failing(CloudModel):
    """A cloud that is gone after so many chunks."""

    cloud: CloudModel
    after: int

    def open(self, prompt: Prompt, sampling: Sampling = GREEDY) -> CloudSession:
        return _FailingSession(self.cloud.open(prompt, sampling), self.after)


class _FailingSession(CloudSession):
    def __init__(self, session: CloudSession, after: int) -> None:
        self._session, self._after = session, after

    def generate(self, committed: Sequence[int], limits: StopLimits) -> Iterator[CloudChunk]:
        for count, chunk in enumerate(self._session.generate(committed, limits)):
            if count == self._after:
                raise CloudTimeout("gone")
            yield chunk

    def close(self) -> None:
        self._session.close()


@given(cases(gate=st.just("always"), gate_scope=SCOPES), st.integers(0, 3))
def test_the_edge_finishes_where_the_cloud_is_lost(case: Case, after: int) -> None:
    found = run_speculative(case, case.edge(), _Failing(case.cloud(), after))
    alone = run_cloud(case)
    if len(alone.tokens) <= after:
        assert found.tokens == alone.tokens
        return
    assert [event.error for event in found.trace.of(Degrade)] == ["CloudTimeout"]
    assert found.tokens[:after] == alone.tokens[:after]
    assert found.origins == ["cloud"] * after + ["edge"] * (len(found.tokens) - after)
    if not after:
        assert (found.tokens, found.stop) == (run_edge(case).tokens, run_edge(case).stop)
    assert case.stopping.cut(found.tokens[:-1], found.tokens[-1:])[1] == found.stop


@pytest.mark.parametrize("scope", ["start", "caption"])
def test_settings_of_a_cloud_that_has_a_part_in_a_caption_are_refused(scope: str) -> None:
    with pytest.raises(ConfigError, match="continuation, parallel_prefill: with the gate scope"):
        Speculation(gate_scope=scope, continuation=2, parallel_prefill=True)  # type: ignore[arg-type]


def test_a_mean_that_is_the_threshold_is_likely_enough() -> None:
    """Tokens of -0.1 and -0.5 have a mean of -0.3."""
    from edgecloud.contracts import TokenStats
    from edgecloud.decoding.gates import GATES as REGISTERED

    block = [TokenStats(0.0, 1.0, -0.1), TokenStats(0.0, 1.0, -0.5)]
    asks = REGISTERED["mean-logprob"]
    assert asks(block, Thresholds(logprob=-0.2))
    assert not asks(block, Thresholds(logprob=-0.31))
