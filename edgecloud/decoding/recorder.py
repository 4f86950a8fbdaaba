"""Recording of a request: its events, with the clock's times.

=========  ==========================================================================================
kind       data
=========  ==========================================================================================
features   (none): waveform to log-mel, on the edge
prefill    ``side`` edge or cloud, ``input_tokens``
draft      ``tokens``, ``entropies``, ``margins``, ``logprobs`` of one block; ``escalated``
verify     ``drafted``, ``kept``, ``token``, ``continuation``, ``ranks``, ``top_probs``, ``regret``,
           cost; ``ahead``: tokens the edge drafted meanwhile
generate   ``tokens`` the cloud decoded by itself, cost
degrade    ``error``, ``reason``: the cloud was waited for in vain; from here on the edge is alone
commit     ``tokens``, ``origins``; start = end = the time of the commit
finish     ``stop``; from the last commit to the end of detokenisation
=========  ==========================================================================================

*cost* stands for the fields of :class:`edgecloud.contracts.CloudCost`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

from edgecloud.contracts import (
    Clock,
    CloudChunk,
    CloudCost,
    Commit,
    Event,
    EventKind,
    Origin,
    Pending,
    StopReason,
    TokenStats,
    Trace,
    Verdict,
)
from edgecloud.errors import CloudError, name_of

__all__ = ["Recorder", "by"]

T = TypeVar("T")

_COSTS = tuple(entry.name for entry in fields(CloudCost))


def by(origin: Origin, count: int) -> tuple[Origin, ...]:
    """``count`` tokens of one origin."""
    return (origin,) * count


class Recorder:
    """Records one request. Made at request start: that moment is second 0."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._origin = clock.now()
        self._events: list[Event] = []

    def now(self) -> float:
        """Seconds since request start."""
        return self._clock.now() - self._origin

    def beside(self, work: Callable[[], T]) -> Pending[T]:
        """Let the edge do ``work`` while the caller goes on."""
        return self._clock.beside(work)

    def add(self, kind: EventKind, start_s: float, end_s: float | None = None, **data: Any) -> None:
        """Write down what began at ``start_s`` and ends now, or ended at ``end_s``."""
        self._events.append(Event(kind, start_s, self.now() if end_s is None else end_s, data))

    def draft(
        self, start_s: float, tokens: list[int], stats: list[TokenStats], *, escalated: bool
    ) -> None:
        """Record a block of draft ``tokens`` with the statistics of each; ``escalated`` when it goes to
        the cloud."""
        self.add(
            "draft",
            start_s,
            tokens=list(tokens),
            entropies=[s.entropy for s in stats],
            margins=[s.margin for s in stats],
            logprobs=[s.logprob for s in stats],
            escalated=escalated,
        )

    def verify(self, start_s: float, verdict: Verdict, *, drafted: int, ahead: int = 0) -> None:
        """Record the verdict on ``drafted`` tokens; the edge drafted ``ahead`` more meanwhile."""
        self.add(
            "verify",
            start_s,
            drafted=drafted,
            kept=verdict.kept,
            token=verdict.token,
            continuation=list(verdict.continuation),
            ranks=list(verdict.ranks),
            top_probs=list(verdict.top_probs),
            regret=verdict.regret,
            ahead=ahead,
            **_values(verdict.cost),
        )

    def generate(self, start_s: float, chunk: CloudChunk) -> None:
        """Record a chunk that the cloud generated, with its cost."""
        self.add("generate", start_s, tokens=list(chunk.tokens), **_values(chunk.cost))

    def degrade(self, start_s: float, error: CloudError) -> None:
        """Record that the request goes on without the cloud, and why."""
        self.add("degrade", start_s, error=name_of(error), reason=str(error))

    def commit(self, tokens: tuple[int, ...], origins: tuple[Origin, ...]) -> Commit:
        """Record that ``tokens`` became part of the answer now, and return them as a commit."""
        at_s = self.now()
        self.add("commit", at_s, at_s, tokens=list(tokens), origins=list(origins))
        return Commit(tokens, origins, at_s)

    def finish(self, stop: StopReason) -> None:
        """Call once the text is decoded."""
        commits = [event.end_s for event in self._events if event.kind == "commit"]
        self.add("finish", commits[-1] if commits else self.now(), stop=stop)

    def trace(self) -> Trace:
        """Everything recorded so far, in order of start."""
        return Trace(tuple(sorted(self._events, key=lambda event: event.start_s)))


def _values(cost: CloudCost) -> dict[str, Any]:
    """The fields as ``asdict`` gives them, without its copies."""
    return {name: getattr(cost, name) for name in _COSTS}
