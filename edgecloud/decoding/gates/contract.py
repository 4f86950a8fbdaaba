"""What a gate is, what it is told besides the block, and where gates are registered."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from types import MappingProxyType

from edgecloud.contracts import TokenStats
from edgecloud.contracts.ranges import LogProbability, Nats, Probability, check_fields
from edgecloud.registry import Registry

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
    """The threshold of each gate that has one, the setting ``NAME_threshold``: nats, probability, nats,
    probability; the model of the calibrated one; and the numbers that another package's gate alone knows.

    Raises, when made:
        ConfigError: a threshold is out of range.
    """

    entropy: Nats = 1.5
    margin: Probability = 0.1
    logprob: LogProbability = -2.0
    calibrated: Probability = 0.3
    calibration: Calibration = field(default_factory=Calibration)
    own: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the thresholds."""
        check_fields(self)


Gate = Callable[[Sequence[TokenStats], Thresholds], bool]
"""``(block, thresholds) -> escalate?``; the block is never empty."""

GATES: Registry[Gate] = Registry("gate", group="gates")
"""Every gate by its name."""


def gate(
    name: str, *, options: Sequence[str] = (), own: Mapping[str, float] = MappingProxyType({})
) -> Callable[[Gate], Gate]:
    """Register a gate, ``(block, thresholds) -> bool``, under ``name``; ``options`` names settings of other
    gates that it looks at, such as ``entropy_threshold``: they count beside it, too. Its own are declared
    in :mod:`edgecloud.settings.subjects`.

    ``own`` are numbers that it alone knows, with their defaults: it finds them in ``thresholds.own``, and
    ``--gate-options`` sets them.

    Raises:
        PluginError: a name is taken or cannot be one, or a default is no number.
    """
    return GATES.named(name, options=options, own=own)
