"""Gates: should this drafted block go to the cloud?

A gate is a pure function of what the edge knows about its own draft. Add one with ``@gate("name")``;
it appears in ``--gate-type``, the sweeps and the reports by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgecloud.contracts import TokenStats

__all__ = ["GATES", "Gate", "Thresholds", "gate"]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The threshold of each gate that has one: nats, probability, nats."""

    entropy: float = 1.5
    margin: float = 0.1
    logprob: float = -2.0


Gate = Callable[[Sequence[TokenStats], Thresholds], bool]
"""``(block, thresholds) -> escalate?``; the block is never empty."""

GATES: dict[str, Gate] = {}


def gate(name: str) -> Callable[[Gate], Gate]:
    """Register a gate under ``name``."""

    def register(function: Gate) -> Gate:
        GATES[name] = function
        return function

    return register


@gate("never")
def never(block: Sequence[TokenStats], thresholds: Thresholds) -> bool:
    """The edge alone; no cloud is asked."""
    return False


@gate("always")
def always(block: Sequence[TokenStats], thresholds: Thresholds) -> bool:
    """Every block is verified: plain speculative decoding."""
    return True


@gate("entropy")
def entropy(block: Sequence[TokenStats], thresholds: Thresholds) -> bool:
    """Ask when the block's largest entropy is *above* the threshold.

    A block with entropies 0.2, 1.7, 0.4 nats goes to the cloud at threshold 1.5 and stays at 1.7.
    """
    return max(token.entropy for token in block) > thresholds.entropy


@gate("margin")
def margin(block: Sequence[TokenStats], thresholds: Thresholds) -> bool:
    """Ask when somewhere the two likeliest tokens are *closer* than the threshold.

    Probabilities 0.45 and 0.40 have margin 0.05: asked at threshold 0.1.
    """
    return min(token.margin for token in block) < thresholds.margin


@gate("logprob")
def logprob(block: Sequence[TokenStats], thresholds: Thresholds) -> bool:
    """Ask when some drafted token is *less* likely than the threshold.

    A token of probability 0.1 has logprob -2.3: asked at threshold -2.0.
    """
    return min(token.logprob for token in block) < thresholds.logprob
