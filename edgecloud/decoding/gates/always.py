"""The gate that always asks."""

from __future__ import annotations

from collections.abc import Sequence

from edgecloud.contracts import TokenStats
from edgecloud.decoding.gates.contract import Thresholds, gate

__all__ = ["always"]


@gate("always")
def always(block: Sequence[TokenStats], thresholds: Thresholds) -> bool:
    """Every block is verified: plain speculative decoding."""
    return True
