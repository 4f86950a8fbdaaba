"""Acceptance by rejection sampling."""

from __future__ import annotations

from edgecloud.contracts import Acceptance
from edgecloud.decoding.acceptance.contract import TokenScore, rule

__all__ = ["rejection"]


@rule("rejection")
def rejection(token: TokenScore, acceptance: Acceptance) -> bool:
    """Keep a token with the probability min(1, p/q) that makes speculation lossless at a temperature
    (Leviathan et al. 2023, Chen et al. 2023): see :mod:`edgecloud.decoding.sampling`.

    Drawn with 0.5 where the cloud has 0.3, it stays in 6 of 10 cases. At temperature 0 both sides are
    sure of their first choice, and the rule is ``exact``.
    """
    return token.is_top if token.ratio is None else token.drawn < token.ratio
