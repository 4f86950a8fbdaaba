"""Edge and cloud of a request that was decoded before: they answer from its trace, and compute nothing.

The loops of decoding run over them as over models. What they are charged and when is the loop's and the clock's
business: a request is timed anew by decoding it once more on another clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from edgecloud.contracts import (
    Acceptance,
    CloudChunk,
    CloudSession,
    Commit,
    Draft,
    Drafted,
    Generate,
    Pending,
    Prompt,
    StopLimits,
    TokenStats,
    Trace,
    Verdict,
    Verify,
)
from edgecloud.contracts.sampling import GREEDY, Distribution, Sampling
from edgecloud.contracts.trace import AnyEvent
from edgecloud.errors import JournalError

__all__ = ["RecordedCloud", "RecordedEdge", "RecordedPrompt", "differing"]


@dataclass(frozen=True, slots=True)
class RecordedPrompt(Prompt):
    """A prompt of which only the length is known, and what it was digested to: ``None`` where nobody wrote
    that down."""

    digested: str | None = None

    @classmethod
    def of(cls, length: int, digested: str | None) -> RecordedPrompt:
        """The prompt of ``length`` tokens."""
        return cls((0,) * length, digested=digested)

    def digest(self) -> str:
        """As it was; nothing where that is not known, and then nothing may be drawn from it."""
        return self.digested or ""


class RecordedEdge:
    """A :class:`edgecloud.contracts.EdgeModel` whose next tokens are those that ``trace`` says. It does not say
    what a drawn token was drawn from, which only the cloud needs to know.

    Raises:
        JournalError: when it is asked for a token after a text that the trace does not have.
    """

    def __init__(self, trace: Trace) -> None:
        self._written = trace.tokens
        self._drafted = dict(_drafted(trace))

    def prefill(self, prompt: Prompt) -> None:
        """Nothing to compute."""

    def extend(self, tokens: Sequence[int]) -> None:
        """Nothing to compute."""

    def rollback(self, length: int) -> None:
        """Nothing to cut."""

    def choose(self, output: Sequence[int]) -> int:
        """The token that followed ``output`` in the text."""
        count = len(output)
        if count >= len(self._written) or self._written[:count] != tuple(output):
            raise JournalError(f"its trace has no token after these {count}")
        return self._written[count]

    def draft(self, output: Sequence[int]) -> Drafted:
        """The token that was drafted after ``output``."""
        found = self._drafted.get(tuple(output))
        if found is None:
            raise JournalError(f"its trace has no draft after these {len(output)} tokens")
        return found


def _drafted(trace: Trace) -> Iterator[tuple[tuple[int, ...], Drafted]]:
    """Each draft token of a trace, and the text that it was drafted after."""
    output: list[int] = []
    pending: list[int] = []
    for event in trace.events:
        if isinstance(event, Commit):
            output += event.tokens
            pending = []
        elif isinstance(event, Draft):
            stats = map(TokenStats, event.entropies, event.margins, event.logprobs)
            for token, its in zip(event.tokens, stats, strict=True):
                yield (*output, *pending), Drafted(token, its)
                pending.append(token)


class RecordedCloud:
    """A :class:`edgecloud.contracts.CloudModel` whose one session gives the answers that ``trace`` holds, in
    order; the seconds that it was busy are those of the time when they were computed."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    def open(self, prompt: Prompt, sampling: Sampling = GREEDY) -> CloudSession:
        """The session of the request."""
        return _RecordedSession(self._trace)


class _RecordedSession(CloudSession):
    def __init__(self, trace: Trace) -> None:
        self._chunks = iter(trace.of(Generate))
        self._verdicts = iter(trace.of(Verify))

    def start(self, count: int) -> Pending[CloudChunk]:
        found = next(self._chunks, None)
        if found is None and count:
            raise JournalError("its trace has no first tokens of the cloud's")
        # A prefill that nobody waited for left nothing in the trace, and delayed nothing.
        chunk = CloudChunk(()) if found is None else _chunk(found)
        return Pending(lambda: chunk)

    def submit(
        self,
        committed: Sequence[int],
        draft: Sequence[int],
        acceptance: Acceptance,
        continuation: int = 0,
        draft_probabilities: Sequence[Distribution] = (),
    ) -> Pending[Verdict]:
        found = next(self._verdicts, None)
        if found is None or found.drafted != len(draft):
            raise JournalError(
                f"its trace has no verdict on {len(draft)} tokens after these {len(committed)}"
            )
        verdict = _verdict(found)
        return Pending(lambda: verdict)

    def generate(self, committed: Sequence[int], limits: StopLimits) -> Iterator[CloudChunk]:
        return map(_chunk, self._chunks)

    def close(self) -> None:
        """Nothing is open."""


def _chunk(event: Generate) -> CloudChunk:
    return CloudChunk(event.tokens, event.cost)


def _verdict(event: Verify) -> Verdict:
    return Verdict(
        kept=event.kept,
        token=event.token,
        ranks=event.ranks,
        top_probs=event.top_probs,
        continuation=event.continuation,
        regret=event.regret,
        cost=event.cost,
    )


def differing(one: Trace, other: Trace) -> str | None:
    """The kind of event in which two traces differ otherwise than in times; ``None``: in none. Of events of
    several kinds the order may be another: it is that of the times."""
    for kind in dict.fromkeys(type(event) for trace in (one, other) for event in trace.events):
        if [_timeless(e) for e in one.of(kind)] != [_timeless(e) for e in other.of(kind)]:
            return kind.kind
    return None


def _timeless(event: AnyEvent) -> AnyEvent:
    if isinstance(event, Verify | Generate):
        event = replace(event, cost=replace(event.cost, busy_s=0.0))
    return replace(event, start_s=0.0, end_s=0.0)
