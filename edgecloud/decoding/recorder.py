"""Recording of a request: its events (:mod:`edgecloud.contracts.trace`), with the clock's times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar

from edgecloud.contracts import (
    Clock,
    CloudChunk,
    Commit,
    Degrade,
    Draft,
    Features,
    Finish,
    Generate,
    Origin,
    Pending,
    Prefill,
    StopReason,
    TokenStats,
    Trace,
    Verdict,
    Verify,
)
from edgecloud.contracts.trace import AnyEvent
from edgecloud.errors import CloudError, name_of

__all__ = ["Recorder", "by"]

T = TypeVar("T")


def by(origin: Origin, count: int) -> tuple[Origin, ...]:
    """``count`` tokens of one origin."""
    return (origin,) * count


class Recorder:
    """Records one request. Made at request start: that moment is second 0."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._origin = clock.now()
        self._events: list[AnyEvent] = []

    def now(self) -> float:
        """Seconds since request start."""
        return self._clock.now() - self._origin

    def beside(self, work: Callable[[], T]) -> Pending[T]:
        """Let the edge do ``work`` while the caller goes on."""
        return self._clock.beside(work)

    def features(self) -> None:
        """Record that waveform to log-mel ends now; it began with the request."""
        self._events.append(Features(0.0, self.now()))

    def prefill(self, start_s: float, side: Literal["edge", "cloud"], input_tokens: int) -> None:
        """Record the prefill of a prompt, which ends now."""
        self._events.append(Prefill(start_s, self.now(), side, input_tokens))

    def draft(
        self, start_s: float, tokens: list[int], stats: list[TokenStats], *, escalated: bool
    ) -> None:
        """Record a block of draft ``tokens`` with the statistics of each; ``escalated`` when it goes to
        the cloud."""
        self._events.append(
            Draft(
                start_s,
                self.now(),
                tokens=tuple(tokens),
                entropies=tuple(s.entropy for s in stats),
                margins=tuple(s.margin for s in stats),
                logprobs=tuple(s.logprob for s in stats),
                escalated=escalated,
            )
        )

    def verify(self, start_s: float, verdict: Verdict, *, drafted: int, ahead: int = 0) -> None:
        """Record the verdict on ``drafted`` tokens; the edge drafted ``ahead`` more meanwhile."""
        self._events.append(
            Verify(
                start_s,
                self.now(),
                drafted=drafted,
                kept=verdict.kept,
                token=verdict.token,
                continuation=tuple(verdict.continuation),
                ranks=tuple(verdict.ranks),
                top_probs=tuple(verdict.top_probs),
                regret=verdict.regret,
                ahead=ahead,
                cost=verdict.cost,
            )
        )

    def generate(self, start_s: float, chunk: CloudChunk) -> None:
        """Record a chunk that the cloud generated, with its cost."""
        self._events.append(Generate(start_s, self.now(), tuple(chunk.tokens), chunk.cost))

    def degrade(self, start_s: float, error: CloudError) -> None:
        """Record that the request goes on without the cloud, and why."""
        self._events.append(Degrade(start_s, self.now(), name_of(error), str(error)))

    def commit(self, tokens: tuple[int, ...], origins: tuple[Origin, ...]) -> Commit:
        """Record that ``tokens`` became part of the answer now, and return that."""
        at_s = self.now()
        commit = Commit(at_s, at_s, tuple(tokens), tuple(origins))
        self._events.append(commit)
        return commit

    def finish(self, stop: StopReason) -> None:
        """Call once the text is decoded."""
        commits = [event.end_s for event in self._events if isinstance(event, Commit)]
        now = self.now()
        self._events.append(Finish(commits[-1] if commits else now, now, stop))

    def trace(self) -> Trace:
        """Everything recorded so far, in order of start."""
        return Trace(tuple(sorted(self._events, key=lambda event: event.start_s)))
