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
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Literal, Protocol

from edgecloud.cloud.engine.boundary import contained
from edgecloud.cloud.engine.engine import UNWANTED, Outcome, Runner
from edgecloud.cloud.engine.local import SteppedSession
from edgecloud.cloud.protocol.bearer_tokens import ONLY_CLIENT
from edgecloud.cloud.protocol.session_state import Generate, Served, Verify, check_context
from edgecloud.contracts import CloudChunk, CloudCost, Prompt, Verdict
from edgecloud.contracts.sampling import GREEDY, Sampling
from edgecloud.errors import (
    CloudTimeout,
    CloudUnavailable,
    EdgeCloudError,
    OutOfMemoryError,
    SessionLost,
    WireError,
)

__all__ = ["Answers", "Bounds", "Caller", "Overloaded", "Registry", "Session", "SteppedCloud"]


class SteppedCloud(Protocol):
    """A cloud whose sessions give their requests step by step."""

    def open(self, prompt: Prompt, sampling: Sampling = GREEDY) -> SteppedSession:
        """A new session for ``prompt``; nothing is computed yet."""


class Overloaded(CloudUnavailable):
    """No room for another session now; ``retry_after_s`` says when to ask again."""

    retry_after_s = 1


_WAITS_S = 2.5
"""Seconds that a place is kept for a client that was refused: until it has asked again."""

_GIVE_WAY_S = 2e-3
"""Seconds that the engine waits for a loop that has not taken the answer before."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """``memory_bytes`` of all sessions' caches and prompts; ``idle_s`` after the last request; ``context``:
    most tokens of one session, prompt and output together, where that is bounded."""

    sessions: int = 64
    memory_bytes: int = 4 << 30
    idle_s: float = 60.0
    context: int | None = None


@dataclass(slots=True)
class Caller:
    """A client that waits for the answers to a request; ``gone`` once it has hung up or its time is over.
    ``streams``: more of them come after the first."""

    gone: bool = False
    streams: bool = False
    answers: Answers | None = None

    def wait_for(self, answers: Answers) -> None:
        """Count as one of those who wait for ``answers``."""
        self.answers = answers
        answers.callers += 1

    def leave(self) -> None:
        """Wait no longer. What nobody waits for is ended."""
        if not self.gone:
            self.gone = True
            if self.answers is not None:
                self.answers.left()


@dataclass(slots=True)
class Answers:
    """The answers to one request, kept so that a repeated request gets the very same ones. ``cancel`` ends
    the request, and is called when the last of its ``callers`` has gone."""

    seq: int
    cancel: Callable[[], None] = lambda: None
    callers: int = 0
    messages: list[bytes] = field(default_factory=list)
    error: EdgeCloudError | None = None
    done: bool = False
    more: asyncio.Condition = field(default_factory=asyncio.Condition)

    def left(self) -> None:
        """Count one caller less; the request ends with its last caller."""
        self.callers -= 1
        if not self.callers and not self.done:
            self.cancel()

    @property
    def unwanted(self) -> bool:
        """True when it is being ended, for nobody waits for it."""
        return not self.callers and not self.done

    @property
    def worth_another_try(self) -> bool:
        """True when it ended for want of the model, or of memory: asked again, they may be there."""
        return self.done and isinstance(
            self.error, CloudUnavailable | CloudTimeout | OutOfMemoryError
        )

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
        """Append a message or the error that ends the request, and wake everyone who waits. Ignored after
        the last (``done``)."""
        async with self.more:
            if self.done:
                return
            if message is not None:
                self.messages.append(message)
            self.error = error
            self.done = done
            if done:
                # It holds the whole request, which nobody needs any longer.
                self.cancel = lambda: None
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
        """Bytes it may grow to by the request under way, or by its first one."""
        self.unwanted = False
        """True when it is to be closed at the end of its request."""
        self.turn = asyncio.Lock()

    @property
    def busy(self) -> bool:
        """True until the last request is answered in full."""
        return not self.last.done

    @property
    def memory_bytes(self) -> int:
        """Bytes that it takes, or was promised."""
        return max(self.served.session.memory_bytes, self.promised_bytes)


@dataclass(frozen=True, slots=True)
class _Refused:
    """A client's refusal for want of room: its time, and the bytes it asked for."""

    when_s: float
    more_bytes: int


