"""Connections of a service: bounded in number, and given up when they stay silent.

uvicorn bounds neither how long a client may take for the head of a request, or for a TLS handshake, nor how
many connections may be open. Its protocol class can be replaced, and this one adds that: a client has
``head_s`` from the connection's first moment, or from the first byte of a later request, to the end of
the head. What a client sends is parsed some at a time, others in between, but for bodies whose length was
said: a chunk of one byte costs as much as a large one. When a connection more than ``most`` is made, the
one that has waited for its client for longest makes room, whether for a request, for the rest of a body, or
until an answer is read; where all wait for the model the new one is answered with 503.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

__all__ = ["Connections", "GuardedProtocol"]

_TLS_ENDS_WITHIN_S = 1.0
_PARSED_AT_ONCE = 1024
"""Bytes, of heads and of bodies in chunks: of the smallest ones that is a few milliseconds."""
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Type: application/json\r\nContent-Length: 69\r\n\r\n"
    b'{"error": "Overloaded", "text": "too many connections; try it later"}'
)


@dataclass(slots=True)
class Connections:
    """State that all connections of one service share. ``most`` may be open at once; ``head_s`` bounds a
    request's head and a TLS handshake, ``write_s`` how long a client may leave an answer unread."""

    most: int
    head_s: float = 10.0
    write_s: float = 30.0
    tls: ssl.SSLContext | None = None
    open: set[GuardedProtocol] = field(default_factory=set)
    silent: dict[GuardedProtocol, None] = field(default_factory=dict)
    """Those that wait for their client: longest first."""

    def protocol(self) -> Callable[..., GuardedProtocol]:
        """The protocol that uvicorn makes for each connection (its setting ``http``)."""
        return partial(GuardedProtocol, self)

    def admit(self, connection: GuardedProtocol) -> bool:
        """Take a new connection in, where need be in the place of a silent one. Returns whether there is
        room."""
        if len(self.open) >= self.most:
            oldest = next(iter(self.silent), None)
            if oldest is None:
                return False
            oldest.give_up()
        self.open.add(connection)
        return True

    def forget(self, connection: GuardedProtocol) -> None:
        """Release the place of a connection that has ended."""
        self.open.discard(connection)
        self.silent.pop(connection, None)


