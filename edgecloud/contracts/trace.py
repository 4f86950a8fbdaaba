"""The timed list of what happened in one request: the only witness from which its numbers are computed.

Each kind of event is a class with what a journal's row of its kind holds. Times are seconds after request start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

from edgecloud.contracts.cloud import CloudCost
from edgecloud.contracts.tokens import Origin, StopReason
from edgecloud.jsontypes import inline, read, write

__all__ = [
    "Commit",
    "Degrade",
    "Draft",
    "Event",
    "Features",
    "Finish",
    "Generate",
    "Prefill",
    "Trace",
    "Verify",
]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a request, from ``start_s`` to ``end_s`` after its start."""

    kind: ClassVar[str] = ""
    start_s: float
    end_s: float

    @property
    def took_s(self) -> float:
        """Seconds from its start to its end."""
        return self.end_s - self.start_s


@dataclass(frozen=True, slots=True)
class Features(Event):
    """Waveform to log-mel, on the edge."""

    kind: ClassVar[str] = "features"


@dataclass(frozen=True, slots=True)
class Prefill(Event):
    """The prefill of a prompt of ``input_tokens``, on one side."""

    kind: ClassVar[str] = "prefill"
    side: Literal["edge", "cloud"]
    input_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Draft(Event):
    """One drafted block: its tokens and the statistics of each (:class:`edgecloud.contracts.TokenStats`).
    ``escalated`` when it goes to the cloud."""

    kind: ClassVar[str] = "draft"
    tokens: tuple[int, ...]
    entropies: tuple[float, ...] = ()
    margins: tuple[float, ...] = ()
    logprobs: tuple[float, ...] = ()
    escalated: bool = False


@dataclass(frozen=True, slots=True)
class Verify(Event):
    """The cloud's verdict on ``drafted`` tokens (:class:`edgecloud.contracts.Verdict`), and its cost;
    ``ahead``: tokens the edge drafted meanwhile."""

    kind: ClassVar[str] = "verify"
    drafted: int
    kept: int
    token: int | None
    continuation: tuple[int, ...] = ()
    ranks: tuple[int, ...] = ()
    top_probs: tuple[float, ...] = ()
    regret: float = 0.0
    ahead: int = 0
    cost: CloudCost = inline(CloudCost)


@dataclass(frozen=True, slots=True)
class Generate(Event):
    """Tokens that the cloud decoded by itself, and their cost."""

    kind: ClassVar[str] = "generate"
    tokens: tuple[int, ...]
    cost: CloudCost = inline(CloudCost)


@dataclass(frozen=True, slots=True)
class Degrade(Event):
    """The cloud was waited for in vain: from here on the edge is alone."""

    kind: ClassVar[str] = "degrade"
    error: str
    reason: str


@dataclass(frozen=True, slots=True)
class Commit(Event):
    """Tokens added to the output that will not be taken back; it starts and ends when they were."""

    kind: ClassVar[str] = "commit"
    tokens: tuple[int, ...]
    origins: tuple[Origin, ...]

    @property
    def at_s(self) -> float:
        """Seconds after request start."""
        return self.end_s


@dataclass(frozen=True, slots=True)
class Finish(Event):
    """From the last commit to the end of detokenisation."""

    kind: ClassVar[str] = "finish"
    stop: StopReason | None = None


AnyEvent = Features | Prefill | Draft | Verify | Generate | Degrade | Commit | Finish
E = TypeVar("E", bound=Event)


@dataclass(frozen=True, slots=True)
class Trace:
    """The timed list of what happened in one request, in order of ``start_s``; the only witness from
    which latency, speculation and cost are computed. Request start is second 0.

    >>> trace = Trace((Draft(0.0, 1.0, tokens=(5, 6)), Commit(1.0, 1.0, (5, 6), ("edge", "edge"))))
    >>> [commit.tokens for commit in trace.of(Commit)]
    [(5, 6)]
    """

    json_is: ClassVar[str] = "events"
    events: tuple[AnyEvent, ...] = ()

    def of(self, *kinds: type[E]) -> list[E]:
        """The events of these classes, in order."""
        return [event for event in self.events if isinstance(event, kinds)]

    @property
    def tokens(self) -> tuple[int, ...]:
        """Tokens of the output: those of its commits."""
        return tuple(token for commit in self.of(Commit) for token in commit.tokens)

    @property
    def origins(self) -> tuple[Origin, ...]:
        """Who chose each token of the output."""
        return tuple(origin for commit in self.of(Commit) for origin in commit.origins)

    @property
    def calls(self) -> list[Verify | Generate]:
        """The cloud's answers, in order."""
        return [event for event in self.events if isinstance(event, Verify | Generate)]

    def to_json(self) -> list[dict[str, Any]]:
        """The events as rows of a journal, times in seconds."""
        rows: list[dict[str, Any]] = write(self)
        return rows

    @classmethod
    def from_json(cls, rows: Sequence[Any]) -> Trace:
        """The trace that :meth:`to_json` made ``rows`` of.

        Raises:
            Mismatch: a row is no event; says which field of it is not.
        """
        return read(cls, list(rows))
