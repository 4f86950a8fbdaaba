"""Drafts recorded once and played back by many edges at a time, which then cost next to nothing.

What is played back are the very bytes that an edge sent, under other session names; every answer is
compared with the one that was recorded. Where two tokens were as good as equally likely when it was, who
shares the forward may decide between them: another choice there is a tie, counted by itself.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import cycle, islice
from math import isclose
from typing import Any, cast
from urllib.parse import urlsplit

import numpy as np
from torch import Tensor

from edgecloud.cloud.engine.local import LocalCloud
from edgecloud.cloud.loopback import Loopback
from edgecloud.cloud.pipe_server import MessageServer
from edgecloud.cloud.protocol import wire
from edgecloud.cloud.protocol.remote import RemoteCloud
from edgecloud.contracts import Model, Prompt
from edgecloud.decoding.local_edge import LocalEdge
from edgecloud.decoding.recorder import Recorder
from edgecloud.decoding.speculative import Speculation, speculative
from edgecloud.decoding.stopping import Stopping
from edgecloud.hardware.clock import WallClock

__all__ = ["TIE", "Caption", "Played", "Recording", "exchange", "play", "record"]

_NAME_BYTES = 16
_SAME = 1e-3
"""How far probabilities and regrets may lie apart: batches round differently."""
TIE = 1e-4
"""The two largest logits of a place are a tie when they differ by less."""


@dataclass(frozen=True, slots=True)
class Caption:
    """One caption's traffic: the session's name, the bodies of its requests, its last message, the
    message that answers each request, and whether a tie was decided in it."""

    session: bytes
    requests: tuple[bytes, ...]
    closing: bytes
    answers: tuple[bytes, ...]
    tied: tuple[bool, ...]


@dataclass(slots=True)
class Played:
    """What came of playing it back. ``faults`` are answers that are not those recorded, or no answers;
    ``ties`` answers that differ where the recorded one decided a tie."""

    captions: int = 0
    verifications: int = 0
    ties: int = 0
    seconds: float = 0.0
    waits_s: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Verifications a second."""
        return self.verifications / self.seconds


class Recording(Loopback):
    """Keeps what passes, as HTTP would carry it: what is not answered travels with what is next."""

    def __init__(self, server: MessageServer, gaps: list[float]) -> None:
        super().__init__(server)
        self._waiting: list[bytes] = []
        self._gaps = gaps
        self.requests: list[bytes] = []
        self.answers: list[bytes] = []
        self.tied: list[bool] = []

    def send(self, message: bytes, *, answered: bool) -> None:
        super().send(message, answered=answered)
        self._waiting.append(message)
        if answered:
            self.requests.append(wire.pack_frames(self._waiting))
            self._waiting = []

    def receive(self, timeout_s: float) -> bytes:
        self.answers.append(super().receive(timeout_s))
        self.tied.append(min(self._gaps, default=1.0) < TIE)
        self._gaps.clear()
        return self.answers[-1]

    def taken(self) -> Caption:
        """The caption that has just ended."""
        (last,) = self._waiting
        session: bytes = wire.unpack(last)[2][0]
        found = Caption(session, tuple(self.requests), last, tuple(self.answers), tuple(self.tied))
        self._waiting, self.requests, self.answers, self.tied = [], [], [], []
        return found


class _Watched:
    """A model, and in ``gaps`` by how much the two largest logits of each place differ."""

    def __init__(self, model: Model, gaps: list[float]) -> None:
        self._model = model
        self._gaps = gaps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def prefill(self, prompt: Prompt) -> Tensor:
        return self._seen(self._model.prefill(prompt))

    def extend(self, tokens: Sequence[int]) -> Tensor:
        return self._seen(self._model.extend(tokens))

    def new_sequence(self) -> _Watched:
        return _Watched(self._model.new_sequence(), self._gaps)

    def _seen(self, logits: Tensor) -> Tensor:
        top = logits.reshape(-1, logits.shape[-1]).topk(2).values
        self._gaps += (top[:, 0] - top[:, 1]).tolist()
        return logits


