"""A cloud elsewhere, as a :class:`edgecloud.contracts.CloudModel`: the client's half of the protocol.

What carries the messages is a :class:`Channel`: a pipe to another process here, HTTP between two
machines. The first verification's message follows the ``open`` message at once, so that opening a
session costs no round trip of its own.
"""

from __future__ import annotations

import itertools
import secrets
import select
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn, Protocol

from edgecloud import errors
from edgecloud.cloud.protocol import wire
from edgecloud.contracts import (
    Acceptance,
    CloudChunk,
    CloudSession,
    Pending,
    Prompt,
    StopLimits,
    Verdict,
)
from edgecloud.contracts.sampling import GREEDY, Distribution, Sampling
from edgecloud.errors import (
    CloudError,
    CloudTimeout,
    CloudUnavailable,
    EdgeCloudError,
    SessionLost,
    WireError,
)

__all__ = ["Channel", "PipeChannel", "RemoteCloud"]

_SMALL_BYTES = 4000
"""Bytes that a pipe or a socket that can be written to takes without waiting (PIPE_BUF)."""
_MOST_UNREAD_BYTES = 32 << 20


class Channel(Protocol):
    """Carries whole messages, in order."""

    def send(self, message: bytes, *, answered: bool) -> None:
        """``answered``: whether answers will come, and be received.

        Raises CloudUnavailable when the other side is gone, CloudTimeout when it takes nothing."""
        ...

    def start(self, timeout_s: float) -> None:
        """Put what was sent on its way; its answer is received later, if ever."""
        ...

    def ready(self) -> bool:
        """True when :meth:`receive` would return at once."""
        ...

    def receive(self, timeout_s: float) -> bytes:
        """The next message; raises CloudTimeout or CloudUnavailable."""
        ...


