"""The log probability gate."""

from __future__ import annotations

from collections.abc import Sequence

from edgecloud.contracts import TokenStats
from edgecloud.decoding.gates.contract import Thresholds, gate

__all__ = ["logprob"]


@gate("logprob")
def logprob(block: Sequence[TokenStats], thresholds: Thresholds) -> bool:
    """Ask when some drafted token is *less* likely than the threshold.

    A token of probability 0.1 has logprob -2.3: asked at threshold -2.0.
    """
    return min(token.logprob for token in block) < thresholds.logprob