def record(
    prompts: Sequence[Prompt],
    *,
    edge: Model,
    cloud: Model,
    settings: Speculation,
    stopping: Stopping,
) -> list[Caption]:
    """The traffic of one caption for each of ``prompts``."""
    gaps: list[float] = []
    watched = LocalCloud(cast("Model", _Watched(cloud, gaps)), stopping)
    channel = Recording(MessageServer(watched), gaps)
    remote = RemoteCloud(channel, deadline_s=600)
    captions = []
    for prompt in prompts:
        for _ in speculative(
            prompt,
            edge=LocalEdge(edge),
            cloud=remote,
            settings=settings,
            stopping=stopping,
            recorder=Recorder(WallClock()),
        ):
            pass
        captions.append(channel.taken())
    return captions


def play(
    url: str,
    recorded: Sequence[Caption],
    *,
    edges: int,
    captions: int,
    deadline_s: float = 60.0,
    after_each: Callable[[int], None] | None = None,
) -> Played:
    """Let ``edges`` connections at a time play back ``captions`` captions, the recorded ones in turn.

    ``after_each`` is told how many captions have ended. A request without an answer within
    ``deadline_s`` is a fault, and so is every other answer than the recorded one, ties apart.
    """
    found = Played()
    left = islice(cycle(recorded), captions)

    async def everyone() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(edges):
                group.create_task(_edge(url, left, found, deadline_s, after_each))

    began = time.perf_counter()
    asyncio.run(everyone())
    found.seconds = time.perf_counter() - began
    return found


async def _edge(
    url: str,
    left: Iterator[Caption],
    found: Played,
    deadline_s: float,
    after_each: Callable[[int], None] | None,
) -> None:
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    last = b""
    with closing(writer):
        for caption in left:
            session = secrets.token_bytes(_NAME_BYTES)
            answers = zip(caption.requests, caption.answers, caption.tied, strict=True)
            for body, expected, tied in answers:
                body = last + body.replace(caption.session, session)
                last = b""
                began = time.perf_counter()
                try:
                    async with asyncio.timeout(deadline_s):
                        status, answer = await exchange(reader, writer, body)
                except (OSError, EOFError, TimeoutError) as error:
                    found.faults.append(f"no answer: {type(error).__name__}: {error}")
                    return
                found.waits_s.append(time.perf_counter() - began)
                found.verifications += 1
                fault = _fault(status, answer, expected.replace(caption.session, session))
                if fault is not None and status == 200 and tied:
                    found.ties += 1
                    break  # what was recorded goes on from another text
                if fault is not None:
                    found.faults.append(fault)
            last = wire.pack_frames([caption.closing.replace(caption.session, session)])
            found.captions += 1
            if after_each is not None:
                after_each(found.captions)
        await exchange(reader, writer, last)


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes
) -> tuple[int, bytes]:
    """One request of HTTP/1.1; ``(status, body)`` of its answer, which is of known length or in chunks."""
    head = f"POST /v1/messages HTTP/1.1\r\nHost: load\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    said = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    status, (_, chunked, _) = int(said.split()[1]), said.partition("transfer-encoding: chunked")
    if not chunked:
        length = said.partition("content-length:")[2].partition("\r")[0]
        return status, await reader.readexactly(int(length or 0))
    found = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        found += (await reader.readexactly(size + 2))[:-2]
    await reader.readexactly(2)
    return status, found


def _fault(status: int, answer: bytes, expected: bytes) -> str | None:
    """What is wrong with an answer, if anything is."""
    if status != 200:
        return f"status {status}: {answer[:200]!r}"
    messages, rest = wire.unpack_frames(answer)
    if len(messages) != 1 or rest:
        return f"{len(messages)} messages in an answer"
    got, due = _facts(messages[0]), _facts(expected)
    if got[0] != due[0]:
        return f"{got[0]} in place of {due[0]}"
    if len(got[1]) != len(due[1]) or not all(
        isclose(one, other, abs_tol=_SAME) for one, other in zip(got[1], due[1], strict=True)
    ):
        return f"{got[1]} in place of {due[1]}"
    return None


def _facts(verdict: bytes) -> tuple[list[Any], list[float]]:
    """What must be equal in a verdict's message, and what must be close."""
    seq, kind, (session, kept, token, ranks, top_probs, more, regret, cost, *others) = wire.unpack(
        verdict
    )
    close = [*np.frombuffer(top_probs, dtype="<f4").tolist(), regret]
    return [seq, kind, session, kept, token, ranks, more, cost[:4], others], close
