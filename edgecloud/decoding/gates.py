"""Gates: should this drafted block go to the cloud?

A gate is a pure function of what the edge knows about its own draft. Add one with ``@gate("name")``;
it appears in ``--gate-type``, the sweeps and the reports by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations_with_replacement

from edgecloud.contracts import TokenStats

__all__ = ["FEATURES", "GATES", "TERMS", "Calibration", "Gate", "Thresholds", "gate", "terms"]


FEATURES = ("entropy", "margin", "logprob", "position", "recent_corrections")
"""Inputs of the calibrated gate: fields of :class:`~edgecloud.contracts.TokenStats`."""

_PRODUCTS = tuple(
    factors
    for degree in (1, 2, 3)
    for factors in combinations_with_replacement(range(len(FEATURES)), degree)
)

TERMS = tuple("*".join(FEATURES[index] for index in factors) for factors in _PRODUCTS)
"""Terms that it weighs: each feature, and the products of two and of three. A token is unsure for two
reasons, several equally good wordings or a thing not heard, and no straight line tells them apart."""


def terms(token: TokenStats) -> list[float]:
    """The values of :data:`TERMS` for a token."""
    values = [float(getattr(token, name)) for name in FEATURES]
    return [math.prod(values[index] for index in factors) for factors in _PRODUCTS]


@dataclass(frozen=True, slots=True)
class Calibration:
    """A logistic model of the cloud's rejections: one weight a term of :data:`TERMS`."""

    intercept: float = 0.0
    weights: tuple[float, ...] = (0.0,) * len(TERMS)

    def rejection(self, token: TokenStats) -> float:
        """The probability that the cloud would not keep the token."""
        logit = self.intercept + sum(w * x for w, x in zip(self.weights, terms(token), strict=True))
        return 1 / (1 + math.exp(-max(-60.0, min(60.0, logit))))


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The threshold of each gate that has one: nats, probability, nats, probability; and the model of
    the calibrated one."""

    entropy: float = 1.5
    margin: float = 0.1
    logprob: float = -2.0
    calibrated: float = 0.3
    calibration: Calibration = field(default_factory=Calibration)


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


@gate("calibrated")
def calibrated(block: Sequence[TokenStats], thresholds: Thresholds) -> bool:
    """Ask when the calibrated model finds it *likelier* than the threshold that the cloud would reject
    some token.

    With an intercept of -2 and a weight of 1 on entropy, a token of 2 nats has probability 0.5: asked
    at threshold 0.3.
    """
    model = thresholds.calibration
    return max(model.rejection(token) for token in block) > thresholds.calibrated
