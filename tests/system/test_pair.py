"""The embedded pair, the embedded corpus, the real loops."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
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
)
from edgecloud.datasets.audio import load_audio
from edgecloud.datasets.manifest import embedded_manifest, load_manifest
from edgecloud.decoding.autoregressive import cloud_only, edge_only
from edgecloud.decoding.local_edge import LocalEdge
from edgecloud.decoding.recorder import Recorder
from edgecloud.decoding.speculative import Speculation, speculative
from edgecloud.decoding.stopping import Stopping
from edgecloud.embedded.pair import CLOUD_CHECKPOINT, EDGE_CHECKPOINT, OTHER_CHECKPOINT
from edgecloud.hardware.clock import WallClock
from edgecloud.models.loading import Loaded, load
from edgecloud.models.translation import TranslatedModel, translation_of
from edgecloud.quality.language import detect_language

LANGUAGES: tuple[Language, ...] = get_args(Language)
FULL = os.environ.get("EDGECLOUD_FAMILIES") == "full"
KEPT = 0.3
"""Least share of the output that a trained edge of another family drafted; one of random weights has under 0.02."""
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


def tokens(commits: Iterable[Commit]) -> list[int]:
    return [token for commit in commits for token in commit.tokens]


def speculated(request: Prompt, pair: Pair, edge: Model) -> Iterator[Commit]:
    return speculative(
        request,
        edge=LocalEdge(edge),
        cloud=pair.verifier,
        settings=Speculation(k=4, gate="always", acceptance=Acceptance("exact")),
        stopping=pair.stopping,
        recorder=Recorder(WallClock()),
    )


def exact(request: Prompt, pair: Pair) -> list[int]:
    return tokens(speculated(request, pair, pair.edge.model))


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
    pair: Pair, language: Language
) -> None:
    """Every sixteenth recording, ``tox -e families`` takes all; the edge is the embedded Qwen2-Audio, with a
    tokenizer, special tokens, a template and features of its own. What it drafts is mostly kept."""
    edge = load("other", str(OTHER_CHECKPOINT), device="cpu", dtype="auto")
    own, theirs = edge.processor.shared(), pair.cloud.processor.shared()
    assert {name for name in own if own[name] != theirs.get(name)} >= {
        "family",
        "vocabulary",
        "special ids",
        "chat template",
        "audio",
    }
    translation = translation_of(edge.processor, pair.cloud.processor)
    assert 600 < translation.shared < min(translation.edge_texts, translation.cloud_texts)
    drafting = TranslatedModel(edge.model, translation)
    different, origins = [], list[str]()
    assert len(corpus(language)) == 128
    for sample in corpus(language)[:: 1 if FULL else 16]:
        audio = load_audio(sample.audio_path, max_audio_s=30.0)
        features = edge.processor.features(audio)
        drafted = edge.processor.prompt(features, language=language, prompt_type="default")
        request = prompt(pair, sample, language, "default")
        assert [len(part.features) for part in (drafted, request)] == [80, 128]
        commits = list(speculated(replace(request, edge=drafted), pair, drafting))
        if tokens(iter(commits)) != alone(request, pair):
            different.append(sample.file_id)
        origins += [origin for commit in commits for origin in commit.origins]
    assert different == []
    share = origins.count("verified") / len(origins)
    assert share > KEPT, f"{share:.3f} of the tokens were drafted"


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
