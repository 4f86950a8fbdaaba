"""Delivery of a stream of answers over a local connection, each as it is made.

A process that computes on all cores may keep the reader of its messages from running: the kernel wakes
the reader on the writer's core, and there it waits for the writer's time slice to end. Tokens that were
made one by one then arrive together. So the writer leaves its core to a reader that is behind.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from collections.abc import Iterable
from multiprocessing.connection import Connection

__all__ = ["deliver", "unread_bytes"]

_PAUSE_S = 5e-5
_MOST_S = 2e-3
"""A reader that takes nothing for so long is not kept from running: it has something else to do."""


def deliver(connection: Connection, answers: Iterable[bytes]) -> None:
    """Send each answer when it is there.

    The first one is waited for until it is read, since it says when the stream began. Later ones are
    waited for only where the one before is still unread, so that a reader with a core of its own costs
    nothing.
    """
    for number, answer in enumerate(answers):
        if number > 0:
            _give_way(connection)
        connection.send_bytes(answer)
        if number == 0:
            _give_way(connection)


def unread_bytes(connection: Connection) -> int:
    """Bytes that the other side has not read yet, with the kernel's overhead; 0 where that cannot be told."""
    if sys.platform != "linux":
        return 0
    import fcntl
    import termios

    try:
        found = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0" * 4)
    except OSError:  # a pipe of another kind, or closed: sending says so
        return 0
    return int(struct.unpack("i", found)[0])


def _give_way(connection: Connection) -> None:
    """Leave the core until everything is read, for a moment at most."""
    if not unread_bytes(connection):
        return
    until_s = time.perf_counter() + _MOST_S
    os.sched_yield()
    while unread_bytes(connection) and time.perf_counter() < until_s:
        time.sleep(_PAUSE_S)
