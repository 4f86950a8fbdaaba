"""The embedded pair, the embedded corpus, the real loops."""

from __future__ import annotations

import os
from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from edgecloud.cloud.engine.local import LocalCloud
from edgecloud.contracts import (
    Acceptance,
    Commit,
    Language,
    Model,
    Prompt,
    PromptType,
    Sample,
    StopLimits,
    StopReason,
)
from edgecloud.datasets.audio import load_audio
from edgecloud.datasets.manifest import embedded_manifest, load_manifest
from edgecloud.decoding.autoregressive import cloud_only, edge_only
from edgecloud.decoding.local_edge import LocalEdge
from edgecloud.decoding.recorder import Recorder
from edgecloud.decoding.speculative import Speculation, speculative
from edgecloud.decoding.stopping import Stopping
from edgecloud.embedded.pair import CLOUD_CHECKPOINT, EDGE_CHECKPOINT
from edgecloud.hardware.clock import WallClock
from edgecloud.models.loading import Loaded, load
from edgecloud.models.translation import TranslatedModel, Translation
from edgecloud.quality.language import detect_language
from tests.models.miniatures import audio_checkpoint

LANGUAGES: tuple[Language, ...] = get_args(Language)
PROMPT_TYPES: tuple[PromptType, ...] = get_args(PromptType)


@dataclass(frozen=True)
class Pair:
    edge: Loaded
    cloud: Loaded
    stopping: Stopping

    @property
    def verifier(self) -> LocalCloud:
        return LocalCloud(self.cloud.model, self.stopping)


@pytest.fixture(scope="module")
def pair() -> Pair:
    edge = load("edge", str(EDGE_CHECKPOINT), device="cpu", dtype="auto")
    cloud = load("cloud", str(CLOUD_CHECKPOINT), device="cpu", dtype="auto")
    return Pair(edge, cloud, edge.processor.stopping(StopLimits()))


@cache
def corpus(language: Language) -> tuple[Sample, ...]:
    return load_manifest(embedded_manifest(language), language=language, caption_type="original")


def prompt(pair: Pair, sample: Sample, language: Language, prompt_type: PromptType) -> Prompt:
    features = pair.edge.processor.features(load_audio(sample.audio_path, max_audio_s=30.0))
    return pair.edge.processor.prompt(features, language=language, prompt_type=prompt_type)


def tokens(commits: Generator[Commit, None, StopReason]) -> list[int]:
    return [token for commit in commits for token in commit.tokens]


def exact(request: Prompt, pair: Pair, edge: Model | None = None) -> list[int]:
    return tokens(
        speculative(
            request,
            edge=LocalEdge(edge or pair.edge.model),
            cloud=pair.verifier,
            settings=Speculation(k=4, gate="always", acceptance=Acceptance("exact")),
            stopping=pair.stopping,
            recorder=Recorder(WallClock()),
        )
    )


def alone(request: Prompt, pair: Pair) -> list[int]:
    return tokens(
        cloud_only(
            request,
            cloud=pair.verifier,
            stopping=pair.stopping,
            recorder=Recorder(WallClock()),
        )
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_exact_verification_of_everything_gives_the_clouds_own_tokens(
    pair: Pair, language: Language
) -> None:
    """Every other recording; ``tox -e gate`` holds all of them to texts that were compared so."""
    different = [
        sample.file_id
        for sample in corpus(language)[::2]
        if exact(request := prompt(pair, sample, language, "default"), pair) != alone(request, pair)
    ]
    assert different == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_edge_of_another_family_and_vocabulary_gives_the_clouds_own_tokens(
    pair: Pair, language: Language, tmp_path: Path
) -> None:
    """Every sixteenth recording, ``tox -e families`` takes all; the edge is a Qwen2-Audio with a tokenizer, a
    template and features of its own."""
    folder = audio_checkpoint(tmp_path, words="一位 她 女士 voice sounds happy, speaking 语气。")
    edge = load("other", str(folder), device="cpu", dtype="auto")
    ours, cloud = edge.processor.vocabulary(), pair.cloud.processor.vocabulary()
    translation = Translation.between(ours, cloud)
    assert 250 < translation.shared < translation.cloud_texts
    drafting = TranslatedModel(edge.model, translation)
    different = []
    assert len(corpus(language)) == 128
    for sample in corpus(language)[:: 1 if os.environ.get("EDGECLOUD_FAMILIES") == "full" else 16]:
        audio = load_audio(sample.audio_path, max_audio_s=30.0)
        own = edge.processor.prompt(
            edge.processor.features(audio), language=language, prompt_type="default"
        )
        request = prompt(pair, sample, language, "default")
        both = exact(replace(request, edge=own), pair, drafting)
        if both != alone(request, pair):
            different.append(sample.file_id)
    assert different == []


def test_a_drafter_that_is_the_target_is_never_corrected(pair: Pair) -> None:
    request = prompt(pair, corpus("english")[0], "english", "detailed")
    origins = [
        origin
        for commit in speculative(
            request,
            edge=LocalEdge(pair.cloud.model.new_sequence()),
            cloud=pair.verifier,
            settings=Speculation(k=4, gate="always", acceptance=Acceptance("exact")),
            stopping=pair.stopping,
            recorder=Recorder(WallClock()),
        )
        for origin in commit.origins
    ]
    assert "corrected" not in origins
    assert origins[:10] == [*["verified"] * 4, "bonus"] * 2


@pytest.mark.parametrize("side", ["edge", "cloud"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_prompt_types_are_answered_at_different_length_in_the_language_asked_for(
    pair: Pair, language: Language, side: str
) -> None:
    loaded: Loaded = getattr(pair, side)
    lengths = {}
    for prompt_type in PROMPT_TYPES:
        texts = [
            loaded.processor.text(
                tokens(
                    edge_only(
                        prompt(pair, sample, language, prompt_type),
                        edge=LocalEdge(loaded.model),
                        stopping=pair.stopping,
                        recorder=Recorder(WallClock()),
                    )
                )
            )
            for sample in corpus(language)[:6]
        ]
        assert {detect_language(text) for text in texts} == {language}
        lengths[prompt_type] = sum(map(len, texts))
    assert lengths["concise"] * 1.5 < lengths["default"] < lengths["detailed"] / 1.5


def test_a_sentence_limit_ends_a_detailed_caption_after_its_first_sentence(pair: Pair) -> None:
    request = prompt(pair, corpus("chinese")[0], "chinese", "detailed")
    limited = replace(pair, stopping=pair.edge.processor.stopping(StopLimits(max_sentences=1)))
    whole, first = alone(request, pair), alone(request, limited)
    assert whole[: len(first)] == first
    assert len(first) < len(whole)
    assert pair.edge.processor.text(first).endswith("。")
    assert exact(request, limited) == first


def test_sizes_are_within_the_stated_bounds(pair: Pair) -> None:
    weights = [folder / "model.safetensors" for folder in (EDGE_CHECKPOINT, CLOUD_CHECKPOINT)]
    assert sum(path.stat().st_size for path in weights) <= 16e6
    assert pair.edge.model.parameters <= 500_000
    assert pair.cloud.model.parameters >= 5 * pair.edge.model.parameters
    assert pair.edge.processor.fingerprint() == pair.cloud.processor.fingerprint()