class GuardedProtocol(H11Protocol):
    """One connection, with deadlines. With TLS it does the handshake itself, so that the bounds hold
    from the first moment."""

    def __init__(self, shared: Connections, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._shared = shared
        self._late: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._plain: asyncio.Transport | None = None
        """The connection itself, until its TLS handshake is done."""
        self._securing: asyncio.Task[None] | None = None
        self._uploading: RequestResponseCycle | None = None
        """The request whose body is waited for, or was last."""
        self._early = b""
        """Bytes that came with the end of the handshake."""
        self._unparsed = bytearray()
        self._parsing = False
        """Whether the next bytes are parsed by and by."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Admit the connection, or refuse it where too many are open; begins the TLS handshake."""
        admitted = self._shared.admit(self)
        if self._shared.tls is not None:
            if not admitted:
                transport.abort()
                self._plain = transport
                return
            self.connections.add(self)
            self._plain = transport
            # Nothing may be read before the handshake listens.
            transport.pause_reading()
            self._wait_for_head()
            self._securing = self.loop.create_task(self._secured(transport, self._shared.tls))
            return
        super().connection_made(transport)
        if not admitted:
            transport.write(_FULL)
            transport.close()
            return
        self._wait_for_head()

    async def _secured(self, plain: asyncio.Transport, context: ssl.SSLContext) -> None:
        try:
            transport = await self.loop.start_tls(
                plain,
                self,
                context,
                server_side=True,
                ssl_handshake_timeout=self._shared.head_s,
                ssl_shutdown_timeout=_TLS_ENDS_WITHIN_S,
            )
        except (OSError, RuntimeError):
            # No handshake, or the connection went away in the middle of it.
            plain.abort()
            self._ended()
            return
        if transport is None or plain.is_closing():
            self._ended()
            return
        self._plain = None
        super().connection_made(transport)
        if self._early:
            early, self._early = self._early, b""
            self.data_received(early)

    def connection_lost(self, exc: Exception | None) -> None:
        """Release the connection's place and its deadlines."""
        self._ended()
        if self._plain is None:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read from the client; bytes before the end of the handshake are kept for it."""
        if self._plain is not None:
            self._early += data
            return
        self._unparsed += data
        if self._parsing:
            self.transport.pause_reading()
        else:
            self._parse()

    def _parse(self) -> None:
        """Parse as much as may be at once, and the rest when others have had their turns."""
        if self.transport.is_closing():
            self._unparsed.clear()
            return
        length = len(self._unparsed) if self._length_known else _PARSED_AT_ONCE
        some = bytes(self._unparsed[:length])
        del self._unparsed[:length]
        super().data_received(some)
        self._settle()
        was_parsing, self._parsing = self._parsing, bool(self._unparsed)
        if self._parsing:
            self.transport.pause_reading()
            self.loop.call_soon(self._parse)
        elif was_parsing and not self.flow.read_paused:
            self.transport.resume_reading()

    @property
    def _length_known(self) -> bool:
        """Whether a body is on its way whose length its head has said."""
        return self.conn.their_state is h11.SEND_BODY and not any(
            name == b"transfer-encoding" for name, _ in self.headers
        )

    def on_response_complete(self) -> None:
        """Decide what the connection waits for next, and until when."""
        super().on_response_complete()
        self._settle()

    def pause_writing(self) -> None:
        """Called when the client reads too slowly: it gets ``write_s`` to go on."""
        super().pause_writing()
        self._wait_until_read()

    def resume_writing(self) -> None:
        """Called when the client reads again: ends that deadline."""
        super().resume_writing()
        if self._unread is not None and not self.transport.is_closing():
            self._unread.cancel()
            self._unread = None
            self._settle()

    def timeout_keep_alive_handler(self) -> None:
        """End an idle connection; one that reads nothing any more is aborted in the end."""
        super().timeout_keep_alive_handler()
        self._settle()

    def shutdown(self) -> None:
        """End the connection as the service stops; one in its handshake is aborted."""
        if self._plain is not None:
            self.give_up()
        else:
            super().shutdown()

    def give_up(self) -> None:
        """Close the connection at once, whatever the other side does."""
        self._ended()
        (self.transport if self._plain is None else self._plain).abort()

    def _settle(self) -> None:
        """Decide what is waited for now: the model, the client to read its answer, a request's head or
        body, or any request at all."""
        if self not in self._shared.open:
            return
        if self.transport.is_closing() or self._unread is not None:
            # The connection ends, or goes on, once the answer is read, which may be never.
            self._wait_until_read()
            return
        answered = self.cycle is not None and self.cycle.response_complete
        if self.conn.their_state is h11.IDLE:
            # A head may have begun behind the request before it.
            if self.timeout_keep_alive_task is None or self.conn.trailing_data[0]:
                self._wait_for_head()
            else:
                self._stop_waiting()
                self._shared.silent[self] = None
        elif answered:
            # The rest of a body that was refused: nobody reads it.
            self._wait_for_head()
        elif self.conn.their_state is not h11.SEND_BODY:
            self._stop_waiting()
        elif self._uploading is not self.cycle:
            # The service bounds the time to the body's end.
            self._uploading = self.cycle
            self._stop_waiting()
            self._shared.silent[self] = None

    def _wait_until_read(self) -> None:
        if self._unread is None:
            self._stop_waiting()
            self._shared.silent[self] = None
            self._unread = self.loop.call_later(self._shared.write_s, self.give_up)

    def _wait_for_head(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(self._shared.head_s, self._too_late)
            self._shared.silent.pop(self, None)
            self._shared.silent[self] = None

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
        self._shared.silent.pop(self, None)

    def _too_late(self) -> None:
        if self.cycle is not None and self.cycle.response_complete:
            self.transport.close()  # what was answered is still on its way
            self._settle()
        else:
            self.give_up()

    def _ended(self) -> None:
        self._stop_waiting()
        self._shared.forget(self)
        if self._plain is not None:
            self.connections.discard(self)
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
