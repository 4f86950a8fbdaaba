"""The gate that is fitted to a pair of models."""

from __future__ import annotations

from collections.abc import Sequence

from edgecloud.contracts import TokenStats
from edgecloud.decoding.gates.contract import Thresholds, gate

__all__ = ["calibrated"]


@gate("calibrated")
def calibrated(block: Sequence[TokenStats], thresholds: Thresholds) -> bool:
    """Ask when the calibrated model finds it *likelier* than the threshold that the cloud would reject
    some token.

    With an intercept of -2 and a weight of 1 on entropy, a token of 2 nats has probability 0.5: asked
    at threshold 0.3.
    """
    model = thresholds.calibration
    return max(model.rejection(token) for token in block) > thresholds.calibrated