@dataclass(frozen=True, slots=True)
class _Lacking:
    """The bound that is reached, or ``nothing`` where free room is kept for others; with a text."""

    what: Literal["sessions", "memory", "nothing"]
    text: str


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
        self._refused: dict[str, _Refused] = {}
        """The last refusal of each client."""

    @property
    def count(self) -> int:
        """Open sessions, those included that are still ending."""
        return len(self._sessions) + len(self._ending)

    @property
    def memory_bytes(self) -> int:
        """Bytes held by all sessions."""
        return sum(session.memory_bytes for session in self._held)

    def count_of(self, client: str) -> int:
        """Sessions that ``client`` holds."""
        return sum(session.client == client for session in self._held)

    def memory_bytes_of(self, client: str) -> int:
        """Bytes held by the sessions of ``client``."""
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
        self,
        name: bytes,
        seq: int,
        op: str,
        values: list[object],
        *,
        client: str = ONLY_CLIENT,
        caller: Caller | None = None,
    ) -> Answers:
        """Start request ``seq`` of a session, or find it again: asked twice, it is answered once. (Only
        what the model was not there for is tried again, and what was ended because nobody waited for it.)

        Raises:
            CloudTimeout: the caller has gone before its turn came.
            SessionLost: there is no such session.
            WireError: not a request, or one from before the last.
            ContextLengthError: the session would become longer than the context.
            Overloaded: there is no room for what it may grow to.
            CloudUnavailable: the service is shutting down.
        """
        session = self._get(client, name)
        session.used_s = self._now()
        caller = caller or Caller()
        async with session.turn:
            last = session.last
            if seq < last.seq:
                raise WireError(f"request {seq} comes after request {last.seq}")
            if seq > last.seq or last.unwanted:
                await last.ended()
            if seq > last.seq or last.worth_another_try:
                if caller.gone:
                    raise CloudTimeout(UNWANTED)
                if self._get(client, name) is not session:
                    # It was closed meanwhile, and another one has its name.
                    raise SessionLost("the session was closed before the request's turn came")
                session.last = self._started(session, seq, op, values)
            caller.wait_for(session.last)
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
        """Close sessions that were idle for too long. Returns their number."""
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
        """Sessions that wait for their client."""
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
                asked.draft_probabilities,
            )
            if isinstance(asked, Verify)
            else session.served.session.generating(asked.committed, asked.limits)
        )
        loop = asyncio.get_running_loop()

        sent: list[Future[None]] = []

        def deliver(outcome: Outcome) -> None:
            """On the engine's thread, which leaves its core to the loop where that is behind: what is
            made token by token would otherwise be sent together."""
            first = not sent
            wait(sent[-1:], timeout=_GIVE_WAY_S)
            took = self._took(session, answers, asked, outcome)
            sent[:] = [asyncio.run_coroutine_threadsafe(took, loop)]
            if first and isinstance(outcome, CloudChunk) and not outcome.last:
                wait(sent, timeout=_GIVE_WAY_S)

        cancel = self._engine.submit(steps, deliver, client=session.client)

        def unwanted() -> None:
            cancel()
            session.served.session.abandon()

        answers.cancel = unwanted
        return answers

    def _promise(self, session: Session, asked: Verify | Generate) -> None:
        """Reserve the memory that a request may grow its session to.

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
        if answers.done:
            return
        session.used_s = self._now()
        message: bytes | EdgeCloudError
        if isinstance(outcome, EdgeCloudError):
            message, last = outcome, True
        else:
            message = contained(self._packed, session, answers.seq, asked, outcome)
            last = isinstance(outcome, Verdict) or outcome.last
        if isinstance(message, EdgeCloudError):
            last = True
            await answers.add(None, message, done=True)
        else:
            await answers.add(message, None, done=last)
        if last:
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
        """Make room so that ``client`` may take so much more.

        Raises:
            Overloaded: it may not now.
        """
        lacking = self._lacking(client, sessions, more_bytes)
        if lacking is not None:
            self.expire()
        while (lacking := self._lacking(client, sessions, more_bytes)) is not None:
            victim = self._borrowed(client, lacking, sessions, more_bytes)
            if victim is None:
                self._refused[client] = _Refused(self._now(), more_bytes)
                raise Overloaded(f"the cloud has no room now: {lacking.text}; try again later")
            self.close(victim.name, client=victim.client)
        self._refused.pop(client, None)

    def _lacking(self, client: str, sessions: int, more_bytes: int) -> _Lacking | None:
        """The bound that keeps ``client`` from taking so much more."""
        bounds, count, taken = self._bounds, self.count, self.memory_bytes
        places, kept_bytes = self._kept_from(client, more_bytes)
        if sessions and count + sessions + places > bounds.sessions:
            full = count + sessions > bounds.sessions
            text = f"{count} of {bounds.sessions} sessions are open"
            return _Lacking(
                "sessions" if full else "nothing",
                text if full else f"{text}, and {places} kept for other clients",
            )
        if taken + more_bytes + kept_bytes > bounds.memory_bytes:
            return _Lacking(
                "memory" if taken + more_bytes > bounds.memory_bytes else "nothing",
                f"{more_bytes} bytes more are needed, and of {bounds.memory_bytes} for caches and prompts "
                f"{taken} are taken, {kept_bytes} kept for other clients",
            )
        return None

    def _kept_from(self, client: str, more_bytes: int) -> tuple[int, int]:
        """The places and bytes that ``client`` may not take, because others that hold less want them, or
        may want a first place."""
        own = self.count_of(client)
        if not own or (len(self._clients) < 2 and not self._refused):
            return 0, 0
        counts = Counter(session.client for session in self._held)
        recently = self._now() - _WAITS_S
        own_bytes = self.memory_bytes_of(client) + more_bytes
        waiting = {
            other: refused.more_bytes
            for other, refused in self._refused.items()
            if other != client and refused.when_s > recently
        }
        places = {other for other in waiting if counts[other] < own}
        absent = {other for other in self._clients if not counts[other]} - {client} - places
        kept_bytes = sum(
            wanted
            for other, wanted in waiting.items()
            if self.memory_bytes_of(other) + wanted < own_bytes
        )
        # Where there are as many clients as places, those that never come keep at most half of them empty.
        return len(places) + min(len(absent), max(1, self._bounds.sessions // 2)), kept_bytes

    def _borrowed(
        self, client: str, lacking: _Lacking, sessions: int, more_bytes: int
    ) -> Session | None:
        """The session that ``client`` may have the room of: one of the client that holds most, where that
        is more than ``client`` would hold then. Where all of those are busy there is none yet."""
        if lacking.what == "nothing":
            return None
        of_sessions = lacking.what == "sessions"
        sizes: Counter[str] = Counter()
        for one in self._held:
            sizes[one.client] += 1 if of_sessions else one.memory_bytes
        others = [other for other in sizes if other != client]
        largest = max(others, key=lambda other: sizes[other], default=None)
        more = sessions if of_sessions else more_bytes
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
