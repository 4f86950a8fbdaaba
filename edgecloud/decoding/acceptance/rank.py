"""Acceptance by rank."""

from __future__ import annotations

from edgecloud.contracts import Acceptance
from edgecloud.decoding.acceptance.contract import TokenScore, rule

__all__ = ["rank"]


@rule("rank")
def rank(token: TokenScore, acceptance: Acceptance) -> bool:
    """Keep a token that is among the cloud's top ``rank_threshold``, the run guide's rule.

    With a threshold of 3, ranks 0, 1 and 2 stay.
    """
    return token.rank < acceptance.rank_threshold
