"""Cost of one request: tokens the cloud computed, its busy time, bytes on the wire, energy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgecloud.contracts import CloudCost, Trace
from edgecloud.results.numbers import Amount, Count

__all__ = ["COST_NAMES", "Cost", "cost"]

COST_NAMES = (
    "cloud_prefill_tokens",
    "cloud_verified_tokens",
    "cloud_ingested_tokens",
    "cloud_generated_tokens",
    "cloud_busy_time",
    "bytes_up",
    "bytes_down",
    "energy_j",
    "cpu_energy_j",
)
_ENERGY = ("energy_j", "cpu_energy_j")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Cost of a request: tokens, seconds, bytes, joules; ``reasons`` say why a quantity is ``None``."""

    cloud_prefill_tokens: Count | None = None
    cloud_verified_tokens: Count | None = None
    cloud_ingested_tokens: Count | None = None
    cloud_generated_tokens: Count | None = None
    cloud_busy_time: Amount | None = None
    bytes_up: Count | None = None
    bytes_down: Count | None = None
    energy_j: Amount | None = None
    cpu_energy_j: Amount | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)


def cost(trace: Trace, *, resources: Mapping[str, Any] | None = None) -> Cost:
    """The cost of a request.

    A request that never asked the cloud cost it nothing: those fields are 0, which is a count, not a
    guess. Energy, of the cloud's GPU and of this machine's processors, comes from ``resources``, the
    probes' readings of this request.
    """
    calls: list[CloudCost] = [call.cost for call in trace.calls]
    readings = resources or {}
    why = readings.get("reasons") or {}
    return Cost(
        cloud_prefill_tokens=sum(call.prefill_tokens for call in calls),
        cloud_verified_tokens=sum(call.verified_tokens for call in calls),
        cloud_ingested_tokens=sum(call.ingested_tokens for call in calls),
        cloud_generated_tokens=sum(call.generated_tokens for call in calls),
        cloud_busy_time=sum(call.busy_s for call in calls),
        bytes_up=sum(call.bytes_up for call in calls),
        bytes_down=sum(call.bytes_down for call in calls),
        energy_j=readings.get("energy_j"),
        cpu_energy_j=readings.get("cpu_energy_j"),
        reasons={
            name: why.get(name, "it was not read") for name in _ENERGY if readings.get(name) is None
        },
    )
