"""The gateway in front of vLLM: what it sends, whom it asks, and what it does when vLLM fails."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.responses import JSONResponse, PlainTextResponse, Response

from edgecloud.cloud.engine.local import LocalCloud
from edgecloud.cloud.protocol import wire
from edgecloud.contracts import LOG_MEL, Acceptance, CloudCost, Degrade, Prompt, StopLimits, Verdict
from edgecloud.contracts.sampling import GREEDY, Distribution, Sampling
from edgecloud.datasets.audio import as_flac
from edgecloud.decoding.speculative import Speculation
from edgecloud.errors import CloudTimeout, CloudUnavailable, ModelError, WireError
from edgecloud.models.scripted import ScriptedModel, follows
from tests.cloud.message_schema import RECORDING_REQUESTS, REQUESTS, well_formed
from tests.properties.loop import VOCAB, Case, run_speculative

pytest.importorskip("starlette", reason="the extra serve is not installed")
from edgecloud.cloud.engine.engine import Outcome
from edgecloud.cloud.engine.thread_runner import Threads
from edgecloud.cloud.http.client import Breaker, HttpChannel
from edgecloud.cloud.protocol.remote import RemoteCloud
from edgecloud.cloud.vllm.gateway import VllmCloud, Vocabulary
from edgecloud.cloud.vllm.replicas import VllmSettings
from tests.cloud.running import running
from tests.cloud.vllm.fake_vllm import Asked, FakeVllm

CASE = Case(every=2, settings=Speculation(gate="always", acceptance=Acceptance("exact")))
EXACT = Acceptance("exact")
PROMPT = Prompt((7, 8, 9))
AUDIO_ID = 5
HEARD = Prompt((7, *[AUDIO_ID] * 20, 9), recording=as_flac(np.zeros(8_000, dtype=np.float32)))
NOWHERE = "http://127.0.0.1:9"
"""A port of loopback where nobody listens."""


def fake(**more: Any) -> FakeVllm:
    return FakeVllm(CASE.cloud().model, audio_id=AUDIO_ID, **more)


def local() -> LocalCloud:
    return LocalCloud(CASE.cloud().model, CASE.stopping)


def to(*urls: str, **more: Any) -> VllmCloud:
    vocabulary = Vocabulary(VOCAB, CASE.stopping, AUDIO_ID)
    return VllmCloud(VllmSettings(urls, **more), vocabulary)


@contextmanager
def gateway(cloud: VllmCloud) -> Iterator[str]:
    with running(cloud, runner=Threads(cloud.healthy, cloud.close)) as url:
        yield url


@contextmanager
def edge_of(url: str, *, deadline_s: float = 30.0) -> Iterator[RemoteCloud]:
    with closing(HttpChannel(url, breaker=Breaker(rest_s=0.1))) as channel:
        yield RemoteCloud(channel, deadline_s=deadline_s)


def failing(times: int, answer: Callable[[], Response]) -> Callable[[Asked, int], Response | None]:
    return lambda _, number: answer() if number <= times else None


def broken() -> Response:
    return JSONResponse({"error": {"message": "EngineCore died"}}, status_code=500)


def test_captions_through_the_gateway_are_those_of_the_verifier_in_this_process() -> None:
    server = fake()
    with server.running() as url, gateway(to(url)) as here, edge_of(here) as cloud:
        for settings in (
            CASE.settings,
            replace(CASE.settings, acceptance=Acceptance("rank", 3), continuation=2),
            replace(CASE.settings, acceptance=Acceptance("bounded", 5, 0.2, 2.0), seed_tokens=2),
        ):
            case = replace(CASE, settings=settings)
            found = run_speculative(case, case.edge(), cloud)
            assert found.tokens == run_speculative(case, case.edge(), local()).tokens
            assert found.trace.of(Degrade) == []


def test_a_session_has_a_salt_and_a_name_of_its_own_and_stays_on_one_server() -> None:
    one, other = fake(), fake()
    with one.running() as first, other.running() as second, closing(to(first, second)) as cloud:
        sessions = [cloud.open(PROMPT) for _ in range(4)]
        for committed in ([], [2], [2, 3]):
            for session in sessions:
                session.verify(committed, [4], EXACT)
    for server in (one, other):
        salts = {asked.body["cache_salt"] for asked in server.asked}
        names = {asked.headers["x-session-id"] for asked in server.asked}
        assert len(server.asked) == 6
        assert len(salts) == len(names) == 2
        assert not salts & names
    assert not {a.body["cache_salt"] for a in one.asked} & {
        a.body["cache_salt"] for a in other.asked
    }


def test_a_session_stays_on_one_data_parallel_rank() -> None:
    server = fake()
    with server.running() as url, closing(to(url, ranks=2)) as cloud:
        sessions = [cloud.open(PROMPT) for _ in range(2)]
        for session in (*sessions, *sessions):
            session.verify([], [4], EXACT)
    assert [asked.headers["x-data-parallel-rank"] for asked in server.asked] == ["0", "1"] * 2


def test_what_is_asked_is_greedy_whatever_the_checkpoint_prefers() -> None:
    server = fake(key="secret")
    with server.running() as url, closing(to(url, key="secret")) as cloud:
        cloud.open(PROMPT).verify([2], [3, 4], EXACT)
    (asked,) = server.asked
    assert asked.body["prompt"] == [[7, 8, 9, 2], [7, 8, 9, 2, 3], [7, 8, 9, 2, 3, 4]]
    assert (asked.body["max_tokens"], asked.body["logprobs"]) == (1, 20)
    assert (asked.body["temperature"], asked.body["repetition_penalty"]) == (0.0, 1.0)
    assert "prompt_logprobs" not in asked.body


def test_nothing_is_asked_about_what_follows_an_end_of_text() -> None:
    server = FakeVllm(
        ScriptedModel(follows([2, 0], prompt_length=3, vocab_size=VOCAB), vocab_size=VOCAB)
    )
    with server.running() as url, closing(to(url)) as cloud:
        verdict = cloud.open(PROMPT).verify([], [2, 0], EXACT, 4)
    assert (verdict.kept, verdict.token, verdict.continuation) == (2, None, ())
    assert [len(asked.body["prompt"]) for asked in server.asked] == [2]


def test_a_token_beyond_the_first_choices_ranks_after_them_and_is_kept_by_no_rule() -> None:
    def verdict(cloud: VllmCloud | LocalCloud, acceptance: Acceptance) -> Verdict:
        return cloud.open(PROMPT).verify([], [worst], acceptance)

    probe = local().open(PROMPT)
    ranks = {t: probe.verify([], [t], EXACT).ranks[0] for t in range(VOCAB)}
    worst = max(ranks, key=lambda token: ranks[token])
    with fake().running() as url, closing(to(url, logprobs=4)) as cloud:
        for acceptance in (EXACT, Acceptance("rank", 4), Acceptance("bounded", 4, 0.001)):
            found = verdict(cloud, acceptance)
            assert (found.kept, found.ranks, found.regret) == (0, (4,), 0.0)
            assert found.token == verdict(local(), acceptance).token
        with pytest.raises(ModelError, match="ranks up to 4"):
            verdict(cloud, Acceptance("rank", 5))


def test_what_pads_the_models_vocabulary_is_no_token() -> None:
    with fake(padding=3).running() as url, closing(to(url)) as cloud:
        for draft in ([2], [4, 6], [1]):
            ours = local().open(PROMPT).verify([3], draft, Acceptance("rank", 2))
            theirs = cloud.open(PROMPT).verify([3], draft, Acceptance("rank", 2))
            assert (theirs.kept, theirs.token, theirs.ranks) == (ours.kept, ours.token, ours.ranks)


def test_a_generation_that_nobody_waits_for_is_stopped() -> None:
    server = fake()
    with server.running() as url, closing(to(url)) as cloud:
        chunks = iter(cloud.open(PROMPT).generate([], StopLimits(1000, 1)))
        next(chunks)
        del chunks
        whole = [t for c in cloud.open(PROMPT).generate([], StopLimits(12)) for t in c.tokens]
    assert whole == [t for c in local().open(PROMPT).generate([], StopLimits(12)) for t in c.tokens]


@pytest.mark.parametrize(
    "answer",
    [
        broken,
        lambda: PlainTextResponse("<html>bad gateway</html>", status_code=502),
        lambda: PlainTextResponse("<html>login</html>"),
        lambda: JSONResponse([]),
        lambda: JSONResponse({"choices": []}),
        lambda: JSONResponse({"choices": [{"index": 0, "logprobs": None}]}),
        lambda: JSONResponse({"choices": [{"index": 0, "logprobs": {"top_logprobs": [{"a": 1}]}}]}),
        lambda: JSONResponse(
            {"choices": [{"index": 0, "logprobs": {"top_logprobs": [{"token_id:2": 7.0}]}}]}
        ),
        lambda: Response(b'{"choices"', headers={"content-length": "100"}),
    ],
)
def test_a_failure_is_tried_again_and_a_lasting_one_is_told_as_such(
    answer: Callable[[], Response],
) -> None:
    expected = local().open(PROMPT).verify([], [4, 6], EXACT)
    for times, lasting in ((1, False), (100, True)):
        with fake(fault=failing(times, answer)).running() as url, closing(to(url)) as cloud:
            if lasting:
                with pytest.raises(CloudUnavailable):
                    cloud.open(PROMPT).verify([], [4, 6], EXACT)
            else:
                found = cloud.open(PROMPT).verify([], [4, 6], EXACT)
                assert (found.kept, found.token) == (expected.kept, expected.token)


def test_a_session_moves_when_its_server_goes_and_says_everything_again() -> None:
    one, other = fake(), fake()
    with ExitStack() as stack, other.running() as second:
        stopping = stack.enter_context(ExitStack())
        first = stopping.enter_context(one.running())
        with closing(to(first, second)) as cloud:
            session = cloud.open(PROMPT)
            before = session.verify([], [2], EXACT)
            committed = before.output([2])
            stopping.close()
            found = session.verify(committed, [4, 6], EXACT)
            expected = local().open(PROMPT).verify(committed, [4, 6], EXACT)
    assert (found.kept, found.token) == (expected.kept, expected.token)
    assert found.cost.prefill_tokens == PROMPT.length
    assert found.cost.ingested_tokens == len(committed)
    assert len(one.asked) == len(other.asked) == 1


def test_a_generation_goes_on_where_it_was_when_vllm_breaks_off() -> None:
    def cut() -> Response:
        event = 'data: {"choices": [{"index": 0, "token_ids": [%d]}]}\n\n'
        return PlainTextResponse(event % whole[0], media_type="text/event-stream")

    limits = StopLimits(12)
    whole = [t for c in local().open(PROMPT).generate([], limits) for t in c.tokens]
    with fake(fault=failing(1, cut)).running() as url, closing(to(url)) as cloud:
        found = [t for c in cloud.open(PROMPT).generate([], limits) for t in c.tokens]
    assert found == whole


def test_an_answer_that_does_not_come_is_a_timeout_in_time() -> None:
    def slow() -> Response:
        time.sleep(0.5)
        return broken()

    with fake(fault=failing(100, slow)).running() as url, closing(to(url, timeout_s=0.2)) as cloud:
        began = time.monotonic()
        with pytest.raises(CloudTimeout):
            cloud.open(PROMPT).verify([], [4], EXACT)
        assert time.monotonic() - began < 2.0


def test_the_wrong_key_is_told_without_the_servers_address() -> None:
    with fake(key="secret").running() as url, closing(to(url)) as cloud:
        with pytest.raises(CloudUnavailable, match="EDGECLOUD_VLLM_KEY") as told:
            cloud.open(PROMPT).verify([], [4], EXACT)
        assert url.removeprefix("http://") not in str(told.value)


def test_without_vllm_the_service_says_503_and_the_edge_goes_on_alone() -> None:
    with gateway(to(NOWHERE)) as here:
        assert httpx.get(f"{here}/healthz").status_code == 200
        assert httpx.get(f"{here}/readyz").status_code == 503
        body = wire.pack_frames(
            [
                wire.pack(0, "open", b"n" * 16, *wire.pack_open(PROMPT)),
                wire.pack(1, "verify", b"n" * 16, 0, [], [4], ["exact", 20, 0.3, math.inf], 0, []),
            ]
        )
        refused = httpx.post(f"{here}/v1/messages", content=body)
        assert (refused.status_code, refused.json()["error"]) == (503, "CloudUnavailable")
        assert refused.headers["retry-after"] == "1"
        with edge_of(here, deadline_s=1.0) as cloud:
            run = run_speculative(CASE, CASE.edge(), cloud)
    (lost,) = run.trace.of(Degrade)
    assert "vLLM" in lost.reason
    assert run.tokens
    assert set(run.origins) == {"edge"}


def test_when_vllm_comes_back_so_do_its_verdicts_within_the_same_caption() -> None:
    server = fake(fault=failing(2, broken))
    with server.running() as url, gateway(to(url)) as here, edge_of(here) as cloud:
        assert httpx.get(f"{here}/readyz").status_code == 200
        run = run_speculative(CASE, CASE.edge(), cloud)
    assert run.trace.of(Degrade) == []
    assert run.tokens == run_speculative(CASE, CASE.edge(), local()).tokens


def test_closing_leaves_nobody_waiting() -> None:
    def slow() -> Response:
        time.sleep(0.3)
        return broken()

    found: list[Outcome] = []
    with fake(fault=failing(100, slow)).running() as url:
        cloud = to(url)
        runner = Threads(cloud.healthy, cloud.close)
        runner.submit(cloud.open(PROMPT).verifying([], [4], EXACT), found.append)
        assert runner.waiting == 1
        runner.close(10.0)
    (outcome,) = found
    assert isinstance(outcome, CloudUnavailable)
    assert (runner.alive, runner.ready(), runner.waiting) == (False, False, 0)
    with pytest.raises(CloudUnavailable, match="shutting down"):
        runner.submit(cloud.open(PROMPT).verifying([], [4], EXACT), found.append)


def test_a_recording_goes_up_once_with_one_placeholder_and_is_named_after_that() -> None:
    server = fake()
    with server.running() as url, closing(to(url, recordings=True)) as cloud:
        session = cloud.open(HEARD)
        plain = Prompt((7, AUDIO_ID, 9))
        for committed, draft in (([], [2, 4]), ([2, 4], [6])):
            found = session.verify(committed, draft, EXACT, 2)
            expected = local().open(plain).verify(committed, draft, EXACT, 2)
            assert found.output(draft) == expected.output(draft)
            assert found.ranks == expected.ranks
        other = [t for c in cloud.open(HEARD).generate([], StopLimits(9)) for t in c.tokens]
        assert other == [
            t for c in local().open(plain).generate([], StopLimits(9)) for t in c.tokens
        ]
    sent = [asked.body["content_parts"][0] for asked in server.asked]
    assert sum("url" in part for part in sent) == 2
    assert len({part["uuid"] for part in sent}) == 2
    assert [len(samples) for samples in server.recordings.values()] == [8_000, 8_000]


def test_a_recording_that_vllm_has_dropped_goes_up_again() -> None:
    server = fake()
    with server.running() as url, closing(to(url, recordings=True)) as cloud:
        session = cloud.open(HEARD)
        session.verify([], [2], EXACT)
        server.recordings.clear()
        session.verify([2], [4], EXACT)
        server.recordings.clear()
        assert session.generate([2, 4], StopLimits(5))
        assert list(session.generate([2, 4], StopLimits(5)))
    assert len(server.recordings) == 1


def test_a_recording_is_refused_unless_the_gateway_was_told_to_take_it() -> None:
    features = Prompt(HEARD.token_ids, {LOG_MEL: np.zeros((4, 80), dtype=np.float16)})
    server = fake()
    with server.running() as url, closing(to(url)) as cloud:
        with pytest.raises(ModelError, match="takes no recordings"):
            cloud.open(HEARD)
        with pytest.raises(ModelError, match="start the gateway and run with --upload-audio"):
            cloud.open(features)
    with closing(to(url, recordings=True)) as cloud, pytest.raises(ModelError, match=": run with"):
        cloud.open(features)
    with pytest.raises(ModelError, match="takes no recordings"):
        local().open(HEARD)
    assert server.asked == []


def test_over_the_wire_a_refused_recording_fails_the_sample_with_the_reason() -> None:
    server = fake()
    with server.running() as url, gateway(to(url)) as here, edge_of(here) as cloud:
        session = cloud.open(HEARD)
        with pytest.raises(ModelError, match="takes no recordings"):
            session.verify([], [2], EXACT)
    assert server.asked == []


def test_a_recording_travels_in_the_features_place() -> None:
    both = Prompt(HEARD.token_ids, {LOG_MEL: np.ones((4, 80), dtype=np.float16)}, HEARD.recording)
    packed = wire.pack_open(both)
    ids, shape, features, sampling, recording = packed
    assert (shape, features, recording) == (None, None, HEARD.recording)
    assert wire.unpack_open(packed) == (HEARD, GREEDY)
    body = wire.pack_frames([wire.pack(0, "open", b"n" * 16, *packed)])
    assert not well_formed(body, REQUESTS)
    assert well_formed(body, RECORDING_REQUESTS)
    for bad in (b"RIFF....WAVE", "fLaC", b"fLaC" + bytes(20_000_000), 7, None):
        with pytest.raises(WireError, match="a recording is FLAC"):
            wire.unpack_open([ids, None, None, sampling, bad])
    _, shape, features, _ = wire.pack_open(replace(both, recording=None))
    with pytest.raises(WireError, match="in the place of features"):
        wire.unpack_open([ids, shape, features, sampling, recording])
    with pytest.raises(WireError, match="maybe a recording"):
        wire.unpack_open([*packed, recording])


def test_tokens_that_are_drawn_are_refused_with_the_reason() -> None:
    sampling = Sampling(0.7, 0.9, 5)
    server = fake()
    with server.running() as url, closing(to(url, recordings=True)) as cloud:
        for prompt in (PROMPT, HEARD):
            with pytest.raises(ModelError, match=r"knows the first 20 choices.*--temperature 0"):
                cloud.open(prompt, sampling)
        with pytest.raises(ModelError, match="without penalties"):
            cloud.open(PROMPT, Sampling(repetition_penalty=1.1))
        with pytest.raises(WireError, match="at temperature 0 nothing is drawn"):
            cloud.open(PROMPT).verify([], [2], EXACT, 0, [Distribution((2,), (1,))])
    with server.running() as url, gateway(to(url)) as here, edge_of(here) as edge:
        session = edge.open(PROMPT, sampling)
        with pytest.raises(ModelError, match="--temperature 0"):
            session.verify([], [2], Acceptance("rejection"), 0, [Distribution((2,), (1,))])
    assert server.asked == []


def test_rejection_at_temperature_0_needs_no_ranks() -> None:
    rejection = Acceptance("rejection", rank_threshold=50)
    with fake().running() as url, closing(to(url)) as cloud:
        for draft in ([2], [4, 6], [1]):
            found = cloud.open(PROMPT).verify([3], draft, rejection)
            assert replace(found, cost=CloudCost()) == replace(
                cloud.open(PROMPT).verify([3], draft, EXACT), cost=CloudCost()
            )
            assert found.kept == local().open(PROMPT).verify([3], draft, rejection).kept
