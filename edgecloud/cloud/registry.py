"""The open sessions of a service: bounded in number and memory, gone when idle."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Protocol

from edgecloud.cloud.boundary import contained
from edgecloud.cloud.engine import Outcome, Runner
from edgecloud.cloud.local import SteppedSession
from edgecloud.cloud.served import Generate, Served, Verify
from edgecloud.contracts import CloudChunk, CloudCost, Prompt, Verdict
from edgecloud.draws import GREEDY, Sampling
from edgecloud.errors import (
    CloudTimeout,
    CloudUnavailable,
    EdgeCloudError,
    SessionLost,
    WireError,
)

__all__ = ["Answers", "Bounds", "Overloaded", "Registry", "Session", "SteppedCloud"]


class SteppedCloud(Protocol):
    """A cloud whose sessions give their requests step by step."""

    def open(self, prompt: Prompt, sampling: Sampling = GREEDY) -> SteppedSession: ...


class Overloaded(CloudUnavailable):
    """No room for another session now; ``retry_after_s`` says when to ask again."""

    retry_after_s = 1


@dataclass(frozen=True, slots=True)
class Bounds:
    """``memory_bytes`` of all sessions' caches and prompts; ``idle_s`` after the last request."""

    sessions: int = 64
    memory_bytes: int = 4 << 30
    idle_s: float = 60.0


@dataclass(slots=True)
class Answers:
    """The answers to one request, kept so that a repeated request gets the very same ones."""

    seq: int
    messages: list[bytes] = field(default_factory=list)
    error: EdgeCloudError | None = None
    done: bool = False
    more: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def worth_another_try(self) -> bool:
        """Whether it ended because the model was away: asked again, it may be there."""
        return self.done and isinstance(self.error, CloudUnavailable | CloudTimeout)

    async def stream(self) -> AsyncIterator[bytes]:
        """Every answer from the first on, as they come.

        Raises:
            EdgeCloudError: what ended the request.
        """
        for told in itertools.count():
            async with self.more:
                while not self.done and len(self.messages) == told:
                    await self.more.wait()
            if len(self.messages) > told:
                yield self.messages[told]
            elif self.error is not None:
                raise self.error
            else:
                return

    async def ended(self) -> None:
        """Wait for the last answer."""
        async with self.more:
            while not self.done:
                await self.more.wait()

    async def add(self, message: bytes | None, error: EdgeCloudError | None, *, done: bool) -> None:
        async with self.more:
            if message is not None:
                self.messages.append(message)
            self.error = error
            self.done = done
            self.more.notify_all()


class Session:
    """One session of the service, with the answers to its last request."""

    def __init__(
        self,
        name: bytes,
        session: SteppedSession,
        engine: Runner,
        on_cost: Callable[[CloudCost], None],
    ) -> None:
        self._on_cost = on_cost
        self._served = Served(name, session)
        self._engine = engine
        self._last = Answers(-1, done=True)
        self._turn = asyncio.Lock()
        self.used_s = time.monotonic()

    @property
    def busy(self) -> bool:
        return not self._last.done

    @property
    def memory_bytes(self) -> int:
        return self._served.session.memory_bytes

    async def ask(self, seq: int, op: str, values: list[object]) -> Answers:
        """Start request ``seq``, or find it again: asked twice, it is answered once. (Only what the model
        was not there for is tried again.)

        Raises:
            WireError: not a request, or one from before the last.
            CloudUnavailable: the service is shutting down.
        """
        self.used_s = time.monotonic()
        async with self._turn:
            if seq == self._last.seq and not self._last.worth_another_try:
                return self._last
            if seq < self._last.seq:
                raise WireError(f"request {seq} comes after request {self._last.seq}")
            await self._last.ended()
            self._last = self._started(seq, op, values)
            return self._last

    def _started(self, seq: int, op: str, values: list[object]) -> Answers:
        asked = self._served.asked(op, values)
        answers = Answers(seq)
        session = self._served.session
        steps = (
            session.verifying(
                asked.committed,
                asked.draft,
                asked.acceptance,
                asked.continuation,
                asked.drawn_from,
            )
            if isinstance(asked, Verify)
            else session.generating(asked.committed, asked.limits)
        )
        loop = asyncio.get_running_loop()

        def deliver(outcome: Outcome) -> None:
            asyncio.run_coroutine_threadsafe(self._took(answers, asked, outcome), loop)

        self._engine.submit(steps, deliver)
        return answers

    async def _took(self, answers: Answers, asked: Verify | Generate, outcome: Outcome) -> None:
        self.used_s = time.monotonic()
        if isinstance(outcome, EdgeCloudError):
            await answers.add(None, outcome, done=True)
            return
        message = contained(self._packed, answers.seq, asked, outcome)
        if isinstance(message, EdgeCloudError):
            await answers.add(None, message, done=True)
            return
        last = isinstance(outcome, Verdict) or outcome.last
        await answers.add(message, None, done=last)

    def _packed(self, seq: int, asked: Verify | Generate, answer: Verdict | CloudChunk) -> bytes:
        self._on_cost(answer.cost)
        return self._served.packed(seq, asked, answer)

    def close(self) -> None:
        self._served.session.close()


class Registry:
    """Sessions by name. Used from one event loop. ``on_cost`` is told what each answer cost."""

    def __init__(
        self,
        cloud: SteppedCloud,
        engine: Runner,
        bounds: Bounds,
        *,
        on_cost: Callable[[CloudCost], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cloud = cloud
        self._engine = engine
        self._bounds = bounds
        self._on_cost = on_cost
        self._now = now
        self._sessions: dict[bytes, Session] = {}

    @property
    def count(self) -> int:
        return len(self._sessions)

    @property
    def memory_bytes(self) -> int:
        return sum(session.memory_bytes for session in self._sessions.values())

    def open(self, name: bytes, prompt: Prompt, sampling: Sampling) -> None:
        """Open a session; one that is there already stays as it is (the request was repeated).

        Raises:
            Overloaded: there is no room for it.
        """
        if name in self._sessions:
            return
        self.expire()
        bounds = self._bounds
        if self.count >= bounds.sessions or self.memory_bytes >= bounds.memory_bytes:
            raise Overloaded(
                f"the cloud has no room for another session ({self.count} are open); try again later"
            )
        session = self._cloud.open(prompt, sampling)
        self._sessions[name] = Session(name, session, self._engine, self._on_cost)

    def get(self, name: bytes) -> Session:
        """Raises SessionLost."""
        try:
            return self._sessions[name]
        except KeyError:
            raise SessionLost("no such session; it expired, was closed or never opened") from None

    def close(self, name: bytes) -> None:
        """Forget a session, at once or as soon as its request has ended."""
        session = self._sessions.get(name)
        if session is None:
            return
        if session.busy:
            session.used_s = -float("inf")
            return
        del self._sessions[name]
        session.close()

    def expire(self) -> int:
        """Close what has been idle for too long. Returns how many there were."""
        before = self._now() - self._bounds.idle_s
        idle = [
            name
            for name, session in self._sessions.items()
            if not session.busy and session.used_s <= before
        ]
        for name in idle:
            self.close(name)
        return len(idle)
