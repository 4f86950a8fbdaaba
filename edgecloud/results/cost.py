"""Cost of one request: tokens the cloud computed, its busy time, bytes on the wire, energy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgecloud.contracts import Trace

__all__ = ["COST_NAMES", "cost"]

_FROM_CALLS = {
    "cloud_prefill_tokens": "prefill_tokens",
    "cloud_verified_tokens": "verified_tokens",
    "cloud_ingested_tokens": "ingested_tokens",
    "cloud_generated_tokens": "generated_tokens",
    "cloud_busy_time": "busy_s",
    "bytes_up": "bytes_up",
    "bytes_down": "bytes_down",
}
"""Cost: the field of :class:`edgecloud.contracts.CloudCost` that it sums over the cloud's answers."""

_ENERGY = ("energy_j", "cpu_energy_j")

COST_NAMES = (*_FROM_CALLS, *_ENERGY)


def cost(trace: Trace, *, resources: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """:data:`COST_NAMES` of a request: tokens, seconds, bytes, joules; and ``reasons`` of nulls.

    A request that never asked the cloud cost it nothing: those fields are 0, which is a count, not a
    guess. Energy, of the cloud's GPU and of this machine's processors, comes from ``resources``, the
    probes' readings of this request.
    """
    result: dict[str, Any] = {
        name: sum(getattr(call.cost, field) for call in trace.calls)
        for name, field in _FROM_CALLS.items()
    }
    readings = resources or {}
    reasons: dict[str, str] = {}
    for name in _ENERGY:
        result[name] = readings.get(name)
        if result[name] is None:
            reasons[name] = (readings.get("reasons") or {}).get(name, "it was not read")
    result["reasons"] = reasons
    return result
