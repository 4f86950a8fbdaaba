"""What every acceptance rule obeys; those of a new one are found by their registration."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecloud.cloud.protocol import wire
from edgecloud.contracts import Acceptance
from edgecloud.decoding.acceptance import RULES, Rule, TokenScore, kept
from edgecloud.decoding.speculative import Speculation
from edgecloud.settings.options import OPTIONS
from tests.properties.loop import Case, run_cloud, run_speculative

NAMES = sorted(RULES)
FIRST_CHOICE = TokenScore(rank=0, is_top=True, regret=0.0)

others = st.builds(
    TokenScore, rank=st.integers(0, 60), is_top=st.just(False), regret=st.floats(0, 12)
)
tokens = st.just(FIRST_CHOICE) | others
drafts = st.lists(tokens, max_size=8)
settings = st.builds(
    Acceptance,
    rule=st.just(""),
    rank_threshold=st.integers(1, 70),
    probability_ratio=st.floats(0.001, 1),
    regret_nats=st.just(math.inf) | st.floats(0, 10),
)


def assert_keeps_the_first_choice(keep: Rule, acceptance: Acceptance) -> None:
    assert keep(FIRST_CHOICE, acceptance) is True


def assert_keeps_what_is_better(
    keep: Rule, worse: TokenScore, better: TokenScore, acceptance: Acceptance
) -> None:
    assert worse.rank >= better.rank
    assert worse.regret >= better.regret
    assert not keep(worse, acceptance) or keep(better, acceptance)


@pytest.mark.parametrize("name", NAMES)
@given(acceptance=settings)
def test_the_clouds_first_choice_is_always_kept(name: str, acceptance: Acceptance) -> None:
    assert_keeps_the_first_choice(RULES[name], acceptance)


@pytest.mark.parametrize("name", NAMES)
@given(draft=drafts, acceptance=settings)
def test_tokens_are_kept_from_the_first_on(
    name: str, draft: list[TokenScore], acceptance: Acceptance
) -> None:
    acceptance = replace(acceptance, rule=name)
    count = kept(draft, acceptance)
    assert 0 <= count <= len(draft)
    # Whatever follows what is rejected: a draft that ends there is kept as far, and not farther.
    assert kept(draft[:count], acceptance) == count
    assert kept(draft[: count + 1], acceptance) == count


@pytest.mark.parametrize("name", NAMES)
@given(token=tokens, acceptance=settings)
def test_a_rule_is_a_pure_function_of_the_token(
    name: str, token: TokenScore, acceptance: Acceptance
) -> None:
    answers = {RULES[name](token, acceptance) for _ in range(2)}
    assert len(answers) == 1
    assert answers <= {True, False}


@pytest.mark.parametrize("name", NAMES)
@given(token=others, rank=st.integers(0, 60), regret=st.floats(0, 12), acceptance=settings)
def test_who_keeps_a_token_keeps_a_better_one(
    name: str, token: TokenScore, rank: int, regret: float, acceptance: Acceptance
) -> None:
    better = replace(token, rank=min(token.rank, rank), regret=min(token.regret, regret))
    assert_keeps_what_is_better(RULES[name], token, better, acceptance)


@pytest.mark.parametrize("name", NAMES)
def test_a_draft_that_is_the_clouds_own_text_is_never_corrected(name: str) -> None:
    accepting = Acceptance(name, rank_threshold=1, probability_ratio=1.0, regret_nats=0.0)
    case = Case(settings=Speculation(gate="always", acceptance=accepting))
    run = run_speculative(case, case.cloud().model, case.cloud())
    assert run.tokens == run_cloud(case).tokens
    assert set(run.origins) <= {"verified", "bonus"}


@pytest.mark.parametrize("name", NAMES)
def test_the_rule_and_its_settings_travel_to_the_cloud(name: str) -> None:
    acceptance = Acceptance(name, rank_threshold=7, probability_ratio=0.25, regret_nats=1.5)
    assert wire.acceptance_of(wire.pack_acceptance(acceptance)) == acceptance


def test_every_rule_is_a_choice_of_the_option() -> None:
    (option,) = (option for option in OPTIONS if option.name == "acceptance")
    assert sorted(option.choices) == NAMES


def test_rules_that_break_these_laws_are_caught() -> None:
    def stern(token: TokenScore, acceptance: Acceptance) -> bool:
        return not token.is_top and token.rank < acceptance.rank_threshold

    def contrary(token: TokenScore, acceptance: Acceptance) -> bool:
        return token.rank >= acceptance.rank_threshold

    with pytest.raises(AssertionError):
        assert_keeps_the_first_choice(stern, Acceptance())
    with pytest.raises(AssertionError):
        assert_keeps_what_is_better(
            contrary, TokenScore(30, False), TokenScore(2, False), Acceptance(rank_threshold=20)
        )
