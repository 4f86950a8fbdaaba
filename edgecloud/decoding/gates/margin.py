"""The margin gate."""

from __future__ import annotations

from collections.abc import Sequence

from edgecloud.contracts import TokenStats
from edgecloud.decoding.gates.contract import Thresholds, gate

__all__ = ["margin"]


@gate("margin")
def margin(block: Sequence[TokenStats], thresholds: Thresholds) -> bool:
    """Ask when somewhere the two likeliest tokens are *closer* than the threshold.

    Probabilities 0.45 and 0.40 have margin 0.05: asked at threshold 0.1.
    """
    return min(token.margin for token in block) < thresholds.margin
