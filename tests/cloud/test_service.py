"""The verifier behind HTTP, spoken to in this process."""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any, TypeVar

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgecloud.cloud import wire
from edgecloud.cloud.local import LocalCloud
from edgecloud.contracts import Acceptance, Prompt, StopLimits
from edgecloud.decoding.stopping import Stopping
from edgecloud.models.scripted import ScriptedModel, follows
from tests.cloud.message_schema import REQUESTS, well_formed
from tests.cloud.test_wire import values

pytest.importorskip("starlette", reason="the extra serve is not installed")
from edgecloud.cloud.registry import Bounds
from edgecloud.cloud.service import ServiceSettings, service

VOCAB = 12
TEXT = [2, 3, 4, 5, 6, 0]
PROMPT = Prompt((7, 8, 9))
STOPPING = Stopping(StopLimits(40), frozenset({0}), frozenset({1}))
NAME = b"a session's name"
WAIT_S = 300
HOSTILE = 400 if os.environ.get("EDGECLOUD_HOSTILE") == "full" else 20
"""Times 50 requests that hypothesis makes up; all of them with ``tox -e hostile``."""
Result = TypeVar("Result")


def cloud() -> LocalCloud:
    script = follows(TEXT, prompt_length=PROMPT.length, vocab_size=VOCAB)
    return LocalCloud(ScriptedModel(script, vocab_size=VOCAB), STOPPING)


def run(test: Coroutine[Any, Any, Result]) -> Result:
    return asyncio.run(asyncio.wait_for(test, WAIT_S))


@asynccontextmanager
async def client(
    given_settings: ServiceSettings | None = None, **more: Any
) -> AsyncIterator[httpx.AsyncClient]:
    app = service(cloud(), {"name": "scripted"}, given_settings or ServiceSettings())
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here", **more) as found:
            yield found


def opened(name: bytes = NAME, prompt: Prompt = PROMPT) -> bytes:
    return wire.pack(0, "open", name, *wire.pack_open(prompt))


def verify(
    seq: int, draft: list[int], *, shared: int = 0, new: tuple[int, ...] = (), name: bytes = NAME
) -> bytes:
    return wire.pack(
        seq, "verify", name, shared, list(new), draft, ["exact", 20, 0.3, math.inf], 0, []
    )


async def post(to: httpx.AsyncClient, *messages: bytes) -> httpx.Response:
    return await to.post("/v1/messages", content=wire.pack_frames(messages))


def answers(response: httpx.Response) -> list[tuple[int, str, list[Any]]]:
    assert response.status_code == 200, response.text
    messages, rest = wire.unpack_frames(response.content)
    assert not rest
    return [wire.unpack(message) for message in messages]


def test_a_session_is_opened_verified_and_closed() -> None:
    async def test() -> None:
        async with client() as to:
            ((seq, kind, found),) = answers(await post(to, opened(), verify(1, [2, 9])))
            assert (seq, kind, found[:3]) == (1, "verdict", [NAME, 1, 3])
            ((_, _, found),) = answers(await post(to, verify(2, [4], shared=1, new=(3,))))
            assert found[1:3] == [1, 5]
            assert (await post(to, wire.pack(3, "close", NAME))).status_code == 204
            lost = await post(to, verify(4, [5]))
            assert (lost.status_code, lost.json()["error"]) == (404, "SessionLost")

    run(test())


def test_a_generation_streams_its_chunks() -> None:
    async def test() -> None:
        async with client() as to:
            asked = wire.pack(1, "generate", NAME, 0, [2], 40, None)
            found = answers(await post(to, opened(), asked))
            assert [values[1] for _, _, values in found] == [[3], [4], [5], [6], [0]]
            assert [values[3] for _, _, values in found] == [False] * 4 + [True]

    run(test())


def test_a_repeated_request_gets_the_very_same_answer_and_runs_once() -> None:
    async def test() -> None:
        async with client() as to:
            first = await post(to, opened(), verify(1, [2, 3]))
            again = await post(to, opened(), verify(1, [2, 3]))
            assert first.content == again.content
            late = await post(to, verify(0, [2]))
            assert (late.status_code, late.json()["error"]) == (400, "WireError")
            asked = wire.pack(2, "generate", NAME, 2, [4], 40, None)
            assert (await post(to, asked)).content == (await post(to, asked)).content
            assert (
                b'edgecloud_tokens_total{kind="prefill"} 3.0' in (await to.get("/metrics")).content
            )

    run(test())


def test_two_requests_of_one_session_at_once_are_answered_one_after_the_other() -> None:
    async def test() -> None:
        async with client() as to:
            answers(await post(to, opened(), verify(1, [2])))
            found = await asyncio.gather(
                post(to, verify(2, [4, 5], shared=1, new=(3,))),
                post(to, verify(3, [5, 6], shared=1, new=(3, 4))),
            )
            assert [answers(one)[0][2][1:3] for one in found] == [[2, 6], [2, 0]]

    run(test())


