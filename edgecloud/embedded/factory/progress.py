"""One updating line with an estimate of the time left."""

from __future__ import annotations

import sys
import time


class Progress:
    """Writes to standard error: over itself on a terminal, a line every ten seconds elsewhere."""

    def __init__(self, title: str, total: int, *, unit: str, done: int = 0) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._start = time.monotonic()
        self._first = done
        self._last = 0.0
        self._terminal = sys.stderr.isatty()

    def update(self, done: int, note: str = "") -> None:
        """Show that `done` of the total are done; calls in quick succession are dropped."""
        now = time.monotonic()
        period = 0.2 if self._terminal else 10.0
        if done < self._total and now - self._last < period:
            return
        self._last = now
        spent_s = now - self._start
        left_s = spent_s / max(1, done - self._first) * (self._total - done)
        line = (
            f"{self._title}: {done}/{self._total} {self._unit}, "
            f"{_clock(spent_s)} spent, {_clock(left_s)} left {note}"
        )
        end = "\r" if self._terminal else "\n"
        sys.stderr.write(f"{line:<100}{end}")
        sys.stderr.flush()

    def close(self) -> None:
        """End the line."""
        if self._terminal:
            sys.stderr.write("\n")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
