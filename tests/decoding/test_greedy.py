"""Choosing and judging, against arithmetic done by hand and a naive implementation."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgecloud.contracts import Acceptance
from edgecloud.decoding.draft_scores import choose, score_drafts, verify_draft

EXACT = Acceptance("exact")
NO_END: frozenset[int] = frozenset()


@pytest.mark.parametrize("size", [2, 4, 1000])
def test_equally_likely_tokens_have_the_log_of_their_number(size: int) -> None:
    token, stats = choose(torch.zeros(size))
    assert token == 0
    assert stats.entropy == pytest.approx(math.log(size), rel=1e-5)
    assert stats.margin == pytest.approx(0.0, abs=1e-7)
    assert stats.logprob == pytest.approx(-math.log(size), rel=1e-5)


def test_statistics_of_known_probabilities() -> None:
    probs = (0.1, 0.6, 0.3)
    token, stats = choose(torch.tensor(probs).log())
    assert token == 1
    assert stats.margin == pytest.approx(0.3, abs=1e-6)
    assert stats.logprob == pytest.approx(math.log(0.6), abs=1e-6)
    assert stats.entropy == pytest.approx(-sum(p * math.log(p) for p in probs), abs=1e-6)


def test_tokens_that_cannot_come_add_nothing() -> None:
    token, stats = choose(torch.tensor([-math.inf, 0.0, -math.inf, 0.0]))
    assert token == 1
    assert stats.entropy == pytest.approx(math.log(2), rel=1e-5)
    assert stats.margin == pytest.approx(0.0, abs=1e-7)


def test_a_sure_model_has_no_entropy() -> None:
    _, stats = choose(torch.tensor([0.0, 300.0, -math.inf]))
    assert stats.entropy == pytest.approx(0.0, abs=1e-6)
    assert stats.margin == pytest.approx(1.0)
    assert stats.logprob == pytest.approx(0.0, abs=1e-6)


def test_a_vocabulary_of_one_is_sure() -> None:
    token, stats = choose(torch.tensor([3.0]))
    assert (token, stats.entropy, stats.margin, stats.logprob) == (0, 0.0, 1.0, 0.0)


def test_of_tied_tokens_the_lowest_id_is_chosen_as_everywhere() -> None:
    logits = torch.tensor([1.0, 5.0, 5.0, 5.0])
    assert choose(logits)[0] == 1
    verdict = verify_draft(torch.stack([logits, logits]), [2], EXACT, end_ids=NO_END)
    assert (verdict.kept, verdict.token, verdict.ranks) == (0, 1, (0,))


def test_large_token_ids_are_not_rounded() -> None:
    logits = torch.zeros(151_936)
    logits[151_935] = 9.0
    assert choose(logits)[0] == 151_935


@given(st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=12))
def test_statistics_are_finite_and_in_range(values: list[float]) -> None:
    token, stats = choose(torch.tensor(values))
    assert values[token] == max(values)
    assert -1e-5 <= stats.entropy <= math.log(len(values)) + 1e-4
    assert 0 <= stats.margin <= 1 + 1e-6
    assert -math.log(len(values)) - 1e-4 <= stats.logprob <= 1e-5


def test_a_wholly_kept_draft_gets_a_bonus() -> None:
    logits = torch.eye(4)[[1, 2, 3]]
    verdict = verify_draft(logits, [1, 2], EXACT, end_ids=NO_END)
    assert (verdict.kept, verdict.token) == (2, 3)


def test_a_rejected_token_is_replaced_by_the_clouds_own() -> None:
    logits = torch.eye(4)[[1, 2, 3]]
    verdict = verify_draft(logits, [1, 0], EXACT, end_ids=NO_END)
    assert (verdict.kept, verdict.token) == (1, 2)


def test_a_kept_end_of_text_gets_no_bonus() -> None:
    logits = torch.eye(4)[[1, 0, 3]]
    verdict = verify_draft(logits, [1, 0], EXACT, end_ids=frozenset({0}))
    assert (verdict.kept, verdict.token) == (2, None)


def test_a_rejected_end_of_text_is_corrected() -> None:
    logits = torch.eye(4)[[1, 2, 3]]
    verdict = verify_draft(logits, [1, 0], EXACT, end_ids=frozenset({0}))
    assert (verdict.kept, verdict.token) == (1, 2)


def test_rows_that_do_not_fit_the_draft_are_refused() -> None:
    with pytest.raises(ValueError, match="need 3 rows"):
        verify_draft(torch.zeros(2, 4), [1, 2], EXACT, end_ids=NO_END)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.integers(0, 99))
def test_drafts_that_are_looked_at_together_look_as_they_do_alone(
    counts: list[int], seed: int
) -> None:
    noise = torch.Generator().manual_seed(seed)
    logits = [torch.randn(count + 1, 9, generator=noise) for count in counts]
    drafts = [torch.randint(9, (count,), generator=noise).tolist() for count in counts]
    together = score_drafts(logits, drafts)
    assert together == [
        score_drafts([rows], [draft])[0] for rows, draft in zip(logits, drafts, strict=True)
    ]


@given(
    st.integers(1, 6).flatmap(
        lambda n: st.tuples(
            st.lists(
                # Few values, so that ties are common.
                st.lists(st.integers(-3, 3), min_size=7, max_size=7),
                min_size=n + 1,
                max_size=n + 1,
            ),
            st.lists(st.integers(0, 6), min_size=n, max_size=n),
        )
    ),
    st.sampled_from(["rank", "exact"]),
    st.integers(1, 7),
)
def test_the_verdict_is_that_of_a_naive_implementation(
    case: tuple[list[list[int]], list[int]], rule: str, threshold: int
) -> None:
    rows, draft = case
    end_ids = frozenset({6})
    verdict = verify_draft(
        torch.tensor(rows, dtype=torch.float32), draft, Acceptance(rule, threshold), end_ids=end_ids
    )
    ranks = [sum(x > row[t] for x in row) for row, t in zip(rows, draft, strict=False)]
    tops = [row.index(max(row)) for row in rows]
    keep = [
        rank < threshold if rule == "rank" else token == top
        for rank, token, top in zip(ranks, draft, tops, strict=False)
    ]
    count = keep.index(False) if False in keep else len(draft)
    ended = count == len(draft) and draft[-1] in end_ids
    assert verdict.kept == count
    assert verdict.ranks == tuple(ranks)
    assert verdict.token == (None if ended else tops[count])
    for row, prob in zip(rows, verdict.top_probs, strict=False):
        assert prob == pytest.approx(math.exp(max(row)) / sum(map(math.exp, row)), rel=1e-4)
