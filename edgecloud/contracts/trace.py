"""The timed list of what happened in one request, and the commits it is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from edgecloud.contracts.tokens import Origin

if TYPE_CHECKING:
    pass

__all__ = ["Commit", "Event", "EventKind", "Trace"]

EventKind = Literal[
    "features", "prefill", "draft", "verify", "generate", "degrade", "commit", "finish"
]


@dataclass(frozen=True, slots=True)
class Commit:
    """Tokens added to the output that will not be taken back. ``at_s`` seconds after request start."""

    tokens: tuple[int, ...]
    origins: tuple[Origin, ...]
    at_s: float


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a request, from ``start_s`` to ``end_s`` after its start.

    ``data`` holds JSON values only; :mod:`edgecloud.decoding.recorder` has its keys for each kind.
    """

    kind: EventKind
    start_s: float
    end_s: float
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trace:
    """The timed list of what happened in one request, in order of ``start_s``; the only witness from
    which latency, speculation and cost are computed. Request start is second 0."""

    events: tuple[Event, ...]

    def of(self, *kinds: EventKind) -> list[Event]:
        """The events of these kinds, in order."""
        return [event for event in self.events if event.kind in kinds]

    def to_json(self) -> list[dict[str, Any]]:
        """The events as rows of a journal, times in seconds."""
        return [
            {"kind": e.kind, "start_s": e.start_s, "end_s": e.end_s, **e.data} for e in self.events
        ]

    @classmethod
    def from_json(cls, rows: Sequence[Mapping[str, Any]]) -> Trace:
        """The trace that :meth:`to_json` made ``rows`` of."""
        events = []
        for row in rows:
            data = dict(row)
            events.append(Event(data.pop("kind"), data.pop("start_s"), data.pop("end_s"), data))
        return cls(tuple(events))
