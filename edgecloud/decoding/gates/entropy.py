"""The entropy gate."""

from __future__ import annotations

from collections.abc import Sequence

from edgecloud.contracts import TokenStats
from edgecloud.decoding.gates.contract import Thresholds, gate

__all__ = ["entropy"]


@gate("entropy")
def entropy(block: Sequence[TokenStats], thresholds: Thresholds) -> bool:
    """Ask when the block's largest entropy is *above* the threshold.

    A block with entropies 0.2, 1.7, 0.4 nats goes to the cloud at threshold 1.5 and stays at 1.7.
    """
    return max(token.entropy for token in block) > thresholds.entropy
