"""Many edges at once on one service, with recorded drafts: a small run of what ``tox -e load`` measures."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace
from threading import Timer

import httpx
import pytest

from bench.traffic import Caption, play, record
from edgecloud.cloud.engine.local import LocalCloud
from edgecloud.cloud.http.client import HttpChannel
from edgecloud.cloud.protocol.remote import RemoteCloud
from edgecloud.contracts import Acceptance, Degrade, Model, Prompt, StopLimits
from edgecloud.decoding.speculative import Speculation
from edgecloud.decoding.stopping import Stopping
from edgecloud.models.scripted import ScriptedModel, hashed
from tests.properties.loop import PROMPT, Case, run_speculative

pytest.importorskip("uvicorn", reason="the extra serve is not installed")
from edgecloud.cloud.engine.session_registry import Bounds
from edgecloud.cloud.http.app import ServiceSettings
from tests.cloud.running import running

VOCAB = 12
STOPPING = Stopping(StopLimits(30), frozenset({0}))
EDGES = 16
CAPTIONS = 100


def model(seed: int) -> Model:
    return ScriptedModel(hashed(seed, vocab_size=VOCAB, end_id=0), vocab_size=VOCAB)


def cloud(seed: int = 3) -> LocalCloud:
    return LocalCloud(model(seed), STOPPING)


@pytest.fixture(scope="module")
def recorded() -> list[Caption]:
    prompts = [Prompt((7, 1 + n % 5, 9, 1 + n % 7)) for n in range(12)]
    settings = Speculation(k=3, gate="always", acceptance=Acceptance("exact"), continuation=1)
    return record(prompts, edge=model(4), cloud=model(3), settings=settings, stopping=STOPPING)


def test_sixteen_edges_at_once_lose_nothing_and_get_nothing_wrong(recorded: list[Caption]) -> None:
    ended: list[int] = []
    with running(cloud(), ServiceSettings(bounds=Bounds(sessions=EDGES))) as url:
        found = play(url, recorded, edges=EDGES, captions=CAPTIONS, after_each=ended.append)
        page = httpx.get(f"{url}/metrics", trust_env=False).text
    assert found.faults == []
    assert found.ties == 0
    assert found.captions == CAPTIONS
    assert ended == list(range(1, CAPTIONS + 1))
    requests = [len(caption.requests) for caption in recorded]
    expected = sum(requests) * (CAPTIONS // 12) + sum(requests[: CAPTIONS % 12])
    assert found.verifications == len(found.waits_s) == expected
    # Nothing is left behind, and forwards were shared.
    assert "edgecloud_sessions 0.0" in page
    assert f'edgecloud_requests_total{{op="verify",status="200"}} {expected:.1f}' in page
    lines = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    assert float(lines['edgecloud_batch_size_bucket{le="1.0"}']) < float(
        lines["edgecloud_batch_size_count"]
    )


def test_wrong_answers_are_seen(recorded: list[Caption]) -> None:
    with running(cloud(seed=5)) as url:
        found = play(url, recorded, edges=2, captions=4)
    assert any("in place of" in fault for fault in found.faults)


def test_another_choice_is_a_tie_only_where_one_was_recorded(recorded: list[Caption]) -> None:
    tied = [replace(caption, tied=tuple(True for _ in caption.tied)) for caption in recorded]
    with running(cloud(seed=5)) as url:
        found = play(url, tied, edges=1, captions=4)
    assert found.ties > 0
    assert found.faults == []
    assert found.captions == 4
    flat = ScriptedModel(lambda _: [0.0] * VOCAB, vocab_size=VOCAB)
    settings = Speculation(k=3, gate="always", acceptance=Acceptance("exact"))
    (found_tied,) = record(
        [Prompt((7, 1))], edge=model(4), cloud=flat, settings=settings, stopping=STOPPING
    )
    assert all(found_tied.tied)
    assert not any(tie for caption in recorded for tie in caption.tied)


def test_an_edge_over_the_context_goes_on_alone_and_asks_once() -> None:
    case = Case(settings=Speculation(gate="always", acceptance=Acceptance("exact")))
    bounds = Bounds(context=PROMPT.length + 1)
    service_cloud = LocalCloud(case.cloud().model, case.stopping)
    with (
        running(service_cloud, ServiceSettings(bounds=bounds)) as url,
        closing(HttpChannel(url)) as channel,
    ):
        cloud = RemoteCloud(channel, deadline_s=30)
        for _ in range(4):
            found = run_speculative(case, case.edge(), cloud)
            (lost,) = found.trace.of(Degrade)
            assert f"this cloud takes {bounds.context}" in lost.reason
            assert found.tokens
        page = httpx.get(f"{url}/metrics", trust_env=False).text
    assert 'edgecloud_requests_total{op="verify",status="413"} 4.0' in page


def test_an_edge_without_room_asks_again_when_it_was_told_to() -> None:
    bounds = Bounds(sessions=1)
    with (
        running(cloud(), ServiceSettings(bounds=bounds)) as url,
        closing(HttpChannel(url)) as first,
        closing(HttpChannel(url)) as second,
    ):
        exact = Acceptance("exact")
        holder = RemoteCloud(first, deadline_s=30).open(Prompt((7, 1)))
        holder.verify([], [2], exact)

        def leave() -> None:
            holder.close()
            first.close()

        timer = Timer(0.3, leave)
        timer.start()
        began = time.monotonic()
        assert RemoteCloud(second, deadline_s=30).open(Prompt((7, 1))).verify([], [2], exact).ranks
        assert time.monotonic() - began >= 1
        timer.join()


def test_refused_and_lost_answers_are_seen(recorded: list[Caption]) -> None:
    with running(cloud(), ServiceSettings(bounds=Bounds(sessions=1))) as url:
        found = play(url, recorded, edges=3, captions=6)
    assert any("status 503" in fault for fault in found.faults)
    with running(cloud(), ServiceSettings(answer_s=30)) as url:
        found = play(url, recorded, edges=1, captions=1, deadline_s=0.0)
    assert found.faults == ["no answer: TimeoutError: "]
    assert found.captions == 0
