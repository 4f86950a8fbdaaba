"""A request's trace as lanes of edge, link and cloud."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edgecloud.contracts import Commit, Draft, Features, Generate, Prefill, Trace, Verify

__all__ = ["Lane", "Span", "spans"]

Lane = Literal["edge", "link", "cloud"]


@dataclass(frozen=True, slots=True)
class Span:
    """Something that kept a lane busy, in seconds after request start."""

    lane: Lane
    kind: str
    start_s: float
    end_s: float


def spans(trace: Trace) -> list[Span]:
    """The lanes of a trace.

    A call's time beyond the cloud's busy time is the link's: before and after it alike, unless a
    prefill event of the cloud inside the call says when the cloud began. A series that records no
    drafts (the edge alone) decodes from commit to commit.

    >>> from edgecloud.contracts import CloudCost
    >>> call = Verify(1.0, 2.0, drafted=1, kept=1, token=7, cost=CloudCost(busy_s=0.5))
    >>> [(span.lane, span.start_s, span.end_s) for span in spans(Trace((call,)))]
    [('link', 1.0, 1.25), ('cloud', 1.25, 1.75), ('link', 1.75, 2.0)]
    """
    found: list[Span] = []
    prefills = [prefill for prefill in trace.of(Prefill) if prefill.side == "cloud"]
    alone = not trace.of(Draft) and not trace.calls
    clock = 0.0
    for event in trace.events:
        if isinstance(event, Verify | Generate):
            found += _call(event, prefills)
        elif isinstance(event, Commit):
            if alone and event.at_s > clock:
                found.append(Span("edge", "decode", clock, event.at_s))
        elif isinstance(event, Features | Draft) or (
            isinstance(event, Prefill) and event.side == "edge"
        ):
            found.append(Span("edge", event.kind, event.start_s, event.end_s))
        clock = max(clock, event.end_s)
    return _joined(found)


def _call(event: Verify | Generate, prefills: Sequence[Prefill]) -> list[Span]:
    start, end = event.start_s, event.end_s
    busy = min(event.cost.busy_s, event.took_s)
    inside = [p.start_s for p in prefills if start <= p.start_s <= end - busy]
    began = inside[0] if inside else start + (end - start - busy) / 2
    return [
        Span("link", "transfer", start, began),
        Span("cloud", event.kind, began, began + busy),
        Span("link", "transfer", began + busy, end),
    ]


def _joined(found: Sequence[Span]) -> list[Span]:
    """Spans of one kind that follow each other without a pause, as one; empty ones left out."""
    last: dict[str, int] = {}
    joined: list[Span] = []
    for span in found:
        if span.end_s - span.start_s <= 1e-9:
            continue
        at = last.get(span.lane)
        before = joined[at] if at is not None else None
        # A cloud that streams token after token is one bar; drafted blocks stay apart.
        if before and at is not None and _continues(before, span):
            joined[at] = Span(span.lane, span.kind, before.start_s, span.end_s)
            continue
        last[span.lane] = len(joined)
        joined.append(span)
    return joined


def _continues(before: Span, span: Span) -> bool:
    streamed = span.kind in ("decode", "generate", "transfer") and before.kind == span.kind
    return streamed and span.start_s - before.end_s <= 1e-6
