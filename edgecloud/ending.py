"""The end of a process that is told to end: by way of every ``finally``, never in the middle of something."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

__all__ = ["TERMINATED", "end_on_sigterm"]

TERMINATED = 143
"""The exit status of a process that SIGTERM ended, as shells give it."""


def end_on_sigterm() -> None:
    """From now on SIGTERM unwinds this process, as Ctrl-C does, instead of stopping it dead; its exit
    status stays 143. So does SIGHUP, of a terminal that closes, with 129, unless it is ignored (``nohup``).
    Only the main thread can arrange it; elsewhere nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        return
    signal.signal(signal.SIGTERM, _end)
    hangup = getattr(signal, "SIGHUP", None)  # not on every system
    if hangup is not None and signal.getsignal(hangup) == signal.SIG_DFL:
        signal.signal(hangup, _end)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)  # once: what unwinds is not interrupted again
    sys.exit(128 + number)
