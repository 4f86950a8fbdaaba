"""Real traffic at the speed of a link: a proxy on loopback between client and service.

(The kernels this runs on have no ``netem``.) Bytes pass unchanged and in order; each piece read from
one side is written to the other when :class:`edgecloud.hardware.link.LinkTimes` says it has arrived.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from edgecloud.errors import CloudUnavailable
from edgecloud.hardware.link import Direction, Link, LinkTimes

__all__ = ["ShapingProxy"]

_PIECE_BYTES = 256 << 10
_START_WITHIN_S = 10.0


class ShapingProxy:
    """Context manager: listens on a free port of loopback and passes on to ``host:port``.

    Raises, on entering:
        CloudUnavailable: no port could be opened in time.
    """

    def __init__(self, host: str, port: int, over: Link, *, seed: int = 0) -> None:
        self._target = (host, port)
        self._times = LinkTimes(over, seed)
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edgecloud-link", daemon=True)
        self._began_s = time.monotonic()
        self._pipes: set[asyncio.Task[None]] = set()
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._listening.wait(_START_WITHIN_S):
            raise CloudUnavailable("the link's proxy could not listen on loopback")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_START_WITHIN_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._connected, "127.0.0.1", 0)
        )
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        self._loop.run_forever()
        server.close()
        for pipe in self._pipes:
            pipe.cancel()
        self._loop.run_until_complete(asyncio.gather(*self._pipes, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pipe = self._loop.create_task(self._joined(reader, writer))
        self._pipes.add(pipe)
        pipe.add_done_callback(self._pipes.discard)

    async def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, passed on until both of its sides are over."""
        try:
            there, theirs = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()
            return
        for side in (writer, theirs):
            raw = side.get_extra_info("socket")
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass("up", reader, theirs))
                both.create_task(self._pass("down", there, writer))
        finally:
            for side in (writer, theirs):
                side.close()

    async def _pass(
        self, direction: Direction, source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        """Read at once, write on time: several pieces may be on their way."""
        on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                at_s, piece = await on_the_way.get()
                await asyncio.sleep(at_s - self._now())
                if not piece:
                    with suppress(OSError):
                        sink.write_eof()
                    return
                sink.write(piece)
                await sink.drain()

        delivering = asyncio.create_task(deliver())
        try:
            while True:
                piece = await source.read(_PIECE_BYTES)
                at_s = self._times.arrival(direction, self._now(), len(piece))
                on_the_way.put_nowait((at_s, piece))
                if not piece:
                    await delivering
                    return
        except OSError:
            return  # one side is gone, and the other is told by the end of its connection
        finally:
            delivering.cancel()

    def _now(self) -> float:
        return time.monotonic() - self._began_s
