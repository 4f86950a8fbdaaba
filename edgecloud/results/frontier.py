"""Quality against time against cloud: what a configuration reaches, and how far it is from the bound.

A configuration is compared with edge and cloud alone on the same samples. Ratios are of means over
samples, with paired bootstrap intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from edgecloud.contracts import Generate
from edgecloud.results.cost import cost
from edgecloud.results.latency import latency
from edgecloud.results.records import Record
from edgecloud.results.speculation import speculation
from edgecloud.results.statistics import Interval, gap_closed, mean_ratio

__all__ = [
    "Bound",
    "Measures",
    "Rival",
    "Scored",
    "Standing",
    "bound_line",
    "bound_of",
    "known",
    "leading_gap",
    "mean",
    "measures",
    "router",
    "seeded",
    "standing",
]


@dataclass(frozen=True, slots=True)
class Measures:
    """One configuration on every sample, in order: seconds, counts, and a quality (``None``: unscored)."""

    total_s: tuple[float, ...]
    ttft_s: tuple[float, ...]
    busy_s: tuple[float, ...]
    tokens: tuple[int, ...]
    cloud_tokens: tuple[int, ...]
    calls: tuple[int, ...]
    verified: tuple[int, ...]
    prefilled: tuple[bool, ...]
    """True where the cloud was asked at all: then it prefilled once."""
    seeded: tuple[bool, ...]
    """True where the cloud wrote the first tokens: the first of them is its prefill's."""
    quality: tuple[float, ...]
    """CIDEr."""
    input_tokens: tuple[int, ...] = ()
    """Of the prompt; prefills may cost by the token."""
    attributes: tuple[float | None, ...] = ()
    """1 where every attribute of the truth is right, else 0; ``None`` where the truth is not known."""


def measures(records: Sequence[Record], quality: Sequence[Scored]) -> Measures:
    """Measures of the journal's records of completed samples; ``quality`` is in their order."""
    rows = []
    for record, scored in zip(records, quality, strict=True):
        trace = record.trace
        times, counts, costs = latency(trace), speculation(trace, k=1), cost(trace)
        rows.append(
            (
                times.total_time,
                times.ttft,
                costs.cloud_busy_time,
                counts.output_tokens,
                counts.cloud_tokens,
                counts.cloud_calls,
                counts.verified,
                bool(costs.cloud_prefill_tokens),
                any(chunk.tokens for chunk in trace.of(Generate)),
                scored.cider,
                record.input_tokens or 0,
                scored.attributes,
            )
        )
    return Measures(*zip(*rows, strict=True))


@dataclass(frozen=True, slots=True)
class Scored:
    """The quality of a sample of a sweep: its CIDEr, and whether all its attributes are right (1 or 0; ``None``: the
    manifest does not know the truth)."""

    cider: float
    attributes: float | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """A configuration beside edge and cloud alone: time and time to first token over the edge's, busy
    time over the cloud's, the share of the gap in CIDEr and in right attributes that is closed (``None``: no truth)."""

    time: Interval
    ttft: Interval
    busy: Interval
    gap_closed: Interval
    attribute_gap_closed: Interval | None
    above_bound: float | None
    """Its time over the least possible with its own tokens and calls, less 1."""


def standing(found: Measures, edge: Measures, cloud: Measures, *, bound: Bound) -> Standing:
    """The standing of ``found``; all three are over the same samples in the same order."""
    least_s = bound.time_s
    truth = known(edge, found, cloud)
    return Standing(
        time=mean_ratio(found.total_s, edge.total_s),
        ttft=mean_ratio(found.ttft_s, edge.ttft_s),
        busy=mean_ratio(found.busy_s, cloud.busy_s),
        gap_closed=gap_closed(edge.quality, found.quality, cloud.quality),
        attribute_gap_closed=gap_closed(*truth) if truth else None,
        above_bound=mean(found.total_s) / least_s - 1 if least_s else None,
    )


def known(*runs: Measures) -> list[list[float]]:
    """Whether all attributes are right, of each of ``runs`` on the samples whose truth is known, as 1 or 0; empty where
    there is no such sample."""
    rows = zip(*(run.attributes for run in runs), strict=True)
    kept = [[value for value in row if value is not None] for row in rows]
    return [list(column) for column in zip(*(row for row in kept if row), strict=True)]


