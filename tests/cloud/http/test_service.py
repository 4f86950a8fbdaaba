"""The verifier behind HTTP, spoken to in this process."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import os
import re
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from threading import Event
from typing import Any, TypeVar

import httpx
import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgecloud.cloud.engine.local import LocalCloud
from edgecloud.cloud.http.client import HttpChannel, model_metadata
from edgecloud.cloud.protocol import wire
from edgecloud.cloud.protocol.bearer_tokens import authorization, read_token_file
from edgecloud.cloud.protocol.session_state import Verify
from edgecloud.contracts import LOG_MEL, Acceptance, Prompt, StopLimits
from edgecloud.decoding.stopping import Stopping
from edgecloud.errors import ConfigError
from edgecloud.models.scripted import ScriptedModel, follows
from tests.cloud.message_schema import REQUESTS, well_formed
from tests.cloud.protocol.test_wire import values

pytest.importorskip("starlette", reason="the extra serve is not installed")
from edgecloud.cloud.engine.session_registry import Bounds
from edgecloud.cloud.http.app import ServiceSettings, service

VOCAB = 12
TEXT = [2, 3, 4, 5, 6, 0]
PROMPT = Prompt((7, 8, 9))
STOPPING = Stopping(StopLimits(40), frozenset({0}), frozenset({1}))
NAME = b"a session's name"
WAIT_S = 300
HOSTILE = 400 if os.environ.get("EDGECLOUD_HOSTILE") == "full" else 20
"""Times 50 requests that hypothesis makes up; all of them with ``tox -e hostile``."""
BEYOND = 5000 if HOSTILE == 400 else 400
SPOILT = 10_000 if HOSTILE == 400 else 2000
Result = TypeVar("Result")


def cloud() -> LocalCloud:
    script = follows(TEXT, prompt_length=PROMPT.length, vocab_size=VOCAB)
    return LocalCloud(ScriptedModel(script, vocab_size=VOCAB), STOPPING)


def run(test: Coroutine[Any, Any, Result]) -> Result:
    return asyncio.run(asyncio.wait_for(test, WAIT_S))


@asynccontextmanager
async def client(
    given_settings: ServiceSettings | None = None, *, model: LocalCloud | None = None, **more: Any
) -> AsyncIterator[httpx.AsyncClient]:
    app = service(model or cloud(), {"name": "scripted"}, given_settings or ServiceSettings())
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


def big(count: int) -> bytes:
    return opened(b"another session!", Prompt((7,) * count))


TOKEN_BYTES = 8
"""What the cache of a scripted model takes for a token; a row of its logits takes 48."""


@pytest.mark.parametrize(
    ("messages", "fits"),
    [
        ([big(70)], True),
        ([big(71)], False),
        ([verify(2, [2] * 9, shared=2)], True),
        ([verify(2, [2] * 10, shared=2)], False),
        ([verify(2, [2], shared=2, new=(4,) * 12)], False),
        ([wire.pack(2, "generate", NAME, 2, [], 71, None)], True),
        ([wire.pack(2, "generate", NAME, 2, [], 72, None)], False),
    ],
)
def test_memory_is_counted_before_it_is_taken(messages: list[bytes], fits: bool) -> None:
    # After its first request the session holds 3 tokens of its prompt and 1 of its output.
    bounds = Bounds(memory_bytes=74 * TOKEN_BYTES)

    async def test() -> None:
        async with client(ServiceSettings(bounds=bounds)) as to:
            answers(await post(to, opened(), verify(1, [2])))
            found = await post(to, *messages)
            if fits:
                assert found.status_code in (200, 204), found.text
                return
            assert (found.status_code, found.headers["Retry-After"]) == (503, "1")
            assert found.json()["error"] == "Overloaded"
            assert str(bounds.memory_bytes) in found.json()["text"]
            # What was refused took nothing, and may come again under its number.
            answers(await post(to, verify(2, [3], shared=1)))

    run(test())


def test_what_a_request_was_promised_and_did_not_take_is_free_again() -> None:
    async def test() -> None:
        async with client(ServiceSettings(bounds=Bounds(memory_bytes=800))) as to:
            asked = wire.pack(1, "generate", NAME, 0, [], 90, None)
            assert len(answers(await post(to, opened(), asked))) == len(TEXT)
            await asyncio.sleep(0)
            assert (await post(to, big(80))).status_code == 204

    run(test())


@pytest.mark.parametrize(
    ("messages", "numbers"),
    [
        ([big(41)], (41, 40)),
        ([opened(), verify(1, [2] * 38)], (3, 38, 41, 40)),
        ([opened(), verify(1, [2] * 30, new=(3,) * 8)], (3, 8, 30, 41, 40)),
        (
            [opened(), wire.pack(1, "verify", NAME, 0, [], [2], ["exact", 20, 0.3, 1.0], 37, [])],
            (3, 38, 41, 40),
        ),
        ([opened(), wire.pack(1, "generate", NAME, 0, [2, 3], 38, None)], (3, 2, 36, 41, 40)),
        ([opened(), wire.pack(1, "generate", NAME, 0, [2] * 38, 0, None)], (3, 38, 41, 40)),
        ([opened(), verify(1, [2] * 200_000)], (200_003, 40)),
    ],
)
def test_over_the_context_a_request_is_refused_with_the_numbers(
    messages: list[bytes], numbers: tuple[int, ...]
) -> None:
    async def test() -> None:
        async with client(ServiceSettings(bounds=Bounds(context=40))) as to:
            refused = await post(to, *messages)
            assert (refused.status_code, refused.json()["error"]) == (413, "ContextLengthError")
            assert set(map(str, numbers)) <= set(re.findall(r"\d+", refused.json()["text"]))
            # Up to the bound it is taken, and the session is as it was.
            answers(await post(to, opened(), verify(1, [2] * 37)))
            assert (await post(to, big(40))).status_code == 204

    run(test())


CLIENTS = {"1f": "lab", "2g": "phones", "3h": "robots"}


class Clients:
    """Clients of one service, each with its token."""

    def __init__(self, to: httpx.AsyncClient) -> None:
        self._to = to

    async def post(self, who: str, *messages: bytes) -> httpx.Response:
        headers = {"Authorization": f"Bearer {who}"}
        return await self._to.post(
            "/v1/messages", content=wire.pack_frames(messages), headers=headers
        )

    async def opened(self, who: str, number: int) -> int:
        """Open a session and verify in it; returns the status."""
        name = f"{who} {number}".ljust(16).encode()
        return (await self.post(who, opened(name), verify(0, [2], name=name))).status_code

    async def still_there(self, who: str, number: int) -> bool:
        name = f"{who} {number}".ljust(16).encode()
        return (await self.post(who, verify(0, [2], name=name))).status_code == 200

    async def metric(self, line: str) -> bool:
        page = await self._to.get("/metrics", headers={"Authorization": "Bearer 1f"})
        return line in page.text.splitlines()


@asynccontextmanager
async def clients(bounds: Bounds, count: int = 2) -> AsyncIterator[Clients]:
    chosen = dict(list(CLIENTS.items())[:count])
    async with client(ServiceSettings(clients=chosen, bounds=bounds)) as to:
        yield Clients(to)


def test_a_client_borrows_what_others_do_not_use_and_never_fills_all_sessions() -> None:
    async def test() -> None:
        async with clients(Bounds(sessions=6)) as those:
            assert [await those.opened("1f", n) for n in range(7)] == [200] * 5 + [503] * 2
            # The last place was kept for the other one, which then gets its share from the first.
            assert [await those.opened("2g", n) for n in range(4)] == [200] * 3 + [503]
            assert [await those.still_there("1f", n) for n in range(5)] == [False] * 2 + [True] * 3
            assert [await those.opened("1f", n) for n in range(2)] == [503] * 2
            assert await those.metric('edgecloud_client_sessions{client="lab"} 3.0')
            assert await those.metric('edgecloud_client_sessions{client="phones"} 3.0')

    run(test())


def test_three_clients_that_want_all_have_equal_shares() -> None:
    async def test() -> None:
        async with clients(Bounds(sessions=7), 3) as those:
            for number in range(9):
                for who in CLIENTS:
                    await those.opened(who, number)
            told = [
                [
                    n
                    for n in range(2, 4)
                    if await those.metric(f'edgecloud_client_sessions{{client="{name}"}} {n}.0')
                ]
                for name in CLIENTS.values()
            ]
            assert sorted(n for (n,) in told) == [2, 2, 3]

    run(test())


def test_memory_is_shared_like_sessions() -> None:
    async def test() -> None:
        async with clients(Bounds(memory_bytes=1000)) as those:
            # 3 tokens and 1 of output stay of each: 32 bytes, and 128 while it verifies.
            assert [await those.opened("1f", n) for n in range(40)].count(503) > 0
            full = [await those.opened("2g", n) for n in range(40)]
            assert full[:12] == [200] * 12
            taken = [await those.still_there("1f", n) for n in range(40)].count(True)
            assert 10 <= taken <= 20

    run(test())


def test_what_is_kept_for_one_client_is_not_taken_from_another() -> None:
    async def test() -> None:
        async with clients(Bounds(sessions=6, memory_bytes=4000), 3) as those:
            # One holds most of the memory in one session, another most of the sessions.
            name = b"3h large session"
            large = await those.post(
                "3h", opened(name, Prompt((7,) * 200)), verify(0, [2], name=name)
            )
            assert large.status_code == 200
            assert [await those.opened("1f", n) for n in range(5)] == [200] * 4 + [503]
            again = await those.post("3h", verify(0, [2], name=name))
            assert again.status_code == 200
            assert await those.opened("2g", 0) == 200

    run(test())


def test_a_client_whose_sessions_are_all_busy_gives_them_up_as_they_end() -> None:
    gate = Event()

    class Waiting(ScriptedModel):
        def extend(self, tokens: Sequence[int]) -> Tensor:
            assert gate.wait(WAIT_S)
            return super().extend(tokens)

        def new_sequence(self) -> ScriptedModel:
            return Waiting(self._script, vocab_size=VOCAB)

    script = follows(TEXT, prompt_length=PROMPT.length, vocab_size=VOCAB)
    busy = LocalCloud(Waiting(script, vocab_size=VOCAB), STOPPING)

    async def test() -> None:
        chosen = ServiceSettings(clients=dict(list(CLIENTS.items())[:2]), bounds=Bounds(sessions=4))
        async with client(chosen, model=busy) as to:
            those = Clients(to)
            held = [asyncio.create_task(those.opened("1f", n)) for n in range(3)]
            while not await those.metric("edgecloud_queue 3.0"):
                await asyncio.sleep(0.01)
            first = asyncio.create_task(those.opened("2g", 0))
            while not await those.metric("edgecloud_queue 4.0"):
                await asyncio.sleep(0.01)
            assert await those.opened("2g", 1) == 503
            gate.set()
            assert await asyncio.gather(*held, first) == [200] * 4
            # The place that has come free is not for the one that gave it up.
            assert await those.opened("1f", 3) == 503
            assert await those.opened("2g", 1) == 200
            assert [await those.still_there("1f", n) for n in range(3)].count(True) == 2

    run(test())


def test_sessions_of_one_client_are_none_of_anothers() -> None:
    async def test() -> None:
        async with clients(Bounds()) as those:
            assert (await those.post("1f", opened(), verify(1, [2]))).status_code == 200
            assert (await those.post("2g", verify(2, [3], shared=1))).status_code == 404
            assert (await those.post("2g", wire.pack(3, "close", NAME))).status_code == 204
            assert (await those.post("2g", opened(), verify(1, [9]))).status_code == 200
            ((_, _, told),) = answers(await those.post("1f", verify(2, [3], shared=1)))
            assert told[1:3] == [1, 4]
            assert await those.metric(
                'edgecloud_client_requests_total{client="phones",status="404"} 1.0'
            )
            assert await those.metric(
                'edgecloud_client_tokens_total{client="lab",kind="verified"} 2.0'
            )

    run(test())


def test_an_idle_session_expires() -> None:
    async def test() -> None:
        async with client(ServiceSettings(bounds=Bounds(idle_s=0.05))) as to:
            answers(await post(to, opened(), verify(1, [2])))
            await asyncio.sleep(0.3)
            assert b"edgecloud_sessions 0.0" in (await to.get("/metrics")).content
            assert (await post(to, verify(2, [3], shared=1))).status_code == 404

    run(test())


def test_a_session_closed_while_busy_is_gone_as_soon_as_its_request_ends() -> None:
    async def test() -> None:
        async with client(ServiceSettings(bounds=Bounds(idle_s=3600))) as to:
            asked = [opened(), wire.pack(1, "generate", NAME, 0, [], 40, None)]
            generation = asyncio.create_task(post(to, *asked))
            while b"edgecloud_sessions 1.0" not in (await to.get("/metrics")).content:
                await asyncio.sleep(0)
            assert (await post(to, wire.pack(2, "close", NAME))).status_code == 204
            assert (await post(to, verify(3, [2]))).status_code == 404
            assert answers(await generation)
            await asyncio.sleep(0.05)
            assert b"edgecloud_sessions 0.0" in (await to.get("/metrics")).content
            assert b"edgecloud_session_memory_bytes 0.0" in (await to.get("/metrics")).content

    run(test())


@pytest.mark.parametrize(
    "message",
    [
        msgpack.packb([2.0, 1, "close", NAME]),
        msgpack.packb([True, 1, "close", NAME]),
        msgpack.packb([2, True, "close", NAME]),
        msgpack.packb([2, 1.0, "close", NAME]),
        msgpack.packb([2, -1, "close", NAME]),
        wire.pack(1, "close", NAME, None),
        wire.pack(1, "close", NAME, 0, [1]),
        wire.pack(1, "open", NAME, *wire.pack_open(PROMPT)[:1], [True, True], b"", [0.0, 1.0, 0]),
        wire.pack(1, "open", NAME, *wire.pack_open(PROMPT)[:3], [0.0, 1.0, True]),
        wire.pack(1, "open", NAME, *wire.pack_open(PROMPT)[:3], [0, 1.0, 0]),
        wire.pack(1, "verify", NAME, False, [], [2], ["exact", 20, 0.3, 1.0], 0, []),
        wire.pack(1, "verify", NAME, 0, [True], [2], ["exact", 20, 0.3, 1.0], 0, []),
        wire.pack(1, "verify", NAME, 0, [], [2], ["exact", True, 0.3, 1.0], 0, []),
        wire.pack(1, "verify", NAME, 0, [], [2], ["exact", 20, 0.3, 1.0], True, []),
        wire.pack(1, "generate", NAME, 0, [], True, None),
        wire.pack(1, "generate", NAME, 0, [], 3, True),
    ],
)
def test_numbers_of_another_type_and_fields_too_many_are_refused(message: bytes) -> None:
    async def test() -> None:
        async with client() as to:
            answers(await post(to, opened(), verify(0, [2])))
            refused = await post(to, message)
            assert (refused.status_code, refused.json()["error"]) == (400, "WireError")

    run(test())


@pytest.mark.parametrize("token", ["sécret", "密码", "a long secret", "secret\udcff"])
def test_a_token_of_any_characters_is_borne_and_known(token: str) -> None:
    async def test() -> None:
        async with client(ServiceSettings(clients={token: "edge"})) as to:
            told = await to.get("/v1/model", headers={b"Authorization": authorization(token)})
            assert told.status_code == 200
            told = await to.get("/v1/model", headers={b"Authorization": b"Bearer s\xe9cret"})
            assert told.status_code == 401

    run(test())


@pytest.mark.parametrize("token", ["two\nlines", "a\ttab", "nul\0", "a\x85b"])
def test_a_token_that_no_header_can_hold_is_refused_on_both_sides(
    token: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="EDGECLOUD_TOKEN"):
        HttpChannel("http://127.0.0.1:1", token=token)
    with pytest.raises(ConfigError, match="EDGECLOUD_TOKEN"):
        model_metadata("http://127.0.0.1:1", token=token, timeout_s=1)
    file = tmp_path / "tokens"
    file.write_text(f"name {token}", "utf-8")
    with pytest.raises(ConfigError, match="tokens"):
        read_token_file(str(file))


@pytest.mark.parametrize(
    ("text", "clients"),
    [
        ("secret\n", {"secret": "default"}),
        ("\ufeffa long secret\r\n\r\n", {"a long secret": "default"}),
        ("# who may ask\nlab 1f\n\n  phones\t2g \n", {"1f": "lab", "2g": "phones"}),
        ("lab 1f", {"1f": "lab", "lab 1f": "lab"}),
    ],
)
def test_a_token_file_names_clients_or_holds_one_token(
    text: str, clients: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "tokens"
    file.write_text(text, "utf-8")
    assert read_token_file(str(file)) == clients


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("# nobody\n# at all\n", "empty"),
        ("lab 1f\nalone", "line 2: a client's name"),
        ("lab 1f\nlab 2g", "line 2: that name or token"),
        ("lab 1f\nphones 1f", "line 2: that name or token"),
        ('lab 1f\n"quoted" 2g', "line 2: a client's name"),
    ],
)
def test_a_token_file_that_is_not_clear_is_refused_without_telling_a_token(
    text: str, says: str, tmp_path: Path
) -> None:
    file = tmp_path / "tokens"
    file.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=says) as refused:
        read_token_file(str(file))
    assert "1f" not in str(refused.value).replace(str(tmp_path), "")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/model", "/metrics"])
@pytest.mark.parametrize("borne", ["", "Bearer ", "Bearer wrong", "secret", "Bearer sécret"])
def test_without_the_token_nothing_is_told(path: str, borne: str) -> None:
    async def test() -> None:
        async with client(ServiceSettings(clients={"secret": "edge"})) as to:
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

            refused = await to.post("/v1/messages", content=body())
            assert (refused.status_code, refused.headers["Connection"]) == (411, "close")
            length = {"Content-Length": "500000"}
            refused = await to.post("/v1/messages", content=body(), headers=length)
            assert refused.status_code == 413
            assert sent < 10

    run(test())


def test_a_request_that_does_not_end_is_given_up() -> None:
    async def test() -> None:
        async with client(ServiceSettings(read_s=0.05)) as to:

            async def body() -> AsyncIterator[bytes]:
                yield b"x"
                await asyncio.sleep(WAIT_S)

            length = {"Content-Length": "2"}
            late = await to.post("/v1/messages", content=body(), headers=length)
            assert late.status_code == 408

    run(test())


def test_logs_and_metrics_hold_no_captions_and_no_features(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test() -> bytes:
        async with client() as to:
            features = np.full((4, 40), 0.123, dtype=np.float16)
            prompt = Prompt((7, 8, 9), {LOG_MEL: features})
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


ROOMY = Bounds(sessions=8, idle_s=3600)


async def survives(bodies: Iterable[bytes], bounds: Bounds = ROOMY) -> int:
    """Every body that is not well-formed is refused with a 4xx; two sessions beside them are not
    disturbed. Returns how many were refused."""
    refused = 0
    async with client(ServiceSettings(bounds=bounds)) as to:
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


def test_thousands_of_spoilt_requests_are_refused_and_harm_nobody() -> None:
    random = Random(5)
    features = np.ones((128, 9), np.float16)
    sound = [
        wire.pack_frames([opened(b"another session?"), verify(1, [2])]),
        wire.pack_frames([verify(1, [2, 3], shared=1, new=(3,))]),
        wire.pack_frames([wire.pack(2, "generate", NAME, 0, [2], 40, None)]),
        wire.pack_frames([wire.pack(3, "close", b"another session?")]),
        wire.pack_frames([opened(b"another session!", Prompt((7, 8), {LOG_MEL: features}))]),
    ]
    assert all(well_formed(body, REQUESTS) for body in sound)

    def spoilt_ones() -> Iterator[bytes]:
        count = 0
        while count < SPOILT:
            body = spoilt(random, random.choice(sound))
            if not well_formed(body, REQUESTS):  # else nothing is wrong with it, by chance
                count += 1
                yield body

    assert run(survives(spoilt_ones())) == SPOILT


HUGE = (1 << 31) - 1
TIGHT = Bounds(sessions=8, memory_bytes=8000, idle_s=3600, context=64)
"""Little more than what eight sessions take that are as long as they may be."""


def at_the_bounds(random: Random, seq: int) -> bytes:
    """A well-formed request whose numbers are small, at the bounds of :data:`TIGHT`, or far beyond them."""
    name = random.choice([NAME, *(f"session {n}".ljust(16).encode() for n in range(8))])

    def count() -> int:
        return random.choice([0, 1, 2, 3, 30, 58, 60, 61, 62, 64, 65, 300, 20_000, HUGE])

    def tokens() -> list[int]:
        token = random.choice([0, 2, 3, VOCAB - 1, VOCAB, HUGE])
        return [token] * min(20_000, random.choice([0, 0, 1, 3, count()]))

    acceptance = [random.choice(["exact", "rank", "bounded", "rejection"]), 20, 0.3, math.inf]
    more = min(4096, count())
    asked = random.choice(
        [
            ("open", *wire.pack_open(Prompt(tuple(tokens()) or (7,)))),
            ("open", *wire.pack_open(PROMPT)),
            (
                "verify",
                random.choice([0, count()]),
                tokens(),
                tokens() or [2],
                acceptance,
                more,
                [],
            ),
            ("generate", random.choice([0, count()]), tokens(), count(), None),
            ("close",),
        ]
    )
    return wire.pack_frames([wire.pack(seq, asked[0], name, *asked[1:])])


def test_requests_at_and_beyond_the_bounds_are_answered_or_refused_and_harm_nobody() -> None:
    random = Random(7)
    bodies = [at_the_bounds(random, seq) for seq in range(1, BEYOND + 1)]
    assert all(well_formed(body, REQUESTS) for body in bodies)
    refused = run(survives(bodies, TIGHT))
    assert 0.2 * BEYOND < refused < 0.9 * BEYOND


def test_the_page_of_the_model_says_what_speaks_here() -> None:
    async def test() -> None:
        async with client() as to:
            said = (await to.get("/v1/model")).json()
            versions = {"protocol": wire.VERSION, "protocols": list(wire.VERSIONS)}
            assert said == {"name": "scripted", **versions}

    run(test())


def test_a_json_line_holds_the_facts() -> None:
    import logging

    from edgecloud.cloud.http.telemetry import JsonLines

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


def test_what_is_too_long_is_refused_before_it_is_looked_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def looked(*_: object) -> None:
        raise AssertionError("it was looked through")

    monkeypatch.setattr("edgecloud.cloud.protocol.session_state._tokens", looked)
    monkeypatch.setattr(wire, "draft_probabilities_of", looked)
    rule = ["rejection", 20, 0.3, math.inf]

    async def test() -> None:
        async with client(ServiceSettings(bounds=Bounds(context=40))) as to:
            for asked in (
                ("verify", 0, [], [2] * 41, rule, 0, []),
                ("verify", 0, [2] * 40, [2], rule, 0, []),
                ("generate", 0, [2] * 41, 0, None),
            ):
                refused = await post(to, opened(), wire.pack(1, asked[0], NAME, *asked[1:]))
                assert refused.json()["error"] == "ContextLengthError"

    run(test())


def test_more_distributions_than_drafted_tokens_are_refused_before_they_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read(_: object) -> None:
        raise AssertionError("they were read")

    monkeypatch.setattr(wire, "draft_probabilities_of", read)
    rule = ["rejection", 20, 0.3, math.inf]

    async def test() -> None:
        async with client() as to:
            asked = wire.pack(1, "verify", NAME, 0, [], [2], rule, 0, [bytes(6)] * 100_000)
            refused = await post(to, opened(), asked)
            assert refused.status_code == 400
            assert "more distributions than tokens" in refused.json()["text"]

    run(test())


def test_what_failed_for_want_of_memory_may_come_again_under_its_number() -> None:
    class Once(ScriptedModel):
        failed = False

        def extend(self, tokens: Sequence[int]) -> Tensor:
            if not Once.failed:
                Once.failed = True
                raise MemoryError
            return super().extend(tokens)

        def new_sequence(self) -> ScriptedModel:
            return Once(self._script, vocab_size=VOCAB)

    script = follows(TEXT, prompt_length=PROMPT.length, vocab_size=VOCAB)

    async def test() -> None:
        model = LocalCloud(Once(script, vocab_size=VOCAB), STOPPING)
        async with client(model=model) as to:
            full = await post(to, opened(), verify(1, [2, 9]))
            assert (full.status_code, full.json()["error"]) == (503, "OutOfMemoryError")
            ((_, _, found),) = answers(await post(to, verify(1, [2, 9])))
            assert found[1:3] == [1, 3]

    run(test())


def test_clients_that_never_come_leave_half_of_the_places_to_the_others() -> None:
    async def test() -> None:
        async with clients(Bounds(sessions=3), 3) as those:
            assert [await those.opened("1f", n) for n in range(3)] == [200, 200, 503]
            assert [await those.opened("2g", n) for n in range(2)] == [200, 503]
            assert await those.opened("3h", 0) == 200

    run(test())


def test_of_an_answered_request_no_more_is_kept_than_its_answer() -> None:
    gc.collect()
    earlier = {id(one) for one in gc.get_objects() if type(one) is Verify}

    async def test() -> None:
        async with client() as to:
            answers(await post(to, opened(), verify(1, [2, 3])))
            for _ in range(10):
                gc.collect()
                found = {id(one) for one in gc.get_objects() if type(one) is Verify}
                if not found - earlier:
                    return
                await asyncio.sleep(0.02)
            raise AssertionError("the request is still there")

    run(test())
