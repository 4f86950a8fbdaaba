"""A cloud in this process, reached through the whole protocol: every byte is counted, none travels."""

from __future__ import annotations

from collections.abc import Iterator

from edgecloud.cloud.pipe_server import MessageServer
from edgecloud.errors import CloudTimeout

__all__ = ["Loopback"]


class Loopback:
    """A :class:`edgecloud.cloud.protocol.remote.Channel` to a server in this process.

    An answer is computed when it is received: a stream's tokens are there one by one, as they are made.
    """

    def __init__(self, server: MessageServer) -> None:
        self._server = server
        self._answers: Iterator[bytes] = iter(())

    def send(self, message: bytes, *, answered: bool) -> None:
        """Hand ``message`` to the server; one without an answer acts at once."""
        answers = self._server.answer(message)
        if answered:
            # What was left of an earlier answer is given up, and not computed.
            self._answers = answers
            return
        for _ in answers:  # it acts, and says nothing
            pass

    def start(self, timeout_s: float) -> None:
        """Do nothing: a request is computed as its answers are received."""

    def ready(self) -> bool:
        """Always true: an answer is computed when it is received."""
        return True

    def receive(self, timeout_s: float) -> bytes:
        """Compute the next message of the answer.

        Raises:
            CloudTimeout: the answer has ended.
        """
        for answer in self._answers:
            return answer
        raise CloudTimeout("the cloud in this process has nothing more to say")
