"""Drawing tokens and judging drawn ones, against arithmetic done by hand and a naive implementation."""

from __future__ import annotations

import math
from itertools import accumulate, pairwise

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from edgecloud.contracts import LOG_MEL, Acceptance, Prompt
from edgecloud.contracts.sampling import GREEDY, MOST_WEIGHT, WIDEST, Distribution, Sampling
from edgecloud.decoding import sampling as module
from edgecloud.decoding.draft_scores import verify_draft
from edgecloud.decoding.sampling import (
    accept_sampled,
    chance,
    draw,
    pick,
    quantized,
    residual,
    seeded,
    warp,
)

REJECTION = Acceptance("rejection")
NO_END: frozenset[int] = frozenset()
HOT = Sampling(1.0, seed=5)

logits_of = st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=12).map(torch.tensor)
warm = st.builds(
    Sampling,
    temperature=st.floats(0.05, 5),
    top_p=st.floats(0.05, 1) | st.just(1.0),
    seed=st.integers(0, 2**63 - 1),
)


def test_the_likeliest_tokens_that_reach_top_p_share_the_probability() -> None:
    probs = warp(torch.tensor([0.2, 0.5, 0.3]).log(), Sampling(1.0, 0.7))
    assert probs.tolist() == pytest.approx([0, 0.625, 0.375])


def test_half_the_temperature_squares_the_probabilities() -> None:
    probs = warp(torch.tensor([0.2, 0.8]).log(), Sampling(0.5))
    assert probs.tolist() == pytest.approx([0.04 / 0.68, 0.64 / 0.68])


def test_tokens_as_likely_as_the_last_one_kept_stay() -> None:
    assert warp(torch.zeros(4), Sampling(1.0, 0.5)).tolist() == [0.25] * 4


def test_at_temperature_0_the_first_of_the_likeliest_is_certain() -> None:
    assert warp(torch.tensor([1.0, 5.0, 5.0]), GREEDY).tolist() == [0, 1, 0]


@pytest.mark.parametrize("temperature", [1e-3, 1e-300, 5e-324])
def test_a_temperature_near_0_is_no_nan(temperature: float) -> None:
    probs = warp(torch.tensor([-math.inf, 2.0, 3.0]), Sampling(temperature))
    assert probs.tolist() == pytest.approx([0, 0, 1])


def test_what_cannot_come_is_never_drawn() -> None:
    logits = torch.tensor([-math.inf, 0.0, -math.inf])
    assert all(pick(logits, Sampling(9.0, seed=seed), []) == 1 for seed in range(20))
    assert all(draw(logits, Sampling(9.0, seed=seed), [])[0] == 1 for seed in range(20))


@pytest.mark.parametrize("size", [1000, 1024, 1025, 5000])
@pytest.mark.parametrize("top_p", [0.3, 0.9, 1.0 - 1e-16])
def test_a_large_vocabulary_is_cut_where_a_full_sort_cuts_it(size: int, top_p: float) -> None:
    logits = torch.randn(size, generator=torch.Generator().manual_seed(size))
    probs = logits.double().softmax(0)
    ranked = probs.sort(descending=True)
    count = int((ranked.values.cumsum(0) < top_p).sum()) + 1
    kept = warp(logits, Sampling(1.0, top_p)).nonzero()[:, 0].tolist()
    assert kept == sorted(ranked.indices[:count].tolist())


@given(logits_of, warm)
def test_probabilities_are_those_of_a_naive_implementation(
    logits: torch.Tensor, sampling: Sampling
) -> None:
    values = [value / sampling.temperature for value in logits.tolist()]
    weights = [math.exp(value - max(values)) for value in values]
    probs = [weight / sum(weights) for weight in weights]
    ranked = sorted(probs, reverse=True)
    reached = [total for total in accumulate(ranked) if total < sampling.top_p]
    # Else the cut is a matter of rounding.
    assume(all(abs(total - sampling.top_p) > 1e-9 for total in accumulate(ranked)))
    least = ranked[len(reached)] if len(reached) < len(ranked) else 0.0
    kept = [prob if prob > least * (1 - 1e-9) else 0.0 for prob in probs]
    assert warp(logits, sampling).tolist() == pytest.approx(
        [prob / sum(kept) for prob in kept], abs=1e-9
    )


