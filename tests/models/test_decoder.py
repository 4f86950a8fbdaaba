"""The text model's forward on caches of our own: alone, together, and beyond what was set aside."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecloud.contracts import Prompt
from edgecloud.errors import ModelError
from edgecloud.models import decoder
from edgecloud.models.audio_lm import AudioLM, extend_many
from edgecloud.models.decoder import Decoder, KVCache

TOLERANCE = 1e-4
TOKENS = st.lists(st.integers(0, 270), min_size=1, max_size=5)


@pytest.fixture
def model(tiny_model: AudioLM) -> AudioLM:
    return tiny_model


@settings(max_examples=25, deadline=None)
@given(sequences=st.lists(st.tuples(TOKENS, TOKENS, TOKENS), min_size=1, max_size=5))
def test_sequences_that_share_a_forward_get_what_they_get_alone(
    tiny_model: AudioLM, sequences: list[tuple[list[int], list[int], list[int]]]
) -> None:
    alone = [tiny_model.new_sequence() for _ in sequences]
    together = [tiny_model.new_sequence() for _ in sequences]
    for one, other, (prompt, _, _) in zip(alone, together, sequences, strict=True):
        one.prefill(Prompt(tuple(prompt)))
        other.prefill(Prompt(tuple(prompt)))
    for turn in (1, 2):
        tokens = [sequence[turn] for sequence in sequences]
        found = extend_many(together, tokens)
        for one, new, logits in zip(alone, tokens, found, strict=True):
            torch.testing.assert_close(logits, one.extend(new), rtol=TOLERANCE, atol=TOLERANCE)
    assert [one.length for one in alone] == [other.length for other in together]


def test_an_answer_longer_than_what_was_set_aside_goes_on(model: AudioLM) -> None:
    long, whole = model.new_sequence(), model.new_sequence()
    tokens = [(7 * number) % 270 for number in range(700)]
    long.prefill(Prompt((1, 2, 3)))
    rows = torch.cat([long.extend([token]) for token in tokens])
    whole.prefill(Prompt((1, 2, 3)))
    torch.testing.assert_close(rows, whole.extend(tokens), rtol=TOLERANCE, atol=1e-3)


@pytest.mark.parametrize("most", [1, 500, 4096])
@pytest.mark.parametrize(("past", "count"), [(0, 97), (40, 97), (200, 3), (1, 2)])
def test_attention_in_blocks_is_attention_at_once(
    model: AudioLM, past: int, count: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = [(7 * number) % 270 for number in range(1, past + count + 1)]
    at_once, in_blocks = model.new_sequence(), model.new_sequence()
    for one, scores in ((at_once, 1 << 24), (in_blocks, most)):
        monkeypatch.setattr("edgecloud.models.decoder._MOST_SCORES", scores)
        one.prefill(Prompt(tuple(tokens[: past or count])))
    rows = at_once.extend(tokens[-count:])
    torch.testing.assert_close(in_blocks.extend(tokens[-count:]), rows, rtol=TOLERANCE, atol=1e-3)


@pytest.mark.parametrize(("past", "count"), [(0, 200_000), (5, 200_000), (60_000, 1024)])
def test_what_many_new_tokens_may_look_at_takes_little_memory(past: int, count: int) -> None:
    mask = decoder._mask(past, count, torch.empty(0))
    assert mask is not None
    assert mask.numel() <= 1 << 24
    # The last token sees everything, the one before it all but that.
    assert mask[-1].eq(0).all()
    assert mask[-2].eq(0).sum() == past + count - 1


def test_two_threads_may_reach_further_than_before_at_once(model: AudioLM) -> None:
    """Each has the rotations that it asked for, whichever is kept."""
    text = Decoder(model._thinker.model)
    rotary = text._rotary

    def overtaken(like: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = rotary(like, positions)
        if positions.shape[1] > 100:
            text._rotary_cache = like.new_empty((2, 10, text._head_dim))
        return (found[0], found[1])

    text._rotary = overtaken  # type: ignore[assignment]
    cosines, _ = text._cos_sin([(KVCache(), 300)])
    assert cosines.shape[0] == 300


def test_a_refused_sequence_changes_none_of_those_beside_it(model: AudioLM) -> None:
    one, other = model.new_sequence(), model.new_sequence()
    one.prefill(Prompt((1, 2)))
    other.prefill(Prompt((3,)))
    with pytest.raises(ModelError, match="outside the vocabulary"):
        extend_many([one, other], [[4], [10_000]])
    with pytest.raises(ValueError, match="at least one token"):
        extend_many([one, other], [[4], []])
    assert (one.length, other.length) == (2, 1)


def test_weights_are_in_memory_once(model: AudioLM) -> None:
    attention = model._thinker.model.layers[0].self_attn
    query, key = attention.q_proj.weight, attention.k_proj.weight
    assert query.untyped_storage().data_ptr() == key.untyped_storage().data_ptr()


@pytest.mark.parametrize("prompt", [1, 300, 2600])
@pytest.mark.parametrize("steps", [[1], [255, 1, 1], [257], [900], [100] * 9])
def test_what_a_cache_takes_is_known_before_it_grows(
    model: AudioLM, prompt: int, steps: list[int]
) -> None:
    grown = model.new_sequence()
    assert grown.cache_bytes == 0
    told = grown.cache_bytes_for(prompt, prompt)
    grown.prefill(Prompt((7,) * prompt))
    assert grown.cache_bytes == told
    most = model.new_sequence().cache_bytes_for(prompt, prompt + sum(steps))
    for step in steps:
        told = grown.cache_bytes_for(prompt, grown.length + step)
        grown.extend([7] * step)
        assert grown.cache_bytes <= told <= most
    # It is no guess on the safe side: where nothing grows it is what there is.
    assert grown.cache_bytes_for(prompt, grown.length) == grown.cache_bytes


def test_appending_copies_nothing_that_was_there() -> None:
    cache = KVCache()
    with pytest.raises(ValueError, match="reserve comes before"):
        cache.append(0, torch.zeros(2, 1, 1, 4))
    cache.reserve(3, like=torch.zeros(1), shape=(1, 1, 4))
    first = cache.append(0, torch.ones(2, 1, 3, 4))
    cache.length = 3
    cache.reserve(1, like=torch.zeros(1), shape=(1, 1, 4))
    second = cache.append(0, torch.zeros(2, 1, 1, 4))
    assert second.shape == (2, 1, 4, 4)
    assert second.data_ptr() == first.data_ptr()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"hidden_act": "gelu"}, "activation gelu"),
        ({"rope_parameters": {"rope_type": "dynamic"}}, "of the kind 'dynamic'"),
        (
            {"rope_parameters": {"rope_type": "yarn", "partial_rotary_factor": 0.5}},
            "of the kind 'yarn'",
        ),
    ],
)
def test_layers_that_are_not_known_are_refused(
    model: AudioLM, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], said: str
) -> None:
    text = model._thinker.model
    for name, value in settings.items():
        monkeypatch.setattr(text.config, name, value)
    with pytest.raises(ModelError, match=said):
        Decoder(text)
