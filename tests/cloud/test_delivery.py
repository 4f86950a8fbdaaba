"""Tokens of a stream are given over one by one, as they are made."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from edgecloud.cloud.delivery import deliver, unread_bytes
from edgecloud.cloud.engine.local import LocalCloud
from edgecloud.cloud.loopback import Loopback
from edgecloud.cloud.pipe_server import MessageServer
from edgecloud.cloud.protocol import wire
from edgecloud.cloud.protocol.remote import RemoteCloud
from edgecloud.contracts import Prompt, StopLimits
from edgecloud.decoding.stopping import Stopping
from edgecloud.models.scripted import ScriptedModel


def test_a_stream_in_process_is_computed_token_by_token_as_it_is_read() -> None:
    asked: list[int] = []

    def script(sequence: Sequence[int]) -> list[float]:
        asked.append(len(sequence))
        return [float(token == 3) for token in range(16)]

    stopping = Stopping(StopLimits(), end_ids=frozenset({2}))
    server = MessageServer(LocalCloud(ScriptedModel(script, vocab_size=16), stopping))
    session = RemoteCloud(Loopback(server), deadline_s=60).open(Prompt((5, 6)))
    stream = session.generate([], StopLimits(max_new_tokens=8))
    computed = [len(asked) for _ in stream]
    assert computed == sorted(set(computed))
    assert len(computed) == 8


def test_the_reader_of_a_stream_has_each_answer_before_the_next_but_one_is_made() -> None:
    ours, theirs = multiprocessing.Pipe(duplex=True)
    read: list[int] = []
    made: list[int] = []

    def reader() -> None:
        for number in range(20):
            assert theirs.recv_bytes() == str(number).encode()
            read.append(number)

    def answers() -> Iterator[bytes]:
        for number in range(20):
            made.append(len(read))
            yield str(number).encode()

    thread = threading.Thread(target=reader)
    thread.start()
    deliver(ours, answers())
    thread.join(10)
    assert not thread.is_alive()
    # When a token is made, all but the last one or two before it have been read.
    assert all(seen >= number - 2 for number, seen in enumerate(made))


def test_a_reader_that_takes_nothing_is_not_waited_for_long() -> None:
    ours, theirs = multiprocessing.Pipe(duplex=True)
    began = time.perf_counter()
    deliver(ours, (b"x" for _ in range(20)))
    assert time.perf_counter() - began < 2
    assert unread_bytes(ours) > 0
    assert [theirs.recv_bytes() for _ in range(20)] == [b"x"] * 20
    assert unread_bytes(ours) == 0


def test_over_http_each_token_is_sent_before_the_next_but_one_is_made() -> None:
    """The engine's thread computes without a pause and without leaving the interpreter, so that only its
    own waiting lets the thread run that sends."""
    pytest.importorskip("starlette", reason="the extra serve is not installed")
    from edgecloud.cloud.http.app import ServiceSettings, service

    sent: list[bytes] = []
    made: list[int] = []

    def script(sequence: Sequence[int]) -> list[float]:
        made.append(len(sent))
        until_s = time.perf_counter() + 2e-4
        while time.perf_counter() < until_s:
            pass
        return [float(token == 3) for token in range(16)]

    async def receive() -> dict[str, Any]:
        if asked:
            return {"type": "http.request", "body": asked.pop(), "more_body": False}
        await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.body" and message["body"]:
            sent.append(message["body"])

    async def talk() -> None:
        stopping = Stopping(StopLimits(), end_ids=frozenset({2}))
        cloud = LocalCloud(ScriptedModel(script, vocab_size=16), stopping)
        app = service(cloud, {"name": "scripted"}, ServiceSettings())
        path = "/v1/messages"
        scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode()}
        length = str(len(asked[0])).encode()
        scope |= {"headers": [(b"content-length", length)], "query_string": b""}
        scope |= {"http_version": "1.1", "scheme": "http"}
        async with app.router.lifespan_context(app):
            await asyncio.wait_for(app(scope, receive, send), 60)

    name = b"a session's name"
    generate = wire.pack(1, "generate", name, 0, [], 40, None)
    opening = wire.pack(0, "open", name, *wire.pack_open(Prompt((5, 6))))
    asked = [wire.pack_frames([opening, generate])]
    asyncio.run(talk())
    assert len(sent) == 40
    steps = made[-40:]
    assert all(seen >= number - 2 for number, seen in enumerate(steps)), steps
