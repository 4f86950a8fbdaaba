"""The gate that never asks."""

from __future__ import annotations

from collections.abc import Sequence

from edgecloud.contracts import TokenStats
from edgecloud.decoding.gates.contract import Thresholds, gate

__all__ = ["never"]


@gate("never")
def never(block: Sequence[TokenStats], thresholds: Thresholds) -> bool:
    """The edge alone; no cloud is asked."""
    return False
