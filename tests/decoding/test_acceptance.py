"""Which drafted tokens the cloud keeps: worked examples, and what the rules obey."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecloud.contracts import Acceptance
from edgecloud.decoding.acceptance import RULES, TokenScore, kept
from edgecloud.errors import WireError

# A token that greedy decoding would choose has rank 0; a token of rank 0 may lose a tie.
judged = st.integers(0, 60).flatmap(
    lambda rank: st.builds(
        TokenScore, rank=st.just(rank), is_top=st.booleans() if rank == 0 else st.just(False)
    )
)
drafts = st.lists(judged, max_size=8)
thresholds = st.integers(1, 70)
policies = st.builds(Acceptance, rule=st.sampled_from(sorted(RULES)), rank_threshold=thresholds)


def of_ranks(*ranks: int) -> list[TokenScore]:
    return [TokenScore(rank, is_top=rank == 0) for rank in ranks]


def test_what_follows_a_rejected_token_is_void() -> None:
    assert kept(of_ranks(0, 2, 25, 0), Acceptance("rank", 20)) == 2


@pytest.mark.parametrize("threshold, count", [(1, 1), (2, 1), (3, 3), (4, 4)])
def test_rank_keeps_what_is_among_the_top_n(threshold: int, count: int) -> None:
    assert kept(of_ranks(0, 2, 1, 3), Acceptance("rank", threshold)) == count


def test_exact_keeps_only_the_greedy_choice_even_among_ties() -> None:
    draft = [TokenScore(0, is_top=True), TokenScore(0, is_top=False)]
    assert kept(draft, Acceptance("exact")) == 1
    assert kept(draft, Acceptance("rank", 1)) == 2


def test_exact_ignores_the_rank_threshold() -> None:
    assert kept(of_ranks(0, 1), Acceptance("exact", 50)) == 1


def test_an_unknown_rule_is_named_with_those_that_exist() -> None:
    with pytest.raises(WireError, match=f"'fuzzy'; known: {', '.join(RULES)};"):
        kept(of_ranks(0), Acceptance("fuzzy"))


@given(drafts, policies)
def test_a_prefix_is_kept_and_the_first_that_fails_ends_it(
    draft: list[TokenScore], acceptance: Acceptance
) -> None:
    count = kept(draft, acceptance)
    keep = RULES[acceptance.rule]
    assert 0 <= count <= len(draft)
    assert all(keep(token, acceptance) for token in draft[:count])
    if count < len(draft):
        assert not keep(draft[count], acceptance)


@given(drafts, thresholds, thresholds)
def test_a_wider_rank_never_keeps_less(draft: list[TokenScore], one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert kept(draft, Acceptance("rank", low)) <= kept(draft, Acceptance("rank", high))


@given(drafts, thresholds)
def test_exact_never_keeps_more_than_any_rank(draft: list[TokenScore], threshold: int) -> None:
    assert kept(draft, Acceptance("exact")) <= kept(draft, Acceptance("rank", threshold))


@given(st.lists(st.integers(0, 60), max_size=8))
def test_without_ties_exact_is_rank_one(ranks: list[int]) -> None:
    draft = of_ranks(*ranks)
    assert kept(draft, Acceptance("exact")) == kept(draft, Acceptance("rank", 1))


@given(drafts, judged, policies)
def test_more_draft_never_shortens_what_is_kept(
    draft: list[TokenScore], more: TokenScore, acceptance: Acceptance
) -> None:
    before, after = kept(draft, acceptance), kept([*draft, more], acceptance)
    assert before <= after <= before + 1


def bounded(rank_threshold: int = 20, ratio: float = 0.3, nats: float = math.inf) -> Acceptance:
    return Acceptance("bounded", rank_threshold, ratio, nats)


@pytest.mark.parametrize(
    "top, keeps",
    [(0.5, True), (0.66, True), (0.67, False), (0.7, False)],
)
def test_bounded_keeps_what_is_nearly_as_likely(top: float, keeps: bool) -> None:
    token = TokenScore(rank=1, is_top=False, regret=math.log(top / 0.2))
    assert bool(kept([token], bounded())) is keeps


def test_bounded_keeps_no_rank_that_is_too_low() -> None:
    assert kept([TokenScore(rank=3, is_top=False, regret=0.1)], bounded(rank_threshold=3)) == 0


def test_the_budget_of_regret_is_the_captions() -> None:
    token = TokenScore(rank=1, is_top=False, regret=0.4)
    assert kept([token] * 5, bounded(nats=1.0)) == 2
    assert kept([TokenScore(rank=0, is_top=True)] * 5, bounded(nats=0.0)) == 5


@given(st.lists(st.floats(0, 3), max_size=12), st.floats(0, 5))
def test_no_more_is_given_away_than_the_budget(regrets: list[float], nats: float) -> None:
    draft = [TokenScore(rank=1, is_top=False, regret=regret) for regret in regrets]
    assert sum(regrets[: kept(draft, bounded(nats=nats))]) <= nats + 1e-9


@pytest.mark.parametrize("drawn, keeps", [(0.0, True), (0.59, True), (0.6, False), (0.99, False)])
def test_rejection_keeps_a_token_with_the_ratio_of_its_probabilities(
    drawn: float, keeps: bool
) -> None:
    token = TokenScore(rank=1, is_top=False, ratio=0.3 / 0.5, drawn=drawn)
    assert bool(kept([token], Acceptance("rejection"))) is keeps


def test_rejection_keeps_what_the_cloud_likes_better_and_nothing_impossible() -> None:
    liked = TokenScore(rank=0, is_top=True, ratio=1.0, drawn=1 - 2**-53)
    impossible = TokenScore(rank=5, is_top=False, ratio=0.0, drawn=0.0)
    assert kept([liked, impossible, liked], Acceptance("rejection")) == 1


@given(drafts)
def test_where_nothing_is_drawn_rejection_is_exact(draft: list[TokenScore]) -> None:
    assert kept(draft, Acceptance("rejection")) == kept(draft, Acceptance("exact"))
