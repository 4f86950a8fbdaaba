"""Somebody who is told what a process is at, and remembers it."""

from __future__ import annotations

__all__ = ["Told"]


class Told:
    """An :class:`edgecloud.stages.Teller`."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, float | None]] = []
        self.said: list[str] = []
        self.closed = False

    def stage(self, what: str, share: float | None) -> None:
        self.stages.append((what, share))

    def say(self, text: str) -> None:
        self.said.append(text)

    def close(self) -> None:
        self.closed = True