@dataclass(frozen=True, slots=True)
class Bound:
    """The least mean seconds a caption may take, and the least the cloud is busy for it."""

    time_s: float
    busy_s: float


def bound_of(found: Measures, costs: Mapping[str, Any]) -> Bound:
    """The bound for a configuration's own tokens and calls, at the costs of a hardware profile (JSON).

    With ``n`` output tokens of which ``c`` come from the cloud in ``m`` calls, the cloud prefills once
    if it is asked, scores each call, and takes a step for each token that is neither a call's own nor
    its prefill's first; the edge prefills and takes a step for each of the rest.
    """
    edge, cloud = costs["edge"], costs["cloud"]
    prompt = mean(found.input_tokens) if found.input_tokens else 0.0
    n, c, m = mean(found.tokens), mean(found.cloud_tokens), mean(found.calls)
    steps = max(0.0, c - m - mean(found.seeded))
    return Bound(
        time_s=_prefill_s(edge, prompt) + (n - c) * edge["step_s"],
        busy_s=mean(found.prefilled) * _prefill_s(cloud, prompt)
        + m * cloud["verify_s"]
        + steps * cloud["step_s"],
    )


def _prefill_s(costs: Mapping[str, Any], tokens: float) -> float:
    per_token_s: float = costs.get("prefill_per_token_s", 0.0)
    return float(costs["prefill_s"]) + tokens * per_token_s


def mean(values: Sequence[float]) -> float:
    """The mean of values that are there."""
    return sum(values) / len(values)


@dataclass(frozen=True, slots=True)
class Rival:
    """Result of a plain baseline: share of the gap closed, time over the edge's alone."""

    gap_closed: float
    time: float


def leading_gap(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The interval (JSON) of the gap that a policy is judged by first: in right attributes where the truth is known,
    else in CIDEr."""
    found: Mapping[str, Any] = row["attribute_gap_closed"] or row["gap_closed"]
    return found


def router(block: Mapping[str, Any], busy: float) -> Rival:
    """A router that sends the share ``busy`` of whole captions, drawn by lot, to the cloud, and leaves
    the rest to the edge: on average a point of the line between the two, which is the lower convex
    hull for captions that are handed off whole."""
    share = min(1.0, max(0.0, busy))
    cloud_time = block["cloud"]["total_s"] / block["edge"]["total_s"]
    return Rival(gap_closed=share, time=1 - share * (1 - cloud_time))


def seeded(rows: Sequence[Mapping[str, Any]], busy: float) -> Rival | None:
    """The cloud writes the first tokens and the edge the rest unverified: between the two of ``rows``
    (policies that do so) next to ``busy``; ``None`` outside of them."""
    points = sorted(
        (row["busy"]["estimate"], row["gap_closed"]["estimate"], row["time"]["estimate"])
        for row in rows
        if all(row[name]["estimate"] is not None for name in ("busy", "gap_closed", "time"))
    )
    for (low, gap0, time0), (high, gap1, time1) in pairwise(points):
        if low <= busy <= high:
            part = (busy - low) / (high - low) if high > low else 0.0
            return Rival(gap0 + part * (gap1 - gap0), time0 + part * (time1 - time0))
    return None


def bound_line(block: Mapping[str, Any], points: int = 50) -> list[tuple[float, float]]:
    """``(busy over the cloud's, time over the edge's)`` that no caption to which the edge contributes
    can go below: the cloud's tokens on average, any number of them its own, from its start on, without a
    single verification."""
    edge, cloud, costs = block["edge"], block["cloud"], block["costs"]
    line = []
    for part in range(points + 1):
        own = 1 + part / points * max(0.0, cloud["tokens"] - 1)
        busy_s = costs["cloud"]["prefill_s"] + (own - 1) * costs["cloud"]["step_s"]
        time_s = costs["edge"]["prefill_s"] + (cloud["tokens"] - own) * costs["edge"]["step_s"]
        line.append((busy_s / cloud["busy_s"], time_s / edge["total_s"]))
    return line