def test_weights_are_in_proportion_to_the_likeliest_token() -> None:
    found = quantized(torch.tensor([0.5, 0.0, 0.25, 1e-6]))
    assert found == Distribution((0, 2), (MOST_WEIGHT, 32768))
    assert [found.probability_of(token) for token in range(4)] == pytest.approx(
        [2 / 3, 0, 1 / 3, 0], abs=1e-5
    )


def test_of_many_tokens_the_likeliest_are_kept() -> None:
    found = quantized(torch.linspace(1, 2, 1000))
    assert found.ids == tuple(range(1000 - WIDEST, 1000))


@given(logits_of, warm)
def test_a_distribution_is_close_to_the_probabilities_it_stands_for(
    logits: torch.Tensor, sampling: Sampling
) -> None:
    probs = warp(logits, sampling)
    found = quantized(probs)
    assert max(found.weights) == MOST_WEIGHT
    assert all(a < b for a, b in pairwise(found.ids))
    for token, prob in enumerate(probs.tolist()):
        assert found.probability_of(token) == pytest.approx(prob, abs=len(probs) / MOST_WEIGHT)


def test_a_token_has_as_many_places_as_its_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.tensor([0.1, 0.0, 0.6, 0.3]).log()
    _, found = draw(logits, HOT, [])
    begins = [0, *accumulate(found.weights)]
    for token, first, end in zip(found.ids, begins, begins[1:], strict=False):
        for place in (first, end - 1):
            # The first of the numbers that fall on this place.
            number = -(-(place << 64) // found.total)
            monkeypatch.setattr(module, "chance", lambda *_, number=number: number)
            assert draw(logits, HOT, []) == (token, found)


@given(logits_of, st.data(), warm)
def test_keeping_and_replacing_together_give_the_targets_distribution(
    by_edge: torch.Tensor, data: st.DataObject, sampling: Sampling
) -> None:
    size = len(by_edge)
    by_cloud = torch.tensor(data.draw(st.lists(st.floats(-20, 20), min_size=size, max_size=size)))
    p, draft_probabilities = warp(by_cloud, sampling), quantized(warp(by_edge, sampling))
    q = [draft_probabilities.probability_of(token) for token in range(size)]
    kept = torch.minimum(p, torch.tensor(q, dtype=torch.float64))
    left = residual(p, draft_probabilities)
    given_out = kept + (1 - kept.sum()) * left / left.sum()
    assert given_out.tolist() == pytest.approx(p.tolist(), abs=1e-12)


def test_where_rounding_leaves_nothing_the_target_itself_is_drawn_from() -> None:
    p = torch.tensor([0.5, 0.5], dtype=torch.float64)
    assert residual(p, Distribution((0, 1), (7, 7))).tolist() == [0.5, 0.5]


def test_chance_differs_by_seed_stream_and_text_and_by_nothing_else() -> None:
    calls = [(1, "keep", []), (2, "keep", []), (1, "draft", []), (1, "keep", [0]), (1, "keep", [1])]
    numbers = [chance(*call) for call in calls]
    assert len(set(numbers)) == len(calls)
    assert numbers == [chance(*call) for call in calls]
    assert all(0 <= number < 2**64 for number in numbers)


def test_a_samples_seed_is_made_of_the_runs_seed_and_of_what_the_cloud_is_given() -> None:
    features = np.zeros((2, 3), dtype=np.float16)
    prompts = [
        Prompt((1, 2)),
        Prompt((1, 3)),
        Prompt((1, 2), {LOG_MEL: features}),
        Prompt((1, 2), {LOG_MEL: features + 1}),
    ]
    found = [seeded(HOT, seed, prompt) for seed in (0, 1) for prompt in prompts]
    assert len({sampling.seed for sampling in found}) == len(found)
    assert all(0 <= sampling.seed < 2**63 for sampling in found)
    assert {(sampling.temperature, sampling.top_p) for sampling in found} == {(1.0, 1.0)}
    assert seeded(Sampling(0.0, 0.5), 7, prompts[2]) == GREEDY


def drawn(
    by_edge: torch.Tensor, count: int, sampling: Sampling
) -> tuple[list[int], list[Distribution]]:
    draft: list[int] = []
    sources = []
    for _ in range(count):
        token, source = draw(by_edge, sampling, draft)
        draft.append(token)
        sources.append(source)
    return draft, sources


def test_a_target_that_is_the_drafter_keeps_everything_and_draws_a_bonus() -> None:
    # Probabilities that whole weights hold exactly.
    logits = torch.tensor([1.0, 1.0, -math.inf])
    draft, sources = drawn(logits, 3, HOT)
    verdict = accept_sampled(
        logits.expand(4, 3), draft, sources, REJECTION, HOT, committed=[], end_ids=NO_END
    )
    assert (verdict.kept, verdict.token) == (3, pick(logits, HOT, draft))
    assert verdict.regret == 0


def test_what_the_target_never_says_is_replaced() -> None:
    by_edge, by_cloud = torch.tensor([5.0, -math.inf, 0.0]), torch.tensor([-math.inf, 1.0, 1.0])
    sampling = Sampling(0.1, seed=3)
    draft, sources = drawn(by_edge, 2, sampling)
    verdict = accept_sampled(
        by_cloud.expand(3, 3), draft, sources, REJECTION, sampling, committed=[], end_ids=NO_END
    )
    assert draft == [0, 0]
    assert verdict.kept == 0
    assert verdict.token in (1, 2)
    assert verdict.ranks == (2, 2)


def test_a_kept_end_of_text_gets_no_bonus() -> None:
    logits = torch.tensor([0.0, -math.inf])
    draft, sources = drawn(logits, 1, HOT)
    verdict = accept_sampled(
        logits.expand(2, 2), draft, sources, REJECTION, HOT, committed=[1], end_ids=frozenset({0})
    )
    assert (draft, verdict.kept, verdict.token) == ([0], 1, None)


rows_and_draft = st.integers(1, 4).flatmap(
    lambda n: st.tuples(
        # Few values, so that ties are common.
        st.lists(
            st.lists(st.integers(-3, 3), min_size=5, max_size=5), min_size=n + 1, max_size=n + 1
        ),
        st.lists(st.integers(0, 4), min_size=n, max_size=n),
    )
)


@given(rows_and_draft)
def test_at_temperature_0_a_drawn_draft_is_judged_as_exact_judges_it(
    case: tuple[list[list[int]], list[int]],
) -> None:
    rows, draft = torch.tensor(case[0], dtype=torch.float32), case[1]
    points = [Distribution((token,), (MOST_WEIGHT,)) for token in draft]
    end_ids = frozenset({4})
    assert accept_sampled(
        rows, draft, points, REJECTION, GREEDY, committed=[2], end_ids=end_ids
    ) == verify_draft(rows, draft, Acceptance("exact"), end_ids=end_ids)


@given(rows_and_draft, warm)
def test_a_draft_judged_again_gets_the_same_verdict(
    case: tuple[list[list[int]], list[int]], sampling: Sampling
) -> None:
    rows, draft = torch.tensor(case[0], dtype=torch.float32), case[1]
    flat = [Distribution((0, 1, 2, 3, 4), (1,) * 5)] * len(draft)
    one, other = (
        accept_sampled(rows, draft, flat, REJECTION, sampling, committed=[1], end_ids=NO_END)
        for _ in range(2)
    )
    assert one == other
    assert len(one.ranks) == len(one.top_probs) == len(draft)
    assert one.regret >= 0
