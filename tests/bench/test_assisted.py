"""The comparison with transformers' generate, on a tiny model: the same tokens, and honest counting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.assisted import Family, Ours, check_comparable, interleaved
from bench.outside import outside
from edgecloud.contracts import Prompt, StopLimits
from edgecloud.errors import ConfigError
from edgecloud.models.audio_lm import AudioLM
from edgecloud.models.loading import load
from edgecloud.models.processor import Processor
from tests.models.miniatures import FAST

TOKENS = 12


@pytest.fixture(scope="module")
def family(tiny_checkpoint: Path, tiny_processor: Processor) -> Family:
    ends = tiny_processor.stopping(StopLimits()).end_ids
    folder = str(tiny_checkpoint)
    return Family(folder, folder, max_new_tokens=TOKENS, end_ids=ends)


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


@pytest.mark.parametrize("fixture", FAST.values())
def test_every_family_of_the_fast_path_is_compared(
    fixture: str, tone: NDArray[np.float32], request: pytest.FixtureRequest
) -> None:
    folder = str(request.getfixturevalue(fixture))
    loaded = load("m", folder, device="cpu", dtype="float32")
    own = loaded.processor
    check_comparable(folder, folder, of_text=not own.accepts_audio)
    prompt = own.text_prompt("the voice.")
    if own.accepts_audio:
        prompt = own.prompt(own.features(tone), language="english", prompt_type="concise")
    stopping = own.stopping(StopLimits(TOKENS))
    ours = Ours(loaded.model, loaded.model.new_sequence(), stopping)
    theirs = Family(folder, folder, max_new_tokens=TOKENS, end_ids=stopping.end_ids)
    ways = (ours.edge, ours.cloud, ours.speculative(3), theirs.edge, theirs.assisted(2))
    expected = theirs.cloud(prompt)
    assert [way(prompt) for way in ways] == [expected] * len(ways)
    assert len(expected) > 3


@pytest.mark.parametrize(
    ("pair", "of_text", "said"),
    [
        (("gemma_folder", "gemma_folder"), True, "the general adapter"),
        (("llama_folder", "llama_folder"), False, "give --dataset-type text"),
        (("audio_folder", "omni_folder"), False, "vocabularies of their own"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_it_is_loaded(
    pair: tuple[str, str], of_text: bool, said: str, request: pytest.FixtureRequest
) -> None:
    edge, cloud = (str(request.getfixturevalue(name)) for name in pair)
    with pytest.raises(ConfigError, match=said):
        check_comparable(edge, cloud, of_text=of_text)


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
