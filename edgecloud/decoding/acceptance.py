"""Acceptance: which drafted tokens does the cloud keep?

A rule is a pure function of how the cloud sees one drafted token. Tokens are kept from the first on,
up to the first that fails. Add a rule with ``@rule("name")``; it appears in ``--acceptance``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from edgecloud.contracts import Acceptance
from edgecloud.errors import WireError

__all__ = ["RULES", "Rule", "TokenScore", "kept", "rule"]


@dataclass(frozen=True, slots=True)
class TokenScore:
    """One drafted token as the cloud sees it.

    ``rank`` counts the tokens the cloud likes strictly better; ``is_top`` says whether it is the one
    token greedy decoding would choose (of several equally likely ones, the one with the lowest id);
    ``regret`` how much less likely it is than that one, in nats of log probability.

    Where tokens are drawn at random, ``ratio`` is the cloud's probability of it over the one it was
    drawn with, and ``drawn`` a random number from 0 up to 1; ``None`` where decoding is greedy.
    """

    rank: int
    is_top: bool
    regret: float = 0.0
    ratio: float | None = None
    drawn: float = 0.0


Rule = Callable[[TokenScore, Acceptance], bool]
"""``(token, settings) -> keep?``"""

RULES: dict[str, Rule] = {}


def rule(name: str) -> Callable[[Rule], Rule]:
    """Register an acceptance rule under ``name``."""

    def register(function: Rule) -> Rule:
        RULES[name] = function
        return function

    return register


@rule("rank")
def rank(token: TokenScore, acceptance: Acceptance) -> bool:
    """Keep a token that is among the cloud's top ``rank_threshold``, the run guide's rule.

    With a threshold of 3, ranks 0, 1 and 2 stay.
    """
    return token.rank < acceptance.rank_threshold


@rule("exact")
def exact(token: TokenScore, acceptance: Acceptance) -> bool:
    """Keep a token only if greedy decoding on the cloud would have chosen it.

    With every block verified, the output is the cloud's own (Leviathan et al. 2023, greedy case).
    """
    return token.is_top


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


@rule("rejection")
def rejection(token: TokenScore, acceptance: Acceptance) -> bool:
    """Keep a token with the probability min(1, p/q) that makes speculation lossless at a temperature
    (Leviathan et al. 2023, Chen et al. 2023): see :mod:`edgecloud.decoding.sampling`.

    Drawn with 0.5 where the cloud has 0.3, it stays in 6 of 10 cases. At temperature 0 both sides are
    sure of their first choice, and the rule is ``exact``.
    """
    return token.is_top if token.ratio is None else token.drawn < token.ratio


def kept(draft: Iterable[TokenScore], acceptance: Acceptance) -> int:
    """Number of draft tokens that are kept: all before the first that fails.

    Ranks 0, 2, 25, 0 under ``rank`` with threshold 20 keep 2: what follows a rejected token is void.
    Each kept token takes its regret from what ``acceptance`` allows the rest.

    Raises:
        WireError: no rule has the name ``acceptance.rule``.
    """
    try:
        keep = RULES[acceptance.rule]
    except KeyError:
        raise WireError(
            f"unknown acceptance rule {acceptance.rule!r}; known: {', '.join(RULES)}"
        ) from None
    count = 0
    for token in draft:
        if not keep(token, acceptance):
            break
        count += 1
        if token.regret:
            acceptance = replace(acceptance, regret_nats=acceptance.regret_nats - token.regret)
    return count
