"""From the journal records of a run to its numbers: per sample, then over samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from edgecloud.contracts import Commit, Degrade, Trace
from edgecloud.jsontypes import rest
from edgecloud.results.certificate import signals
from edgecloud.results.cost import COST_NAMES, Cost, cost
from edgecloud.results.histogram import Histogram, histogram
from edgecloud.results.latency import LATENCY_NAMES, Latency, latency
from edgecloud.results.numbers import Amount, Count, Number
from edgecloud.results.percentiles import summarize
from edgecloud.results.records import Record
from edgecloud.results.speculation import RATE_NAMES, Counts, Speculation, pool, speculation

__all__ = [
    "RESOURCE_NAMES",
    "Measured",
    "MeasuredRecord",
    "Resources",
    "RunLatency",
    "RunSpeculation",
    "cost_metrics",
    "latency_metrics",
    "measure",
    "measured",
    "speculation_metrics",
]

RESOURCE_NAMES = (
    "cpu_percent",
    "ram_gb",
    "ram_gb_peak",
    "gpu_util",
    "gpu_memory_gb",
    "gpu_memory_gb_peak",
)
_HISTOGRAMS = ("ttft", "tpot", "total_time")

Numbers = dict[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Readings of the probes around a request; ``memory_over_cap`` says that the peak was over the cap,
    ``others`` of how many readings and of what else. ``reasons`` say why a quantity was not read."""

    cpu_percent: Amount | None = None
    ram_gb: Amount | None = None
    ram_gb_peak: Amount | None = None
    gpu_util: Amount | None = None
    gpu_memory_gb: Amount | None = None
    gpu_memory_gb_peak: Amount | None = None
    memory_over_cap: bool | None = None
    others: Mapping[str, Number | None] = rest(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Measurements of one completed sample, each with its ``reasons``; ``signals`` is what the gate saw of it."""

    latency: Latency
    speculation: Speculation
    cost: Cost
    resources: Resources
    signals: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class MeasuredRecord(Record):
    """A record with its ``numbers``, and of its trace no more than the output and the loss of the cloud: a tenth of
    what the whole takes in memory. A failed sample has no numbers."""

    numbers: Measured | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLatency:
    """Latency and resources over samples: ``<name>_mean``, ``_min``, ``_max`` and percentiles of each, totals,
    and histograms of seconds."""

    numbers: Mapping[str, Number | None] = rest()
    memory_over_cap_total: Count | None = None
    delivered_late_total: Count = 0
    input_tokens_total: Count = 0
    output_tokens_total: Count = 0
    histograms: Mapping[str, Histogram] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpeculation(Counts):
    """Counts and rates of the whole run, and ``<rate>_mean``, the mean of the samples' own rates."""

    means: Mapping[str, Number | None] = rest(default_factory=dict)


def measure(record: Record, *, k: int) -> Measured:
    """Compute every number of a completed sample from its journal record; a :class:`MeasuredRecord` has them."""
    if isinstance(record, MeasuredRecord) and record.numbers is not None:
        return record.numbers
    readings = dict(record.resources or {})
    reasons = dict(readings.pop("reasons", None) or {})
    own = {
        entry.name: readings.pop(entry.name, None)
        for entry in fields(Resources)
        if entry.name not in ("others", "reasons")
    }
    for name, value in {**own, **readings}.items():
        if value is None:
            reasons.setdefault(name, "it was not read")
    return Measured(
        latency=latency(record.trace, audio_s=record.audio_s, input_tokens=record.input_tokens),
        speculation=speculation(record.trace, k=k),
        cost=cost(record.trace, resources=record.resources),
        resources=Resources(**own, others=readings, reasons=reasons),
        signals=signals(record.trace),
    )


def measured(record: Record, *, k: int) -> MeasuredRecord:
    """``record`` measured, as one that keeps all that a result needs of it; drafts are of up to ``k`` tokens."""
    if isinstance(record, MeasuredRecord):
        return record
    trace = record.trace
    if trace.events:
        end_s = trace.events[-1].end_s
        output = Commit(end_s, end_s, tokens=trace.tokens, origins=trace.origins)
        trace = Trace((output, *trace.of(Degrade)))
    own = {entry.name: getattr(record, entry.name) for entry in fields(Record)}
    numbers = measure(record, k=k) if record.ok else None
    return MeasuredRecord(**{**own, "trace": trace}, numbers=numbers)


def latency_metrics(samples: Sequence[Measured]) -> tuple[RunLatency, dict[str, str]]:
    """Latency and resources over samples, and why a value is ``None``, by its name."""
    numbers: Numbers = {}
    notes: dict[str, str] = {}
    times = [sample.latency for sample in samples]
    resources = [sample.resources for sample in samples]
    for name in LATENCY_NAMES:
        _summarize(times, name, numbers, notes)
    for name in ("block_gap", "tokens_per_block"):
        summary, reasons = summarize([value for its in times for value in getattr(its, name)], name)
        numbers.update(summary)
        notes.update(reasons)
    for name in RESOURCE_NAMES:
        _summarize(resources, name, numbers, notes)
    over = [its.memory_over_cap for its in resources if its.memory_over_cap is not None]
    if not over:
        notes["memory_over_cap_total"] = _reason(resources, "memory_over_cap")
    histograms = {name: histogram(getattr(its, name) for its in times) for name in _HISTOGRAMS}
    histograms["block_gap"] = histogram(gap for its in times for gap in its.block_gap)
    found = RunLatency(
        numbers=numbers,
        memory_over_cap_total=sum(over) if over else None,
        delivered_late_total=sum(its.delivered_late for its in times),
        input_tokens_total=sum(its.input_tokens or 0 for its in times),
        output_tokens_total=sum(its.output_tokens for its in times),
        histograms=histograms,
    )
    return found, notes


def speculation_metrics(samples: Sequence[Measured]) -> tuple[RunSpeculation, dict[str, str]]:
    """Counts and rates of the whole run, and why a rate is ``None``, by its name."""
    pooled = pool([sample.speculation for sample in samples])
    notes = dict(pooled.reasons)
    means: Numbers = {}
    for name in RATE_NAMES:
        means[f"{name}_mean"] = _mean([getattr(sample.speculation, name) for sample in samples])
        if means[f"{name}_mean"] is None:
            notes[f"{name}_mean"] = notes.get(name, "no sample has a value")
    own: dict[str, Any] = {entry.name: getattr(pooled, entry.name) for entry in fields(Counts)}
    return RunSpeculation(**own, means=means), notes


def cost_metrics(samples: Sequence[Measured]) -> tuple[Numbers, dict[str, str]]:
    """``<cost>_mean`` per sample and ``<cost>_total`` of the run, and why one is ``None``, by its name."""
    numbers: Numbers = {}
    notes: dict[str, str] = {}
    costs = [sample.cost for sample in samples]
    for name in COST_NAMES:
        known = [value for its in costs if (value := getattr(its, name)) is not None]
        numbers[f"{name}_mean"] = _mean(known)
        numbers[f"{name}_total"] = sum(known) if known else None
        if not known:
            notes[f"{name}_mean"] = notes[f"{name}_total"] = _reason(costs, name)
    return numbers, notes


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _summarize(
    blocks: Sequence[Latency | Resources], name: str, into: Numbers, notes: dict[str, str]
) -> None:
    """Add the summary of one quantity; where no sample has it, say what the samples say."""
    values = [getattr(block, name) for block in blocks]
    numbers, reasons = summarize(values, name)
    into.update(numbers)
    if all(value is None for value in values):
        reasons = dict.fromkeys(reasons, _reason(blocks, name))
    notes.update(reasons)


def _reason(blocks: Sequence[Latency | Cost | Resources], name: str) -> str:
    """The first reason that a sample gives."""
    for block in blocks:
        if name in block.reasons:
            return block.reasons[name]
    return "no sample has a value" if blocks else "no sample was completed"