def test_sessions_know_nothing_of_each_other() -> None:
    async def test() -> None:
        async with client() as to:
            other = b"another session!"
            answers(await post(to, opened(), verify(1, [2, 3, 4])))
            answers(await post(to, opened(other), verify(1, [9], name=other)))
            # What the first one has committed, the second cannot refer to.
            refused = await post(to, verify(2, [5], shared=3, name=other))
            assert refused.status_code == 400
            ((_, _, found),) = answers(await post(to, verify(2, [5], shared=3)))
            assert found[1:3] == [1, 6]

    run(test())


def test_over_the_bound_a_session_is_refused_with_a_time_to_come_back() -> None:
    async def test() -> None:
        async with client(ServiceSettings(bounds=Bounds(sessions=1))) as to:
            answers(await post(to, opened(), verify(1, [2])))
            other = b"another session!"
            full = await post(to, opened(other), verify(1, [2], name=other))
            assert (full.status_code, full.headers["Retry-After"]) == (503, "1")
            answers(await post(to, verify(2, [3], shared=1)))
            closed = wire.pack(3, "close", NAME)
            answers(await post(to, closed, opened(other), verify(1, [2], name=other)))

    run(test())


def test_memory_is_bounded_too() -> None:
    async def test() -> None:
        async with client(ServiceSettings(bounds=Bounds(memory_bytes=10))) as to:
            answers(await post(to, opened(), verify(1, [2])))
            other = b"another session!"
            assert (await post(to, opened(other))).status_code == 503

    run(test())


def test_an_idle_session_expires() -> None:
    async def test() -> None:
        async with client(ServiceSettings(bounds=Bounds(idle_s=0.05))) as to:
            answers(await post(to, opened(), verify(1, [2])))
            await asyncio.sleep(0.3)
            assert b"edgecloud_sessions 0.0" in (await to.get("/metrics")).content
            assert (await post(to, verify(2, [3], shared=1))).status_code == 404

    run(test())


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/model", "/metrics"])
@pytest.mark.parametrize("borne", ["", "Bearer ", "Bearer wrong", "secret", "Bearer sécret"])
def test_without_the_token_nothing_is_told(path: str, borne: str) -> None:
    async def test() -> None:
        async with client(ServiceSettings(token="secret")) as to:
            headers = {"Authorization": borne.encode()}
            method = "POST" if path == "/v1/messages" else "GET"
            refused = await to.request(method, path, headers=headers)
            assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
            headers = {"Authorization": b"Bearer secret"}
            assert (await to.request(method, path, headers=headers)).status_code != 401
            assert (await to.get("/healthz")).json() == {"status": "alive"}
            assert (await to.get("/readyz")).json() == {"ready": True}

    run(test())


def test_a_request_that_is_too_large_is_refused_before_it_is_read_whole() -> None:
    async def test() -> None:
        async with client(ServiceSettings(max_body_bytes=1000)) as to:
            sent = 0

            async def body() -> AsyncIterator[bytes]:
                nonlocal sent
                for _ in range(1000):
                    sent += 1
                    yield b"x" * 500

            assert (await to.post("/v1/messages", content=body())).status_code == 413
            assert sent < 10

    run(test())


def test_a_request_that_does_not_end_is_given_up() -> None:
    async def test() -> None:
        async with client(ServiceSettings(read_s=0.05)) as to:

            async def body() -> AsyncIterator[bytes]:
                yield b"x"
                await asyncio.sleep(WAIT_S)

            assert (await to.post("/v1/messages", content=body())).status_code == 408

    run(test())


def test_logs_and_metrics_hold_no_captions_and_no_features(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test() -> bytes:
        async with client() as to:
            features = np.full((4, 40), 0.123, dtype=np.float16)
            prompt = Prompt((7, 8, 9), features)
            answers(await post(to, opened(prompt=prompt), verify(1, [2, 3])))
            return (await to.get("/metrics")).content

    with caplog.at_level("INFO", logger="edgecloud.service"):
        page = run(test())
    (record,) = (r for r in caplog.records if r.name == "edgecloud.service")
    assert set(record.__dict__["facts"]) == {"op", "status", "s", "bytes_up"}
    assert b"edgecloud_request_seconds_count" in page
    assert NAME not in page


OPERATIONS = ["open", "verify", "generate", "close", "x"]
made = st.tuples(st.sampled_from(OPERATIONS), st.lists(values, max_size=7)).map(
    lambda drawn: wire.pack_frames([wire.pack(3, drawn[0], *drawn[1])])
)
noise = st.one_of(
    st.binary(max_size=60), st.lists(st.binary(max_size=40), max_size=4).map(wire.pack_frames), made
)


def spoilt(random: Random, body: bytes) -> bytes:
    """A well-formed request with a few bytes changed, cut, doubled or put in."""
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(body) + 1)
        body = random.choice(
            [
                body[:at] + bytes([random.randrange(256)]) + body[at + 1 :],
                body[:at],
                body[:at] + body[max(0, at - 5) :],
                body[:at] + random.randbytes(random.randint(1, 8)) + body[at:],
            ]
        )
    return body


