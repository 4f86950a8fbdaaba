"""The cloud's half of the protocol: messages in, messages out, whatever carries them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edgecloud.cloud import wire
from edgecloud.contracts import CloudModel, CloudSession
from edgecloud.errors import EdgeCloudError, WireError

__all__ = ["MessageServer"]


class MessageServer:
    """Answers requests on ``cloud``; keeps the open sessions, at most ``max_sessions``."""

    def __init__(self, cloud: CloudModel, *, max_sessions: int = 64) -> None:
        self._cloud = cloud
        self._max_sessions = max_sessions
        self._sessions: dict[bytes, CloudSession] = {}
        self._outputs: dict[bytes, list[int]] = {}
        """Output tokens of each session that both sides know."""
        self._failed: dict[bytes, EdgeCloudError] = {}
        """Sessions that could not be opened: the reason is the answer to their next request."""

    @property
    def sessions(self) -> int:
        return len(self._sessions)

    def answer(self, message: bytes) -> Iterator[bytes]:
        """The answers to one request: none, one, or a stream."""
        seq, op, values = wire.unpack(message)
        session_id = values.pop(0) if values else None
        if not isinstance(session_id, bytes):
            raise WireError(f"{op}: no session")
        try:
            if op == "open":
                self._open(session_id, values)
            elif op == "close":
                self._close(session_id)
            elif op == "verify":
                yield self._verify(seq, session_id, values)
            elif op == "generate":
                yield from self._generate(seq, session_id, values)
            else:
                raise WireError(f"unknown request {op!r}")
        except EdgeCloudError as error:
            if op == "open":
                self._failed[session_id] = error
            else:
                yield wire.pack(seq, "error", session_id, type(error).__name__, str(error))

    def _open(self, session_id: bytes, values: list[Any]) -> None:
        if len(values) != 3:
            raise WireError("open: ids, shape and features were expected")
        if len(self._sessions) >= self._max_sessions:
            raise WireError(f"open: {self._max_sessions} sessions are open already")
        prompt = wire.unpack_prompt(*values)
        self._close(session_id)
        self._sessions[session_id] = self._cloud.open(prompt)
        self._outputs[session_id] = []

    def _close(self, session_id: bytes) -> None:
        self._failed.pop(session_id, None)
        self._outputs.pop(session_id, None)
        session = self._sessions.pop(session_id, None)
        if session is not None:
            session.close()

    def _session(
        self, op: str, session_id: bytes, shared: Any, new: Any
    ) -> tuple[CloudSession, list[int]]:
        """The session and its committed output, brought up to date."""
        if session_id in self._failed:
            raise self._failed[session_id]
        if session_id not in self._sessions:
            raise WireError(f"{op}: no such session; it was closed or never opened")
        known = self._outputs[session_id]
        if not isinstance(shared, int) or not 0 <= shared <= len(known) or not _tokens(new):
            raise WireError(f"{op}: the committed tokens do not follow what is known")
        committed = [*known[:shared], *new]
        return self._sessions[session_id], committed

    def _verify(self, seq: int, session_id: bytes, values: list[Any]) -> bytes:
        if len(values) != 5:
            raise WireError("verify: shared, new, draft, rule and threshold were expected")
        shared, new, draft, rule, threshold = values
        session, committed = self._session("verify", session_id, shared, new)
        # Known from here on, also when the verification fails: the edge counts on it.
        self._outputs[session_id] = committed
        if not _tokens(draft) or not draft:
            raise WireError("verify: a draft is a list of tokens, one at least")
        verdict = session.verify(committed, draft, wire.acceptance_of(rule, threshold))
        self._outputs[session_id] = [*committed, *draft[: verdict.kept]]
        return wire.pack_verdict(seq, session_id, verdict)

    def _generate(self, seq: int, session_id: bytes, values: list[Any]) -> Iterator[bytes]:
        if len(values) != 4:
            raise WireError("generate: shared, new and two limits were expected")
        shared, new, max_new_tokens, max_sentences = values
        session, committed = self._session("generate", session_id, shared, new)
        self._outputs[session_id] = committed
        for chunk in session.generate(committed, wire.limits_of(max_new_tokens, max_sentences)):
            self._outputs[session_id] = committed = [*committed, *chunk.tokens]
            yield wire.pack_chunk(seq, session_id, chunk)


def _tokens(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(token, int) and token >= 0 for token in value)
