"""Modelled time against times added up by hand, under the ``paper`` profile.

Edge: prefill 7.3 s, one forward 0.415 s. Cloud: prefill 0.39 s, step 0.041 s, verification 0.05 s.
Link: 0.025 s each way.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Generator
from dataclasses import replace

import pytest

from edgecloud.cloud.engine.local import LocalCloud
from edgecloud.cloud.pipe_server import MessageServer
from edgecloud.cloud.protocol.remote import RemoteCloud
from edgecloud.contracts import (
    Acceptance,
    Commit,
    Draft,
    Generate,
    Prefill,
    Prompt,
    StopLimits,
    StopReason,
    Trace,
    Verify,
)
from edgecloud.decoding.autoregressive import cloud_only, edge_only
from edgecloud.decoding.local_edge import LocalEdge
from edgecloud.decoding.recorder import Recorder
from edgecloud.decoding.speculative import Speculation, speculative
from edgecloud.decoding.stopping import Stopping
from edgecloud.hardware.clock import ModelledClock, TimedCloud, TimedEdge, WallClock
from edgecloud.hardware.profiles import CloudCosts, EdgeCosts, HardwareProfile, LinkCosts, profile
from edgecloud.models.scripted import ScriptedModel, follows
from tests.cloud.memory_channel import MemoryChannel

PAPER = profile("paper")
PROMPT = Prompt((7, 8, 9))
STOPPING = Stopping(StopLimits(40), frozenset({0}))
END_OF_TEXT = [2, 3, 4, 5, 0]


def scripted(text: list[int], *, sure: float = 8.0) -> ScriptedModel:
    script = follows(text, prompt_length=PROMPT.length, vocab_size=10, sure=sure)
    return ScriptedModel(script, vocab_size=10)


class Bench:
    """An edge and a cloud in modelled time."""

    def __init__(
        self,
        edge: list[int] = END_OF_TEXT,
        cloud: list[int] = END_OF_TEXT,
        *,
        sure: float = 8.0,
    ) -> None:
        self.clock = ModelledClock()
        self.edge = TimedEdge(LocalEdge(scripted(edge, sure=sure)), self.clock, PAPER.edge)
        self.cloud = TimedCloud(LocalCloud(scripted(cloud), STOPPING), self.clock, PAPER)

    def follow(
        self, commits: Generator[Commit, None, StopReason], recorder: Recorder
    ) -> tuple[list[Commit], Trace]:
        found = list(commits)
        recorder.finish("end_of_text")
        return found, recorder.trace()

    def edge_only(self) -> tuple[list[Commit], Trace]:
        recorder = Recorder(self.clock)
        return self.follow(
            edge_only(PROMPT, edge=self.edge, stopping=STOPPING, recorder=recorder), recorder
        )

    def cloud_only(self) -> tuple[list[Commit], Trace]:
        recorder = Recorder(self.clock)
        return self.follow(
            cloud_only(PROMPT, cloud=self.cloud, stopping=STOPPING, recorder=recorder), recorder
        )

    def speculative(self, settings: Speculation) -> tuple[list[Commit], Trace]:
        recorder = Recorder(self.clock)
        return self.follow(
            speculative(
                PROMPT,
                edge=self.edge,
                cloud=self.cloud,
                settings=settings,
                stopping=STOPPING,
                recorder=recorder,
            ),
            recorder,
        )


def times(commits: list[Commit]) -> list[float]:
    return [commit.at_s for commit in commits]


def test_the_edge_alone_takes_a_prefill_then_a_step_a_token() -> None:
    commits, trace = Bench().edge_only()
    assert times(commits) == pytest.approx([7.3 + n * 0.415 for n in range(5)])
    (prefill,) = trace.of(Prefill)
    assert (prefill.start_s, prefill.end_s) == (0.0, 7.3)


def test_the_cloud_alone_takes_a_round_trip_a_prefill_then_a_step_a_token() -> None:
    commits, trace = Bench().cloud_only()
    assert times(commits) == pytest.approx([0.05 + 0.39 + n * 0.041 for n in range(5)])
    busy = [event.cost.busy_s for event in trace.of(Generate)]
    assert busy == pytest.approx([0.39, *[0.041] * 4])
    (prefill,) = trace.of(Prefill)
    assert prefill.end_s - prefill.start_s == pytest.approx(0.39)


def test_kept_blocks_cost_their_steps_and_one_verification_each() -> None:
    commits, trace = Bench().speculative(
        Speculation(k=2, gate="always", acceptance=Acceptance("exact"))
    )
    assert [commit.tokens for commit in commits] == [(2, 3, 4), (5, 0)]
    # Two drafted tokens after a prefill are one forward; the cloud prefills before it verifies.
    first = 7.3 + 0.415 + 0.025 + (0.39 + 0.05) + 0.025
    # Kept and bonus tokens are ingested in one forward; one more for the second drafted token.
    second = first + 2 * 0.415 + 0.025 + 0.05 + 0.025
    assert times(commits) == pytest.approx([first, second])
    assert [event.cost.busy_s for event in trace.of(Verify)] == pytest.approx([0.44, 0.05])


def test_a_corrected_block_costs_one_ingestion() -> None:
    commits, _ = Bench(edge=[2, 9, 4, 9, 0], cloud=END_OF_TEXT).speculative(
        Speculation(k=2, gate="always", acceptance=Acceptance("exact"))
    )
    assert [commit.tokens for commit in commits] == [(2, 3), (4, 5), (0,)]
    first = 7.3 + 0.415 + 0.05 + 0.44
    second = first + 2 * 0.415 + 0.05 + 0.05
    assert times(commits) == pytest.approx([first, second, second + 0.415 + 0.1])


def test_a_block_that_passes_the_gate_costs_its_steps_alone() -> None:
    commits, trace = Bench(sure=30.0).speculative(Speculation(k=2, gate="entropy"))
    assert times(commits) == pytest.approx([7.3 + n * 0.415 for n in (1, 3, 4)])
    assert not trace.of(Verify)


def test_draft_and_verify_share_the_time_without_gap_or_overlap() -> None:
    _, trace = Bench().speculative(Speculation(k=2, gate="always"))
    spans = [(e.start_s, e.end_s) for e in trace.of(Prefill, Draft, Verify)]
    assert spans[0][0] == 0.0
    for (_, end), (start, _) in itertools.pairwise(spans):
        assert start == end


def test_a_busy_cloud_is_waited_for() -> None:
    bench = Bench()
    bench.clock.cloud_free_s = 100.0
    commits, _ = bench.speculative(Speculation(k=2, gate="always"))
    assert commits[0].at_s == pytest.approx(100.0 + 0.44 + 0.025)


def test_a_narrow_link_delays_messages_by_their_bytes() -> None:
    narrow = HardwareProfile(
        name="narrow",
        edge=EdgeCosts(prefill_s=1.0, step_s=0.1),
        cloud=CloudCosts(prefill_s=0.5, step_s=0.1, verify_s=0.25),
        link=LinkCosts(round_trip_s=0.2, up_bytes_per_s=1000, down_bytes_per_s=100),
        source="test",
    )
    clock = ModelledClock()
    channel = MemoryChannel(MessageServer(LocalCloud(scripted(END_OF_TEXT), STOPPING)))
    session = TimedCloud(RemoteCloud(channel, deadline_s=5), clock, narrow).open(PROMPT)
    verdict = session.verify([], [2, 3], Acceptance("exact"))
    up, down = sum(map(len, channel.sent)), len(channel.received[0])
    assert (verdict.cost.bytes_up, verdict.cost.bytes_down) == (up, down)
    assert clock.now() == pytest.approx(0.2 + up / 1000 + 0.75 + down / 100)


def test_a_cloud_may_cost_by_the_tokens_of_prompt_and_verification() -> None:
    costs = CloudCosts(0.4, 0.1, 0.2, 0.01, ((1, 1.0), (5, 3.0)))
    hardware = replace(PAPER, cloud=costs)
    cloud = TimedCloud(LocalCloud(scripted(END_OF_TEXT), STOPPING), ModelledClock(), hardware)
    verdict = cloud.open(PROMPT).verify([], [2, 3, 4], Acceptance("exact"))
    assert verdict.cost.busy_s == pytest.approx(0.4 + 3 * 0.01 + 2 * 0.2)


def test_two_runs_give_the_very_same_trace() -> None:
    settings = Speculation(k=2, gate="always")
    traces = [json.dumps(Bench().speculative(settings)[1].to_json()) for _ in range(2)]
    assert traces[0] == traces[1]


def test_after_a_restart_a_request_is_timed_as_the_first_was() -> None:
    bench = Bench()
    settings = Speculation(k=2, gate="always")
    first = json.dumps(bench.speculative(settings)[1].to_json())
    bench.clock.restart()
    assert json.dumps(bench.speculative(settings)[1].to_json()) == first


def test_waiting_for_a_time_that_has_passed_costs_nothing() -> None:
    clock = ModelledClock()
    clock.spend(2.0)
    clock.wait_until(1.0)
    assert clock.now() == 2.0
    clock.wait_until(3.5)
    assert clock.now() == 3.5
    assert clock.name == "modelled"


def test_the_wall_clock_rises() -> None:
    clock = WallClock()
    assert clock.name == "wall"
    assert clock.now() <= clock.now()
