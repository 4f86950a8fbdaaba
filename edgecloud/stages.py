"""Stages of a process, shown while they last: loading, converting, warming up, each with its share of
progress.

Whoever works calls :func:`stage`; whoever has a terminal listens (:func:`listening`). Where nobody listens,
no stage that goes on is said twice in ten seconds, nor twice in the same words. Standard library only:
every process imports this.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

__all__ = ["Lines", "News", "Teller", "listening", "say", "stage", "text_of"]

_EVERY_S = 0.5
"""Progress within a stage is passed on this often at most."""


class Teller(Protocol):
    """Receiver of stages. Calls may come from several threads."""

    def stage(self, what: str, share: float | None) -> None:
        """``what`` is going on; ``share`` of it, 0 to 1, is done, where that is known. May come again
        and again without a change."""

    def say(self, text: str) -> None:
        """A sentence that stays."""

    def close(self) -> None:
        """The stages are over."""


class News:
    """What is worth a line where none can be written over: a stage that begins, and one that goes on in
    other words than ``every_s`` seconds ago. One that nobody spoke of for as long begins anew."""

    def __init__(self, every_s: float = 10.0) -> None:
        self._every_s = every_s
        self._told: dict[str, tuple[float, str]] = {}
        """When each stage was last told, and how."""
        self._heard_s: dict[str, float] = {}

    def line(self, what: str, share: float | None, now_s: float) -> str | None:
        """The stage in words, counted as told; ``None`` where they are not worth a line."""
        text = text_of(what, share)
        goes_on = now_s - self._heard_s.get(what, float("-inf")) < self._every_s
        self._heard_s[what] = now_s
        if goes_on:
            told_s, told = self._told[what]
            if text == told or now_s - told_s < self._every_s:
                return None
        self._told[what] = (now_s, text)
        return text


class Lines:
    """Tells a stream: on a terminal one line that is written over, elsewhere what is :class:`News`. What is
    over within ``patience_s`` is not worth a line."""

    def __init__(
        self,
        stream: Any = None,
        *,
        prefix: str = "edgecloud: ",
        patience_s: float = 1.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._prefix = prefix
        self._patience_s = patience_s
        self._now = now
        self._lock = threading.Lock()
        self._began_s: float | None = None
        self._news = News()
        self._open = False

    def stage(self, what: str, share: float | None) -> None:
        """Show that ``what`` has begun or is at ``share`` (0 to 1)."""
        with self._lock:
            now_s = self._now()
            if self._began_s is None:
                self._began_s = now_s
            stream = self._out()
            if _rewrites(stream):
                stream.write(f"\r\x1b[2K{self._prefix}{text_of(what, share)}")
                stream.flush()
                self._open = True
                return
            if now_s - self._began_s < self._patience_s:
                return
            if (text := self._news.line(what, share, now_s)) is not None:
                stream.write(f"{self._prefix}{text}\n")
                stream.flush()

    def say(self, text: str) -> None:
        """Write ``text`` on a line of its own."""
        with self._lock:
            self._clear()
            self._out().write(f"{self._prefix}{text}\n")
            self._out().flush()

    def close(self) -> None:
        """End the line that is being written over; the next stage starts anew."""
        with self._lock:
            self._clear()
            self._began_s = None
            self._news = News()

    def _clear(self) -> None:
        if self._open:
            self._out().write("\r\x1b[2K")
            self._out().flush()
            self._open = False

    def _out(self) -> Any:
        # Looked up each time: tests and pytest put others in its place.
        return sys.stderr if self._stream is None else self._stream


def _rewrites(stream: Any) -> bool:
    """True on a terminal on which a line can be written over."""
    return bool(stream.isatty()) and os.environ.get("TERM") != "dumb"


class _State:
    def __init__(self) -> None:
        self.teller: Teller = Lines()
        self.passed: dict[str, float] = {}


_state = _State()


def stage(what: str, share: float | None = None) -> None:
    """``what`` this process is at, and the share of it that is done, 0 to 1."""
    now_s = time.monotonic()
    last_s = _state.passed.get(what)
    whole = share is not None and share >= 1
    if last_s is not None and now_s - last_s < _EVERY_S and not whole:
        return
    _state.passed[what] = now_s
    _state.teller.stage(what, share)


def say(text: str) -> None:
    """A sentence for whoever watches the run."""
    _state.teller.say(text)


@contextmanager
def listening(teller: Teller) -> Iterator[None]:
    """Meanwhile ``teller`` is told what this process is at."""
    before, _state.teller = _state.teller, teller
    _state.passed.clear()
    try:
        yield
    finally:
        _state.teller = before
        teller.close()


def text_of(what: str, share: float | None) -> str:
    """A stage in words.

    >>> text_of("edge: loading weights", 0.4)
    'edge: loading weights, 40%'
    """
    return what if share is None else f"{what}, {share:.0%}"
