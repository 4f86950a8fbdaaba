"""Exact acceptance."""

from __future__ import annotations

from edgecloud.contracts import Acceptance
from edgecloud.decoding.acceptance.contract import TokenScore, rule

__all__ = ["exact"]


@rule("exact")
def exact(token: TokenScore, acceptance: Acceptance) -> bool:
    """Keep a token only if greedy decoding on the cloud would have chosen it.

    With every block verified, the output is the cloud's own (Leviathan et al. 2023, greedy case).
    """
    return token.is_top
