"""Penalties: those of transformers, on any text, row by row."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor

from edgecloud.cloud.protocol.sampling import pack_sampling, sampling_of
from edgecloud.contracts.sampling import Sampling
from edgecloud.decoding.penalties import penalized
from edgecloud.errors import ConfigError, WireError

V = 7
tokens = st.lists(st.integers(0, V - 1), max_size=12)


@given(
    context=st.lists(st.integers(0, V - 1), min_size=1, max_size=12),
    following=tokens,
    penalty=st.sampled_from([0.5, 1.0, 1.1, 3.0]),
    ngram=st.integers(0, 4),
    seed=st.integers(0, 99),
)
def test_each_row_is_what_generate_makes_of_it(
    context: list[int], following: list[int], penalty: float, ngram: int, seed: int
) -> None:
    torch.manual_seed(seed)
    logits = torch.randn(len(following) + 1, V)
    kept = logits.clone()
    sampling = Sampling(repetition_penalty=penalty, no_repeat_ngram=ngram)
    found = penalized(logits, sampling, context, following)
    assert torch.equal(logits, kept)
    for row in range(len(logits)):
        ids = torch.tensor([[*context, *following[:row]]])
        expected = RepetitionPenaltyLogitsProcessor(penalty)(ids, logits[row : row + 1].clone())
        if ngram:
            expected = NoRepeatNGramLogitsProcessor(ngram)(ids, expected)
        assert torch.equal(found[row], expected[0])


def test_without_penalties_nothing_is_copied() -> None:
    logits = torch.randn(1, V)
    assert penalized(logits, Sampling(), [1, 2]) is logits


def test_placeholders_beyond_the_vocabulary_are_no_tokens_of_it() -> None:
    logits = torch.ones(1, V)
    found = penalized(logits, Sampling(repetition_penalty=2.0), [V + 3, 2])
    assert found.tolist() == [[1, 1, 0.5, 1, 1, 1, 1]]


@pytest.mark.parametrize("wrong", [{"repetition_penalty": 0.0}, {"no_repeat_ngram": -1}])
def test_what_is_no_penalty_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Sampling(**wrong)  # type: ignore[arg-type]


def test_penalties_travel_where_there_are_some() -> None:
    plain, penalised = Sampling(0.7, 0.9, 5), Sampling(0.7, 0.9, 5, 1.1, 3)
    assert len(pack_sampling(plain)) == 3
    assert sampling_of(pack_sampling(penalised)) == penalised
    for wrong in ([1.1], [0.0, 3], [1.1, -1], [1.1, True], [1.1, 33], ["a", 1], [float("nan"), 0]):
        with pytest.raises(WireError):
            sampling_of([0.0, 1.0, 0, *wrong])
