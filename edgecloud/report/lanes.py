"""A request's trace as lanes of edge, link and cloud."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Lane", "Span", "commits", "spans"]

Lane = Literal["edge", "link", "cloud"]
Events = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Span:
    """Something that kept a lane busy, in seconds after request start."""

    lane: Lane
    kind: str
    start_s: float
    end_s: float


def spans(events: Events) -> list[Span]:
    """The lanes of a trace (the JSON of its events).

    A call's time beyond the cloud's busy time is the link's: before and after it alike, unless a
    prefill event of the cloud inside the call says when the cloud began. A series that records no
    drafts (the edge alone) decodes from commit to commit.

    >>> call = {"kind": "verify", "start_s": 1.0, "end_s": 2.0, "busy_s": 0.5}
    >>> [(span.lane, span.start_s, span.end_s) for span in spans([call])]
    [('link', 1.0, 1.25), ('cloud', 1.25, 1.75), ('link', 1.75, 2.0)]
    """
    found: list[Span] = []
    prefills = [e for e in events if e["kind"] == "prefill" and e.get("side") == "cloud"]
    drafts = any(event["kind"] == "draft" for event in events)
    calls = any(event["kind"] in ("verify", "generate") for event in events)
    clock = 0.0
    for event in events:
        kind, start, end = event["kind"], event["start_s"], event["end_s"]
        if kind in ("verify", "generate"):
            found += _call(event, prefills)
        elif kind == "commit":
            if not drafts and not calls and end > clock:
                found.append(Span("edge", "decode", clock, end))
        elif kind in ("features", "draft") or (kind == "prefill" and event.get("side") != "cloud"):
            found.append(Span("edge", kind, start, end))
        clock = max(clock, end)
    return _joined(found)


def commits(events: Events) -> list[float]:
    """Times of the commits, in seconds after request start."""
    return [event["end_s"] for event in events if event["kind"] == "commit"]


def _call(event: Mapping[str, Any], prefills: Events) -> list[Span]:
    start, end = event["start_s"], event["end_s"]
    busy = min(event.get("busy_s") or 0.0, end - start)
    inside = [p["start_s"] for p in prefills if start <= p["start_s"] <= end - busy]
    began = inside[0] if inside else start + (end - start - busy) / 2
    return [
        Span("link", "transfer", start, began),
        Span("cloud", event["kind"], began, began + busy),
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
