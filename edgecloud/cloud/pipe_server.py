"""The cloud's half of the protocol over a pipe: messages in, messages out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from edgecloud.cloud.delivery import deliver
from edgecloud.cloud.engine.boundary import contained
from edgecloud.cloud.engine.local import SteppedSession, alone
from edgecloud.cloud.protocol import wire
from edgecloud.cloud.protocol.session_state import Generate, Served, Verify
from edgecloud.contracts import CloudChunk, CloudModel, CloudSession, Verdict
from edgecloud.errors import EdgeCloudError, SessionLost, WireError

__all__ = ["MessageServer", "answer_all"]


class _Incoming:
    """The requests that come through a pipe, in order.

    The edge asks one thing at a time: once it has asked something else, or closed the session, it no
    longer waits for the answer before.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._ahead: deque[bytes] = deque()

    def next(self) -> bytes:
        """The next request; waits for it. Raises EOFError where the edge is gone."""
        return self._ahead.popleft() if self._ahead else self._connection.recv_bytes()

    def waits_for(self, message: bytes) -> bool:
        """True when the edge still waits for the answer to ``message``; false where it is gone."""
        try:
            while self._connection.poll(0):
                self._ahead.append(self._connection.recv_bytes())
        except (EOFError, OSError):
            return False
        if not self._ahead:
            return True
        _, _, (session, *_) = wire.unpack(message)
        return not any(_supersedes(later, session) for later in self._ahead)


def _supersedes(message: bytes, session: object) -> bool:
    _, op, values = wire.unpack(message)
    return op in ("verify", "generate") or (op == "close" and values[:1] == [session])


class MessageServer:
    """Answers requests on ``cloud``; keeps the open sessions, at most ``max_sessions``."""

    def __init__(self, cloud: CloudModel, *, max_sessions: int = 64) -> None:
        self._cloud = cloud
        self._max_sessions = max_sessions
        self._sessions: dict[bytes, Served[CloudSession]] = {}
        self._failed: dict[bytes, EdgeCloudError] = {}
        """Sessions that could not be opened: the reason is the answer to their next request."""

    @property
    def sessions(self) -> int:
        """Sessions that are open."""
        return len(self._sessions)

    def answer(self, message: bytes, wanted: Callable[[], bool] = lambda: True) -> Iterator[bytes]:
        """The answers to one request: none, one, or a stream, which ends early where they are no longer
        ``wanted``."""
        seq, op, values = wire.unpack(message)
        name = values.pop(0) if values else None
        if not isinstance(name, bytes):
            raise WireError(f"{op}: no session")
        if op in ("open", "close"):
            failed = contained(self._open if op == "open" else self._close, name, values)
            if failed is not None and op == "open":
                self._failed[name] = failed
            elif failed is not None:
                yield wire.pack_error(seq, name, failed)
            return
        answers = self._ask(seq, name, op, values, wanted)
        while (answer := contained(_next, answers)) is not None:
            if isinstance(answer, EdgeCloudError):
                yield wire.pack_error(seq, name, answer)
                return
            yield answer

    def _open(self, name: bytes, values: list[Any]) -> None:
        if len(self._sessions) >= self._max_sessions:
            raise WireError(f"open: {self._max_sessions} sessions are open already")
        prompt, sampling = wire.unpack_open(values)
        self._close(name, [])
        self._sessions[name] = Served(name, self._cloud.open(prompt, sampling))

    def _close(self, name: bytes, values: list[Any]) -> None:
        if values:
            raise WireError("close: nothing was expected after the session")
        self._failed.pop(name, None)
        served = self._sessions.pop(name, None)
        if served is not None:
            served.session.close()

    def _ask(
        self, seq: int, name: bytes, op: str, values: list[Any], wanted: Callable[[], bool]
    ) -> Iterator[bytes]:
        if name in self._failed:
            raise self._failed[name]
        if name not in self._sessions:
            raise SessionLost(f"{op}: no such session; it was closed or never opened")
        served = self._sessions[name]
        asked = served.asked(op, values)
        for answer in _answers(served.session, asked, wanted):
            yield served.packed(seq, asked, answer)


def _next(answers: Iterator[bytes]) -> bytes | None:
    """The next one, or None after the last."""
    return next(answers, None)


def _answers(
    session: CloudSession, asked: Verify | Generate, wanted: Callable[[], bool]
) -> Iterator[Verdict | CloudChunk]:
    if isinstance(asked, Generate):
        if isinstance(session, SteppedSession):
            return alone(session.generating(asked.committed, asked.limits), wanted)
        return session.generate(asked.committed, asked.limits)
    given = (
        asked.committed,
        asked.draft,
        asked.acceptance,
        asked.continuation,
        asked.draft_probabilities,
    )
    if isinstance(session, SteppedSession):
        return alone(session.verifying(*given), wanted)
    return iter([session.verify(*given)])


def answer_all(requests: Connection, server: MessageServer) -> None:
    """Answer what comes through ``requests``; what the edge no longer waits for is ended.

    Raises:
        WireError: something came that cannot be read.
        EOFError: the edge is gone.
    """
    incoming = _Incoming(requests)
    while True:
        message = incoming.next()
        try:
            deliver(requests, server.answer(message, partial(incoming.waits_for, message)))
        except WireError as error:
            # A message that cannot be read has nobody to be answered to: the edge is not ours.
            raise WireError(f"the edge sent something unreadable: {error}") from error
