"""The laws of acceptance rules."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from edgecloud.contracts import Acceptance
from edgecloud.decoding.acceptance import Rule, TokenScore
from edgecloud.testing.laws import Law, check, searched

__all__ = [
    "FIRST_CHOICE",
    "RULE_LAWS",
    "acceptances",
    "check_acceptance_rule",
    "others",
    "tokens",
    "with_numbers",
]

FIRST_CHOICE = TokenScore(rank=0, is_top=True, regret=0.0)
"""The token that greedy decoding on the cloud would choose."""

others = st.builds(
    TokenScore, rank=st.integers(0, 60), is_top=st.just(False), regret=st.floats(0, 12)
)
"""What any other drafted token may look like to the cloud."""
tokens = st.just(FIRST_CHOICE) | others
"""What any drafted token may look like."""

_SETTINGS: dict[str, dict[str, Any]] = {
    "rank_threshold": {"rank_threshold": st.integers(1, 70)},
    "probability_ratio": {"probability_ratio": st.floats(0.001, 1)},
    "regret_budget": {"regret_nats": st.just(math.inf) | st.floats(0, 10)},
}
"""Each setting of rules, as :class:`Acceptance` has it, and what it may be."""
_ALL = {name: values for setting in _SETTINGS.values() for name, values in setting.items()}
acceptances = st.builds(Acceptance, rule=st.just(""), **_ALL)
"""What a rule may be set to."""


def _answers(rule: Rule, options: Sequence[str]) -> None:
    def holds(token: TokenScore, acceptance: Acceptance) -> None:
        answer = rule(token, acceptance)
        assert isinstance(answer, bool), f"{answer!r} for {token} at {acceptance}"

    searched(holds, token=tokens, acceptance=acceptances)


def _is_pure(rule: Rule, options: Sequence[str]) -> None:
    def holds(token: TokenScore, other: TokenScore, acceptance: Acceptance) -> None:
        answer = rule(token, acceptance)
        rule(other, acceptance)
        assert rule(token, acceptance) == answer, f"{token} at {acceptance}, asked about again"

    searched(holds, simplify=False, token=tokens, other=tokens, acceptance=acceptances)


def _first_choice(rule: Rule, options: Sequence[str]) -> None:
    def holds(acceptance: Acceptance) -> None:
        assert rule(FIRST_CHOICE, acceptance), f"{acceptance}"

    searched(holds, acceptance=acceptances)


def _better(rule: Rule, options: Sequence[str]) -> None:
    def holds(token: TokenScore, rank: int, regret: float, acceptance: Acceptance) -> None:
        better = replace(token, rank=min(token.rank, rank), regret=min(token.regret, regret))
        if rule(token, acceptance):
            assert rule(better, acceptance), f"{token}, kept, and {better} at {acceptance}"

    searched(
        holds,
        token=others,
        rank=st.integers(0, 60),
        regret=st.floats(0, 12),
        acceptance=acceptances,
    )


def _own_settings(rule: Rule, options: Sequence[str]) -> None:
    unnamed: dict[str, Any] = {}
    for name, values in _SETTINGS.items():
        unnamed |= {} if name in options else values

    def holds(token: TokenScore, acceptance: Acceptance, changed: dict[str, Any]) -> None:
        answer = rule(token, acceptance)
        assert rule(token, replace(acceptance, **changed)) == answer, (
            f"{token} at {acceptance} with {changed}"
        )

    searched(holds, token=tokens, acceptance=acceptances, changed=st.fixed_dictionaries(unnamed))


RULE_LAWS: tuple[Law[Rule], ...] = (
    Law("answers", "the answer is True or False for every token", _answers),
    Law("pure", "the answer depends on the token and the rule's settings alone", _is_pure),
    Law("first choice", "the cloud's first choice is always kept", _first_choice),
    Law(
        "better",
        "whoever keeps a token keeps one of no larger rank and no larger regret",
        _better,
    ),
    Law(
        "settings",
        "a setting that its registration does not name changes no answer: it would not count where runs are "
        "compared",
        _own_settings,
    ),
)
"""What every acceptance rule obeys at temperature 0."""


def with_numbers(rule: Rule, own: Mapping[str, float]) -> Rule:
    """The rule with the numbers that it alone knows."""
    numbers = dict(own)

    def numbered(token: TokenScore, acceptance: Acceptance) -> bool:
        return rule(token, replace(acceptance, own=numbers))

    return numbered


def check_acceptance_rule(
    rule: Rule, *, options: Sequence[str] = (), own: Mapping[str, float] | None = None
) -> None:
    """Hold an acceptance rule to :data:`RULE_LAWS`; ``options`` and ``own`` are those that it is registered
    with.

    Raises:
        AssertionError: it breaks one; the message has the law and a token that it is broken by.
    """
    check(RULE_LAWS, with_numbers(rule, own or {}), options)
