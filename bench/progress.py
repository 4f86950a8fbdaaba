"""One line on the terminal that says how far a run is and how long it will still take."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

from edgecloud.stages import News, text_of

if TYPE_CHECKING:
    from edgecloud.results.records import Record

__all__ = ["Progress", "duration"]


class Reporter(Protocol):
    """What is used of pytest's terminal reporter."""

    isatty: bool

    def ensure_newline(self) -> None: ...
    def write_line(self, line: str) -> None: ...
    def rewrite(self, line: str, *, erase: bool) -> None: ...


class Progress:
    """Call it as ``progress(done, total, record)`` when a run starts (``record`` is ``None``) and after
    each sample.

    On a terminal one line is written over and over; elsewhere a line comes out every ``every_s``
    seconds. ``verbose`` adds a line per sample. ``uncaptured`` opens a way past pytest's capture.
    """

    def __init__(
        self,
        reporter: Reporter,
        label: str,
        *,
        verbose: bool = False,
        uncaptured: Callable[[], AbstractContextManager[Any]] = nullcontext,
        now: Callable[[], float] = time.monotonic,
        every_s: float = 10.0,
    ) -> None:
        self._reporter = reporter
        self._label = label
        self._verbose = verbose
        self._uncaptured = uncaptured
        self._now = now
        self._every_s = every_s
        self._started: tuple[float, int] | None = None
        self._last_line = float("-inf")
        self._news = News(every_s)
        self._writes_over = False
        self._lock = threading.RLock()

    def stage(self, what: str, share: float | None) -> None:
        """What goes on before and after the samples: one line that is written over; off a terminal a line for
        a stage that begins, and one each ``every_s`` seconds while its share grows."""
        with self._lock, self._uncaptured():
            if self._reporter.isatty:
                if not self._writes_over:
                    self._reporter.ensure_newline()
                    self._writes_over = True
                self._reporter.rewrite(f"{self._label}: {text_of(what, share)}", erase=True)
            elif (text := self._news.line(what, share, self._now())) is not None:
                self._reporter.ensure_newline()
                self._reporter.write_line(f"{self._label}: {text}")

    def say(self, text: str) -> None:
        with self._lock, self._uncaptured():
            self._reporter.ensure_newline()
            self._line(text)

    def close(self) -> None:
        """What is shown stays, with a line of its own."""
        with self._lock, self._uncaptured():
            self._reporter.ensure_newline()

    def __call__(self, done: int, total: int, record: Record | None = None) -> None:
        now = self._now()
        first = self._started is None
        if self._started is None:
            # The samples that a resumed run found in its journal took no time now.
            self._started = (now, done if record is None else done - 1)
        with self._uncaptured():
            if first:
                self._reporter.ensure_newline()
            if self._verbose and record is not None:
                self._line(_sample_line(record))
            line = self._text(done, total, now)
            if self._reporter.isatty:
                self._reporter.rewrite(line, erase=True)
                if done >= total:
                    self._reporter.ensure_newline()
            elif first or done >= total or now - self._last_line >= self._every_s:
                self._reporter.write_line(line)
                self._last_line = now

    def _line(self, text: str) -> None:
        if self._reporter.isatty:
            self._reporter.rewrite("", erase=True)
        self._reporter.write_line(text)

    def _text(self, done: int, total: int, now: float) -> str:
        started, before = self._started or (now, done)
        text = f"{self._label}: {done}/{total} samples"
        if done > before:
            each = (now - started) / (done - before)
            text += f", {each:.2f} s each"
            text += f", about {duration(each * (total - done))} left" if done < total else ""
        return text


def duration(seconds: float) -> str:
    """Seconds for people.

    >>> duration(8.2), duration(130), duration(7300)
    ('8 s', '2 min 10 s', '2 h 2 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _sample_line(record: Record) -> str:
    if record.error is not None:
        return f"  {record.file_id}: failed: {record.error.type}: {record.error.message}"
    ends = [event.end_s for event in record.trace.events]
    seconds = f"{max(ends):.3f} s, " if ends else ""
    return f"  {record.file_id}: {seconds}{len(record.tokens)} tokens: {record.text}"
