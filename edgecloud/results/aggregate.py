"""From the journal records of a run to its numbers: per sample, then over samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgecloud.results.cost import COST_NAMES, cost
from edgecloud.results.histogram import histogram
from edgecloud.results.latency import LATENCY_NAMES, latency
from edgecloud.results.percentiles import summarize
from edgecloud.results.records import Record
from edgecloud.results.speculation import RATE_NAMES, pool, speculation

__all__ = [
    "RESOURCE_NAMES",
    "Measured",
    "cost_metrics",
    "latency_metrics",
    "measure",
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
_OVER_CAP = "memory_over_cap"
_HISTOGRAMS = ("ttft", "tpot", "total_time")

Block = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Measured:
    """Measurements of one completed sample: four blocks of values, each with its ``reasons``."""

    latency: Block
    speculation: Block
    cost: Block
    resources: Block


def measure(record: Record, *, k: int) -> Measured:
    """Compute every number of a completed sample from its journal record."""
    readings = record.resources or {}
    reasons = dict(readings.get("reasons") or {})
    resources: Block = {**dict.fromkeys((*RESOURCE_NAMES, _OVER_CAP)), **readings}
    for name, value in resources.items():
        if value is None:
            reasons.setdefault(name, "it was not read")
    resources["reasons"] = reasons
    return Measured(
        latency=latency(record.trace, audio_s=record.audio_s, input_tokens=record.input_tokens),
        speculation=speculation(record.trace, k=k),
        cost=cost(record.trace, resources=readings),
        resources=resources,
    )


def latency_metrics(samples: Sequence[Measured]) -> tuple[Block, dict[str, str]]:
    """Latency and resources over samples: mean, min, max and percentiles of each, token totals and
    histograms; and why a value is ``None``, by its name."""
    block: Block = {}
    notes: dict[str, str] = {}
    for name in LATENCY_NAMES:
        _summarize([sample.latency for sample in samples], name, block, notes)
    for name in ("block_gap", "tokens_per_block"):
        values = [value for sample in samples for value in sample.latency[name]]
        numbers, reasons = summarize(values, name)
        block.update(numbers)
        notes.update(reasons)
    for name in RESOURCE_NAMES:
        _summarize([sample.resources for sample in samples], name, block, notes)
    over = [v for sample in samples if (v := sample.resources[_OVER_CAP]) is not None]
    block[f"{_OVER_CAP}_total"] = sum(over) if over else None
    if not over:
        notes[f"{_OVER_CAP}_total"] = _reason([sample.resources for sample in samples], _OVER_CAP)
    block["delivered_late_total"] = sum(
        sample.latency.get("delivered_late", False) for sample in samples
    )
    for name in ("input_tokens", "output_tokens"):
        block[f"{name}_total"] = sum(sample.latency[name] or 0 for sample in samples)
    block["histograms"] = {
        name: histogram(sample.latency[name] for sample in samples) for name in _HISTOGRAMS
    }
    block["histograms"]["block_gap"] = histogram(
        gap for sample in samples for gap in sample.latency["block_gap"]
    )
    return block, notes


def speculation_metrics(samples: Sequence[Measured]) -> tuple[Block, dict[str, str]]:
    """Counts and rates of the whole run, and ``<rate>_mean``, the mean of the samples' own rates."""
    block = pool([sample.speculation for sample in samples])
    notes: dict[str, str] = block.pop("reasons")
    for name in RATE_NAMES:
        known = [v for s in samples if (v := s.speculation[name]) is not None]
        block[f"{name}_mean"] = sum(known) / len(known) if known else None
        if not known:
            notes[f"{name}_mean"] = notes.get(name, "no sample has a value")
    return block, notes


def cost_metrics(samples: Sequence[Measured]) -> tuple[Block, dict[str, str]]:
    """``<cost>_mean`` per sample and ``<cost>_total`` of the run."""
    block: Block = {}
    notes: dict[str, str] = {}
    for name in COST_NAMES:
        known = [v for sample in samples if (v := sample.cost[name]) is not None]
        block[f"{name}_mean"] = sum(known) / len(known) if known else None
        block[f"{name}_total"] = sum(known) if known else None
        if not known:
            why = _reason([sample.cost for sample in samples], name)
            notes[f"{name}_mean"] = notes[f"{name}_total"] = why
    return block, notes


def _summarize(
    blocks: Sequence[Mapping[str, Any]], name: str, into: Block, notes: dict[str, str]
) -> None:
    """Add the summary of one quantity; where no sample has it, say what the samples say."""
    values = [block[name] for block in blocks]
    numbers, reasons = summarize(values, name)
    into.update(numbers)
    if all(value is None for value in values):
        reasons = dict.fromkeys(reasons, _reason(blocks, name))
    notes.update(reasons)


def _reason(blocks: Sequence[Mapping[str, Any]], name: str) -> str:
    """The first reason that a sample gives."""
    for block in blocks:
        if name in block["reasons"]:
            return str(block["reasons"][name])
    return "no sample has a value" if blocks else "no sample was completed"
