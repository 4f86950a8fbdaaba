"""The cloud's half of the protocol over a pipe: messages in, messages out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edgecloud.cloud import wire
from edgecloud.cloud.served import Served, Verify
from edgecloud.contracts import CloudModel, CloudSession
from edgecloud.errors import EdgeCloudError, SessionLost, WireError

__all__ = ["MessageServer"]


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
        return len(self._sessions)

    def answer(self, message: bytes) -> Iterator[bytes]:
        """The answers to one request: none, one, or a stream."""
        seq, op, values = wire.unpack(message)
        name = values.pop(0) if values else None
        if not isinstance(name, bytes):
            raise WireError(f"{op}: no session")
        try:
            if op == "open":
                self._open(name, values)
            elif op == "close":
                if values:
                    raise WireError("close: nothing was expected after the session")
                self._close(name)
            else:
                yield from self._ask(seq, name, op, values)
        except EdgeCloudError as error:
            if op == "open":
                self._failed[name] = error
            else:
                yield wire.pack_error(seq, name, error)

    def _open(self, name: bytes, values: list[Any]) -> None:
        if len(self._sessions) >= self._max_sessions:
            raise WireError(f"open: {self._max_sessions} sessions are open already")
        prompt, sampling = wire.unpack_open(values)
        self._close(name)
        self._sessions[name] = Served(name, self._cloud.open(prompt, sampling))

    def _close(self, name: bytes) -> None:
        self._failed.pop(name, None)
        served = self._sessions.pop(name, None)
        if served is not None:
            served.session.close()

    def _ask(self, seq: int, name: bytes, op: str, values: list[Any]) -> Iterator[bytes]:
        if name in self._failed:
            raise self._failed[name]
        if name not in self._sessions:
            raise SessionLost(f"{op}: no such session; it was closed or never opened")
        served = self._sessions[name]
        asked = served.asked(op, values)
        if isinstance(asked, Verify):
            verdict = served.session.verify(
                asked.committed,
                asked.draft,
                asked.acceptance,
                asked.continuation,
                asked.drawn_from,
            )
            yield served.packed(seq, asked, verdict)
            return
        for chunk in served.session.generate(asked.committed, asked.limits):
            yield served.packed(seq, asked, chunk)
