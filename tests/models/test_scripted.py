"""The scripted models: what other tests build on."""

from __future__ import annotations

import pytest
import torch

from edgecloud.contracts import Prompt
from edgecloud.models.scripted import ScriptedModel, follows, hashed


def written(model: ScriptedModel, prompt: Prompt, count: int) -> list[int]:
    """``count`` greedy tokens."""
    tokens = [int(model.prefill(prompt).argmax())]
    while len(tokens) < count:
        tokens.append(int(model.extend(tokens[-1:])[-1].argmax()))
    return tokens


def test_it_writes_its_text_then_the_last_token_for_ever() -> None:
    script = follows([3, 1, 2], prompt_length=4, vocab_size=5)
    assert written(ScriptedModel(script, vocab_size=5), Prompt((0, 0, 0, 0)), 5) == [3, 1, 2, 2, 2]


def test_it_writes_its_text_whatever_was_put_in_before() -> None:
    model = ScriptedModel(follows([3, 1, 2], prompt_length=1, vocab_size=5), vocab_size=5)
    model.prefill(Prompt((0,)))
    assert model.extend([4, 4]).argmax(dim=-1).tolist() == [1, 2]


def test_it_counts_forwards_and_ingested_tokens_and_shows_its_cache() -> None:
    model = ScriptedModel(follows([1], prompt_length=2, vocab_size=3), vocab_size=3)
    model.prefill(Prompt((0, 2)))
    model.extend([1, 1, 0])
    model.rollback(3)
    model.extend([2])
    assert (model.forwards, model.ingested) == (3, 4)
    assert model.sequence == (0, 2, 1, 2)


def test_hashed_logits_depend_on_seed_and_whole_sequence_and_on_nothing_else() -> None:
    one, same = (hashed(7, vocab_size=20, end_id=0) for _ in range(2))
    other = hashed(8, vocab_size=20, end_id=0)
    assert one([1, 2, 3]) == same([1, 2, 3])
    assert one([1, 2, 3]) != one([2, 2, 3])
    assert one([1, 2, 3]) != other([1, 2, 3])


def test_hashed_scripts_disagree_about_once_in_every() -> None:
    base = hashed(1, vocab_size=20, end_id=0)
    other = hashed(2, vocab_size=20, end_id=0, disagree_with=base, every=4)
    agreed = [other([n, n + 1]) == base([n, n + 1]) for n in range(200)]
    assert 120 < sum(agreed) < 180


@pytest.mark.parametrize("tokens", [[], [1]], ids=["nothing", "before-prefill"])
def test_extend_needs_tokens_and_a_prompt(tokens: list[int]) -> None:
    model = ScriptedModel(follows([1], prompt_length=1, vocab_size=3), vocab_size=3)
    with pytest.raises(ValueError, match=r"extend needs|prefill comes first"):
        model.extend(tokens)


def test_logits_are_float32() -> None:
    model = ScriptedModel(follows([1], prompt_length=1, vocab_size=3), vocab_size=3)
    assert model.prefill(Prompt((0,))).dtype == torch.float32
