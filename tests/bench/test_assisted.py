"""The comparison with transformers' generate, on a tiny model: the same tokens, and honest counting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.assisted import Family, Ours, interleaved
from bench.outside import outside
from edgecloud.contracts import Prompt, StopLimits
from edgecloud.models.audio_lm import AudioLM
from edgecloud.models.processor import Processor

TOKENS = 12


@pytest.fixture(scope="module")
def family(tiny_checkpoint: Path) -> Family:
    return Family(str(tiny_checkpoint), str(tiny_checkpoint), max_new_tokens=TOKENS)


@pytest.fixture
def prompt(tiny_processor: Processor, tone: NDArray[np.float32]) -> Prompt:
    return tiny_processor.prompt(
        tiny_processor.features(tone), language="english", prompt_type="concise"
    )


def test_every_way_writes_what_generate_writes(
    family: Family, tiny_model: AudioLM, tiny_processor: Processor, prompt: Prompt
) -> None:
    ours = Ours(tiny_model, tiny_model, tiny_processor.stopping(StopLimits(TOKENS)))
    ways = {
        "edge": ours.edge,
        "cloud": ours.cloud,
        "speculative": ours.speculative(3),
        "messages": ours.speculative(3, messages=True),
        "default": family.assisted(),
        "constant": family.assisted(2),
    }
    times, outputs = interleaved(ways, [prompt, prompt])
    expected = family.cloud(prompt)
    assert outputs == {name: [expected, expected] for name in ways}
    assert all(len(values) == 2 and min(values) > 0 for values in times.values())


def test_texts_part_at_a_tie_only_where_two_tokens_are_equally_good(
    family: Family, prompt: Prompt
) -> None:
    text = family.cloud(prompt)
    other = [*text[:3], (text[3] + 1) % 200, *text[4:]]
    assert not family.tied(prompt, text, other, side="cloud")
    assert not family.tied(prompt, text, text[:-1], side="cloud")


@pytest.mark.alone
def test_time_outside_forwards_is_part_of_the_request(
    tiny_model: AudioLM, tiny_processor: Processor, prompt: Prompt
) -> None:
    stopping = tiny_processor.stopping(StopLimits(TOKENS))
    found = outside(tiny_model, tiny_model, stopping, [prompt, prompt], k=3)
    assert set(found) == {"edge", "cloud", "speculative", "speculative, messages"}
    for way in found.values():
        assert 0 < way.share < 1
        assert way.per_token_us > 0
    # Edge and verifier are the same model: four tokens a call, where each forward gives one otherwise.
    speculative = found["speculative"]
    assert speculative.per_call_us > 2 * speculative.per_token_us
    assert found["edge"].per_call_us == pytest.approx(found["edge"].per_token_us)
