"""A channel to a server in this process, which notes what passes and can be made to misbehave."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from edgecloud.cloud.pipe_server import MessageServer
from edgecloud.errors import CloudTimeout

__all__ = ["MemoryChannel"]


class MemoryChannel:
    """``change`` makes of every answer the messages that arrive in its place."""

    def __init__(
        self, server: MessageServer, change: Callable[[bytes], list[bytes]] | None = None
    ) -> None:
        self.server = server
        self._change = change
        self._arrived: deque[bytes] = deque()
        self.sent: list[bytes] = []
        self.received: list[bytes] = []
        self.timeouts: list[float] = []

    def send(self, message: bytes, *, answered: bool) -> None:
        self.sent.append(message)
        for answer in self.server.answer(message):
            self._arrived += self._change(answer) if self._change else [answer]

    def start(self, timeout_s: float) -> None:
        pass

    def ready(self) -> bool:
        return bool(self._arrived)

    def receive(self, timeout_s: float) -> bytes:
        self.timeouts.append(timeout_s)
        if not self._arrived:
            raise CloudTimeout("nothing arrived")
        self.received.append(self._arrived.popleft())
        return self.received[-1]