def first_frame(body: bytes) -> bytes:
    return body[: 4 + int.from_bytes(body[:4], "little")]


async def survives(bodies: Iterable[bytes]) -> int:
    """Every body that is not well-formed is refused with a 4xx; two sessions beside them are not
    disturbed. Returns how many were refused."""
    refused = 0
    async with client(ServiceSettings(bounds=Bounds(sessions=8, idle_s=3600))) as to:
        bystander, quiet = b"a bystander here", b"another, quiet 1"
        answers(await post(to, opened(), verify(0, [2, 3])))
        answers(await post(to, opened(bystander), verify(7, [2, 3], name=bystander)))
        answers(await post(to, opened(quiet), verify(7, [9, 3], name=quiet)))
        for body in bodies:
            found = await to.post("/v1/messages", content=body)
            if 400 <= found.status_code < 500:
                refused += 1
            else:
                # Nothing was wrong with it, or, with 503, with its start: the bound of sessions.
                assert found.status_code in (200, 204, 503), (body, found.text)
                looked_at = body if found.status_code < 500 else first_frame(body)
                assert well_formed(looked_at, REQUESTS), (body, found.status_code)
            if found.status_code >= 400:
                assert set(found.json()) == {"error", "text"}
        ((_, _, told),) = answers(await post(to, verify(8, [4, 5], shared=2, name=bystander)))
        assert told[1:3] == [2, 6]
        ((_, _, told),) = answers(await post(to, verify(8, [3], new=(2,), name=quiet)))
        assert told[1:3] == [1, 4]
        assert (await to.get("/readyz")).status_code == 200
        assert b"edgecloud_queue 0.0" in (await to.get("/metrics")).content
    return refused


refused: list[int] = []


@settings(max_examples=HOSTILE, deadline=None, suppress_health_check=list(HealthCheck))
@given(bodies=st.lists(noise, min_size=50, max_size=50))
def whatever_is_sent(bodies: list[bytes]) -> None:
    refused.append(run(survives(bodies)))


def test_whatever_is_sent_is_answered_or_refused_and_harms_nobody() -> None:
    refused.clear()
    whatever_is_sent()
    assert sum(refused) >= 0.9 * 50 * HOSTILE


def test_ten_thousand_spoilt_requests_are_refused_and_harm_nobody() -> None:
    random = Random(5)
    features = np.ones((128, 9), np.float16)
    sound = [
        wire.pack_frames([opened(b"another session?"), verify(1, [2])]),
        wire.pack_frames([verify(1, [2, 3], shared=1, new=(3,))]),
        wire.pack_frames([wire.pack(2, "generate", NAME, 0, [2], 40, None)]),
        wire.pack_frames([wire.pack(3, "close", b"another session?")]),
        wire.pack_frames([opened(b"another session!", Prompt((7, 8), features))]),
    ]
    assert all(well_formed(body, REQUESTS) for body in sound)

    def spoilt_ones() -> Iterator[bytes]:
        count = 0
        while count < 10_000:
            body = spoilt(random, random.choice(sound))
            if not well_formed(body, REQUESTS):  # else nothing is wrong with it, by chance
                count += 1
                yield body

    assert run(survives(spoilt_ones())) == 10_000


def test_the_page_of_the_model_says_what_speaks_here() -> None:
    async def test() -> None:
        async with client() as to:
            said = (await to.get("/v1/model")).json()
            assert said == {"name": "scripted", "protocol": wire.VERSION}

    run(test())


def test_a_json_line_holds_the_facts() -> None:
    import logging

    from edgecloud.cloud.telemetry import JsonLines

    record = logging.LogRecord("edgecloud.service", 20, "", 0, "request", None, None)
    record.__dict__["facts"] = {"op": "verify"}
    line = json.loads(JsonLines().format(record))
    assert (line["event"], line["level"], line["op"]) == ("request", "info", "verify")


def test_acceptance_travels_with_the_request() -> None:
    async def test() -> None:
        async with client() as to:
            rule = Acceptance("rank", 12)
            asked = wire.pack(1, "verify", NAME, 0, [], [9, 9], wire.pack_acceptance(rule), 0, [])
            ((_, _, found),) = answers(await post(to, opened(), asked))
            assert found[1] == 2

    run(test())