class PipeChannel:
    """A channel over a ``multiprocessing`` connection.

    Sending never waits: what the other side does not take at once, a thread of the channel gives it when
    it does. So a cloud that stands still is noticed where its answer is waited for, which has a deadline.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._waiting: deque[bytes] = deque()
        self._change = threading.Condition()
        self._writer: threading.Thread | None = None
        self._gone: OSError | None = None
        self._closed = False

    def send(self, message: bytes, *, answered: bool) -> None:
        """Raises CloudUnavailable when the other side is gone, CloudTimeout when it has left too much
        unread."""
        with self._change:
            if self._gone is not None:
                raise CloudUnavailable(f"the cloud process went away ({self._gone})")
            if self._closed:
                raise CloudUnavailable("the channel to the cloud process is closed")
            left = sum(map(len, self._waiting))
            # What is small is always taken: without its `close` a session would stay.
            if left + len(message) > _MOST_UNREAD_BYTES and len(message) > _SMALL_BYTES:
                raise CloudTimeout(f"the cloud process has left {left} bytes unread")
            if self._waiting or not self._takes(len(message)):
                self._waiting.append(message)
                self._start_writer()
                self._change.notify()
                return
            try:
                self._connection.send_bytes(message)
            except OSError as error:
                raise CloudUnavailable(f"the cloud process went away ({error})") from error

    def start(self, timeout_s: float) -> None:
        """It is on its way already."""

    def ready(self) -> bool:
        """True when :meth:`receive` would not wait: a message is there, or the process has ended."""
        try:
            return bool(self._connection.poll(0))
        except OSError:
            return True  # receive says what is wrong

    def receive(self, timeout_s: float) -> bytes:
        """The next message.

        Raises:
            CloudTimeout: none within ``timeout_s``.
            CloudUnavailable: the cloud process ended.
        """
        try:
            if not self._connection.poll(max(0.0, timeout_s)):
                raise CloudTimeout(
                    f"the cloud did not answer within {timeout_s:.1f} s; raise --deadline"
                )
            message: bytes = self._connection.recv_bytes()
        except (EOFError, OSError) as error:
            raise CloudUnavailable("the cloud process went away") from error
        return message

    def close(self) -> None:
        """Close the pipe; what was not written yet is dropped."""
        with self._change:
            self._closed = True
            self._waiting.clear()
            self._change.notify()
            if self._writer is None:
                self._connection.close()
            # Else the thread closes it: it may be in the middle of a message.

    def _takes(self, size: int) -> bool:
        """True when the other side has room for a message now."""
        if size > _SMALL_BYTES or not hasattr(select, "poll"):
            return False
        poll = select.poll()
        try:
            poll.register(self._connection.fileno(), select.POLLOUT)
            return bool(poll.poll(0))  # where it is gone, too: sending says so
        except (OSError, ValueError):
            return True

    def _start_writer(self) -> None:
        if self._writer is None:
            self._writer = threading.Thread(target=self._write, name="edgecloud-pipe", daemon=True)
            self._writer.start()

    def _write(self) -> None:
        while True:
            with self._change:
                while not self._waiting and not self._closed:
                    self._change.wait()
                if self._closed:
                    self._connection.close()
                    return
                message = self._waiting[0]
            try:
                self._connection.send_bytes(message)
            except OSError as error:
                with self._change:
                    self._gone = error
                    self._waiting.clear()
                    self._writer = None
                return
            with self._change:
                if self._waiting:
                    self._waiting.popleft()


class RemoteCloud:
    """``deadline_s`` bounds the waiting for the cloud in one session, all calls together."""

    def __init__(self, channel: Channel, *, deadline_s: float) -> None:
        self._channel = channel
        self._deadline_s = deadline_s

    def open(self, prompt: Prompt, sampling: Sampling = GREEDY) -> CloudSession:
        """A session whose first request carries ``prompt``; nothing is sent yet."""
        return _RemoteSession(self._channel, prompt, sampling, self._deadline_s)


class _RemoteSession(CloudSession):
    """Opened by its first request; opened again, whole, where the cloud no longer knows it."""

    def __init__(
        self, channel: Channel, prompt: Prompt, sampling: Sampling, deadline_s: float
    ) -> None:
        self._channel = channel
        self._prompt = prompt
        self._sampling = sampling
        self._session = b""
        self._left_s = deadline_s
        self._seq = itertools.count()
        self._known: list[int] = []

    def start(self, count: int) -> Pending[CloudChunk]:
        chunks = self._generating((), StopLimits(count))
        return Pending(lambda: CloudChunk.merged(chunks), self._channel.ready)

    def submit(
        self,
        committed: Sequence[int],
        draft: Sequence[int],
        acceptance: Acceptance,
        continuation: int = 0,
        draft_probabilities: Sequence[Distribution] = (),
    ) -> Pending[Verdict]:
        arguments = (
            list(draft),
            wire.pack_acceptance(acceptance),
            continuation,
            wire.pack_drawn_from(draft_probabilities),
        )
        sent = self._request("verify", committed, *arguments)

        def verdict() -> Verdict:
            (seq, bytes_up), again = sent, False
            while True:
                try:
                    values, bytes_down = self._answer(seq, "verdict")
                    break
                except SessionLost:
                    if again:
                        raise
                    seq, bytes_up = self._again(bytes_up, "verify", committed, *arguments)
                    again = True
            found = wire.unpack_verdict(
                values,
                drafted=len(draft),
                continuation=continuation,
                bytes_up=bytes_up,
                bytes_down=bytes_down,
            )
            self._known = [*committed, *found.output(draft)]
            return found

        return Pending(verdict, self._channel.ready)

    def generate(self, committed: Sequence[int], limits: StopLimits) -> Iterator[CloudChunk]:
        return self._generating(committed, limits)

    def _generating(self, committed: Sequence[int], limits: StopLimits) -> Iterator[CloudChunk]:
        """The request leaves now; the chunks come as they are asked for."""
        output = list(committed)
        arguments = (limits.max_new_tokens, limits.max_sentences)
        sent = self._request("generate", output, *arguments)
        return self._chunks(output, arguments, *sent)

    def _chunks(
        self, output: list[int], arguments: tuple[Any, ...], seq: int, bytes_up: int
    ) -> Iterator[CloudChunk]:
        last = False
        while not last:
            try:
                values, bytes_down = self._answer(seq, "chunk")
            except SessionLost:
                seq, bytes_up = self._again(bytes_up, "generate", output, *arguments)
                values, bytes_down = self._answer(seq, "chunk")
            chunk, at = wire.unpack_chunk(values, bytes_up=bytes_up, bytes_down=bytes_down)
            if at < len(output):
                continue  # it came twice
            if at > len(output):
                raise WireError(f"tokens {len(output)} to {at} of the cloud's output did not come")
            last = chunk.last
            output += chunk.tokens
            self._known = list(output)
            bytes_up = 0
            yield chunk

    def close(self) -> None:
        if self._session:
            message = wire.pack(next(self._seq), "close", self._session)
            self._session = b""
            try:
                self._channel.send(message, answered=False)
            except (CloudTimeout, CloudUnavailable):
                # Nothing is left to close; whoever needs the cloud next is told.
                return

    def _request(self, op: str, committed: Sequence[int], *arguments: Any) -> tuple[int, int]:
        """Send one request, after ``open`` if it is the first. Returns its number and all bytes sent."""
        sent = 0
        if not self._session:
            self._session = secrets.token_bytes(16)
            opening = wire.pack_open(self._prompt, self._sampling)
            plain = self._sampling.unpenalized and wire.is_plain(self._prompt)
            version = wire.VERSION if plain else wire.VERSIONS[-1]
            seq = next(self._seq)
            message = wire.pack(seq, "open", self._session, *opening, version=version)
            self._channel.send(message, answered=False)
            sent += len(message)
        shared = len(self._known)
        if list(committed[:shared]) != self._known:
            shared = 0
        seq = next(self._seq)
        message = wire.pack(seq, op, self._session, shared, list(committed[shared:]), *arguments)
        self._channel.send(message, answered=True)
        self._channel.start(self._left_s)
        self._known = list(committed)
        return seq, sent + len(message)

    def _again(
        self, bytes_up: int, op: str, committed: Sequence[int], *arguments: Any
    ) -> tuple[int, int]:
        """The same request on a new session: what the lost one knew is sent with it."""
        self._session, self._known = b"", []
        seq, more = self._request(op, committed, *arguments)
        return seq, bytes_up + more

    def _answer(self, seq: int, kind: str) -> tuple[list[Any], int]:
        """The answer to request ``seq``; late answers to requests given up earlier are dropped."""
        while True:
            began = time.monotonic()
            try:
                message = self._channel.receive(self._left_s)
            except CloudTimeout:
                # The cloud need not go on with what nobody waits for.
                self.close()
                self._known = []
                raise
            self._left_s -= time.monotonic() - began
            answered, what, values = wire.unpack(message)
            session = values.pop(0) if values else None
            if session != self._session or answered < seq:
                continue
            if answered > seq:
                raise WireError(f"answer to request {answered} while {seq} was waited for")
            if what == "error":
                _raise(values)
            if what != kind:
                raise WireError(f"a {kind} was waited for, a {what} came")
            return values, len(message)


def _raise(values: list[Any]) -> NoReturn:
    """Raise what the cloud reported, as the same exception where it is one of ours."""
    name, text = (str(value) for value in values[:2]) if len(values) == 2 else ("", "no reason")
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, EdgeCloudError) and name in errors.__all__:
        raise kind(text)
    raise CloudError(f"the cloud failed: {name}: {text}")
