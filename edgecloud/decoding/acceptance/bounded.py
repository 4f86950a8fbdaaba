"""Acceptance within a budget of regret."""

from __future__ import annotations

import math

from edgecloud.contracts import Acceptance
from edgecloud.decoding.acceptance.contract import TokenScore, rule

__all__ = ["bounded"]


@rule("bounded")
def bounded(token: TokenScore, acceptance: Acceptance) -> bool:
    """Keep a token of low enough rank that is nearly as likely as the cloud's first choice, as long as
    the caption's budget of regret lasts.

    With a ratio of 0.3, a token of probability 0.2 stays beside a first choice of 0.5, at a regret of
    ln 2.5 = 0.92 nats, and not beside one of 0.7.
    """
    return token.rank < acceptance.rank_threshold and token.regret <= min(
        -math.log(acceptance.probability_ratio), acceptance.regret_nats
    )
