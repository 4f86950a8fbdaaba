"""The open sessions of a service: bounded in number and memory, shared among clients, gone when idle.

What a session may take is counted before it takes it: an open session holds room for its prompt, a request
for all that it may grow to. Where there is no room, a client that holds less than another gets it from the
one that holds most: of that one the session idle for longest is closed, or, where all are busy, the first
to end. So clients that all want more hold equal shares, and what one does not want is lent to the others.
The last places are kept for clients that hold nothing, and for those that were just refused.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from edgecloud.cloud.boundary import contained
from edgecloud.cloud.engine import Outcome, Runner
from edgecloud.cloud.local import SteppedSession
from edgecloud.cloud.served import Generate, Served, Verify, check_context
from edgecloud.cloud.tokens import ONLY_CLIENT
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


_WAITS_S = 2.5
"""How long a place is kept for a client that was refused: until it has asked again."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """``memory_bytes`` of all sessions' caches and prompts; ``idle_s`` after the last request; ``context``:
    most tokens of one session, prompt and output together, where that is bounded."""

    sessions: int = 64
    memory_bytes: int = 4 << 30
    idle_s: float = 60.0
    context: int | None = None


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

    def __init__(self, name: bytes, client: str, served: Served[SteppedSession]) -> None:
        self.name = name
        self.client = client
        self.served = served
        self.last = Answers(-1, done=True)
        self.used_s = time.monotonic()
        self.promised_bytes = 0
        """What it may grow to by the request under way, or by its first one."""
        self.unwanted = False
        """Whether it is to be closed when its request ends."""
        self.turn = asyncio.Lock()

    @property
    def busy(self) -> bool:
        return not self.last.done

    @property
    def memory_bytes(self) -> int:
        """What it takes, or was promised."""
        return max(self.served.session.memory_bytes, self.promised_bytes)


class Registry:
    """Sessions by client and name. Used from one event loop. ``on_cost`` is told what each answer cost.
    ``clients`` are those for which a place is kept."""

    def __init__(
        self,
        cloud: SteppedCloud,
        engine: Runner,
        bounds: Bounds,
        *,
        on_cost: Callable[[CloudCost, str], None],
        clients: Iterable[str] = (),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cloud = cloud
        self._engine = engine
        self._bounds = bounds
        self._on_cost = on_cost
        self._clients = frozenset(clients)
        self._now = now
        self._sessions: dict[tuple[str, bytes], Session] = {}
        self._ending: set[Session] = set()
        """Closed by their clients while a request was under way: they take room until it ends."""
        self._refused_s: dict[str, float] = {}
        """When a client was refused for want of room, where it holds less than others."""

    @property
    def count(self) -> int:
        return len(self._sessions) + len(self._ending)

    @property
    def memory_bytes(self) -> int:
        return sum(session.memory_bytes for session in self._held)

    def count_of(self, client: str) -> int:
        return sum(session.client == client for session in self._held)

    def memory_bytes_of(self, client: str) -> int:
        return sum(session.memory_bytes for session in self._held if session.client == client)

    def open(
        self, name: bytes, prompt: Prompt, sampling: Sampling, *, client: str = ONLY_CLIENT
    ) -> None:
        """Open a session; one that is there already stays as it is (the request was repeated).

        Raises:
            ContextLengthError: the prompt is longer than the context.
            Overloaded: there is no room for it.
        """
        if (client, name) in self._sessions:
            return
        context = self._bounds.context
        check_context("open", context, prompt.length)
        session = self._cloud.open(prompt, sampling)
        served = Served(name, session, prompt_tokens=prompt.length, context=context)
        needed = session.memory_for(0)
        self._make_room(client, sessions=1, more_bytes=needed)
        opened = Session(name, client, served)
        opened.promised_bytes = needed
        self._sessions[client, name] = opened

    async def ask(
        self, name: bytes, seq: int, op: str, values: list[object], *, client: str = ONLY_CLIENT
    ) -> Answers:
        """Start request ``seq`` of a session, or find it again: asked twice, it is answered once. (Only
        what the model was not there for is tried again.)

        Raises:
            SessionLost: there is no such session.
            WireError: not a request, or one from before the last.
            ContextLengthError: the session would become longer than the context.
            Overloaded: there is no room for what it may grow to.
            CloudUnavailable: the service is shutting down.
        """
        session = self._get(client, name)
        session.used_s = self._now()
        async with session.turn:
            last = session.last
            if seq == last.seq and not last.worth_another_try:
                return last
            if seq < last.seq:
                raise WireError(f"request {seq} comes after request {last.seq}")
            await last.ended()
            # It may have been closed meanwhile.
            self._get(client, name)
            session.last = self._started(session, seq, op, values)
            return session.last

    def close(self, name: bytes, *, client: str = ONLY_CLIENT) -> None:
        """Forget a session; what it takes is free at once, or as soon as its request has ended."""
        session = self._sessions.pop((client, name), None)
        if session is None:
            return
        if session.busy:
            self._ending.add(session)
        else:
            session.served.session.close()

    def expire(self) -> int:
        """Close what has been idle for too long. Returns how many there were."""
        before = self._now() - self._bounds.idle_s
        idle = [one for one in self._idle if one.used_s <= before]
        for session in idle:
            self.close(session.name, client=session.client)
        return len(idle)

    @property
    def _held(self) -> list[Session]:
        return [*self._sessions.values(), *self._ending]

    @property
    def _idle(self) -> list[Session]:
        """Those that wait for their client."""
        return [one for one in self._sessions.values() if not one.busy and not one.turn.locked()]

    def _get(self, client: str, name: bytes) -> Session:
        try:
            return self._sessions[client, name]
        except KeyError:
            raise SessionLost("no such session; it expired, was closed or never opened") from None

    def _started(self, session: Session, seq: int, op: str, values: list[object]) -> Answers:
        asked = session.served.asked(op, values)
        self._promise(session, asked)
        answers = Answers(seq)
        steps = (
            session.served.session.verifying(
                asked.committed,
                asked.draft,
                asked.acceptance,
                asked.continuation,
                asked.drawn_from,
            )
            if isinstance(asked, Verify)
            else session.served.session.generating(asked.committed, asked.limits)
        )
        loop = asyncio.get_running_loop()

        def deliver(outcome: Outcome) -> None:
            asyncio.run_coroutine_threadsafe(self._took(session, answers, asked, outcome), loop)

        self._engine.submit(steps, deliver)
        return answers

    def _promise(self, session: Session, asked: Verify | Generate) -> None:
        """Set aside what a request may grow its session to.

        Raises:
            Overloaded: there is no room for it.
        """
        if isinstance(asked, Verify):
            computed = asked.new + len(asked.draft)
            tokens = len(asked.committed) + len(asked.draft) + asked.continuation
        else:
            computed = asked.new
            tokens = max(len(asked.committed), asked.limits.max_new_tokens)
        needed = session.served.session.memory_for(tokens, computed)
        more_bytes = needed - session.memory_bytes
        if more_bytes > 0:
            self._make_room(session.client, sessions=0, more_bytes=more_bytes)
        session.promised_bytes = max(needed, session.promised_bytes)

    async def _took(
        self, session: Session, answers: Answers, asked: Verify | Generate, outcome: Outcome
    ) -> None:
        session.used_s = self._now()
        if isinstance(outcome, EdgeCloudError):
            await answers.add(None, outcome, done=True)
        else:
            message = contained(self._packed, session, answers.seq, asked, outcome)
            if isinstance(message, EdgeCloudError):
                await answers.add(None, message, done=True)
            else:
                last = isinstance(outcome, Verdict) or outcome.last
                await answers.add(message, None, done=last)
        if answers.done:
            self._ended(session)

    def _packed(
        self, session: Session, seq: int, asked: Verify | Generate, answer: Verdict | CloudChunk
    ) -> bytes:
        self._on_cost(answer.cost, session.client)
        return session.served.packed(seq, asked, answer)

    def _ended(self, session: Session) -> None:
        """A request of a session has ended: what it was promised and did not take is free again."""
        session.promised_bytes = 0
        if session in self._ending:
            self._ending.discard(session)
            session.served.session.close()
        elif session.unwanted:
            self.close(session.name, client=session.client)

    def _make_room(self, client: str, *, sessions: int, more_bytes: int) -> None:
        """See to it that ``client`` may take so much more.

        Raises:
            Overloaded: it may not now.
        """
        self.expire()
        while lacking := self._lacking(client, sessions, more_bytes):
            victim = self._borrowed(client, sessions, more_bytes)
            if victim is None:
                self._refused_s[client] = self._now()
                raise Overloaded(f"the cloud has no room now: {lacking}; try again later")
            self.close(victim.name, client=victim.client)
        self._refused_s.pop(client, None)

    def _lacking(self, client: str, sessions: int, more_bytes: int) -> str | None:
        """Which bound stands against ``client`` taking so much more."""
        bounds, taken = self._bounds, self.memory_bytes
        if sessions and self.count + sessions + self._kept_from(client) > bounds.sessions:
            return f"{self.count} of {bounds.sessions} sessions are open"
        if taken + more_bytes > bounds.memory_bytes:
            return (
                f"{more_bytes} bytes more are needed, and of {bounds.memory_bytes} for caches and "
                f"prompts {taken} are taken"
            )
        return None

    def _kept_from(self, client: str) -> int:
        """How many places ``client`` may not take, because others that hold less may want them."""
        own = self.count_of(client)
        if not own:
            return 0
        counts = Counter(session.client for session in self._held)
        recently = self._now() - _WAITS_S
        waiting = {
            other
            for other, refused_s in self._refused_s.items()
            if refused_s > recently and counts[other] < own
        }
        absent = {other for other in self._clients if not counts[other]}
        return len((waiting | absent) - {client})

    def _borrowed(self, client: str, sessions: int, more_bytes: int) -> Session | None:
        """The session that ``client`` may have the room of: one of the client that holds most, where that
        is more than ``client`` would hold then. Where all of those are busy there is none yet."""
        held: Counter[str] = Counter()
        for one in self._held:
            held[one.client] += one.memory_bytes
        counts = Counter(one.client for one in self._held)
        too_many = bool(sessions) and self.count + sessions > self._bounds.sessions
        sizes, more = (counts, sessions) if too_many else (held, more_bytes)
        others = [other for other in sizes if other != client]
        largest = max(others, key=lambda other: sizes[other], default=None)
        if largest is None or sizes[largest] <= sizes[client] + more:
            return None
        theirs = [one for one in self._sessions.values() if one.client == largest]
        oldest = min(
            (one for one in self._idle if one.client == largest),
            key=lambda one: one.used_s,
            default=None,
        )
        if oldest is None and theirs and not any(one.unwanted for one in theirs):
            min(theirs, key=lambda one: one.used_s).unwanted = True
        return oldest
