"""Sentences, clips and speech."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from edgecloud.embedded.factory import grammar
from edgecloud.embedded.factory.corpus import draw_clips, make_corpus, shard_audio, speak
from edgecloud.embedded.factory.sentences import Split, draw_sentence, split_of
from edgecloud.models.prompts import LANGUAGES

pytest.importorskip("espeakng_loader")


@pytest.mark.parametrize("split", get_args(Split))
def test_sentences_belong_to_their_split(split: Split) -> None:
    rng = random.Random(5)
    for language in LANGUAGES:
        assert {split_of(draw_sentence(language, split, rng)) for _ in range(40)} == {split}


def test_clips_are_balanced_and_repeatable() -> None:
    clips = draw_clips("test", 64, seed=1)
    assert clips == draw_clips("test", 64, seed=1)
    assert set(Counter(clip.attributes.emotion for clip in clips).values()) == {8}
    assert set(Counter(clip.speech for clip in clips).values()) == {32}
    assert set(Counter(clip.attributes.voice for clip in clips).values()) == {32}


def test_unseen_voices_are_in_no_other_split() -> None:
    known = {clip.speaker for clip in draw_clips("train", 400, seed=1)}
    unseen = {clip.speaker for clip in draw_clips("unseen", 400, seed=1)}
    assert known.isdisjoint(unseen)


def test_loudness_and_rate_are_audible() -> None:
    clips = draw_clips("dev", 32, seed=1)
    levels: dict[str, list[float]] = {name: [] for name in grammar.LOUDNESSES}
    lengths: dict[str, list[float]] = {name: [] for name in grammar.RATES}
    for clip in clips:
        waveform = speak(clip).astype(np.float64)
        assert 16_000 <= len(waveform) <= 8 * 16_000
        levels[clip.attributes.loudness].append(float(np.sqrt(np.mean(waveform**2))))
        lengths[clip.attributes.rate].append(len(waveform))
    means = [float(np.mean(levels[name])) for name in grammar.LOUDNESSES]
    assert means[0] < means[1] < means[2]
    durations = [float(np.mean(lengths[name])) for name in grammar.RATES]
    assert durations[0] > durations[1] > durations[2]


@pytest.mark.system
def test_fresh_processes_say_the_same(tmp_path: Path, feature_settings: Path) -> None:
    count = 18
    breathy = {"f2", "f3", "f5", "Alicia"}
    assert breathy & {clip.speaker for clip in draw_clips("dev", count, seed=1)}
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        make_corpus("dev", count, seed=1, folder=folder, checkpoint=feature_settings, workers=1)
    one, two = (shard_audio(folder, "dev", count, 1) for folder in folders)
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.system
def test_a_corpus_is_found_again(tmp_path: Path, feature_settings: Path) -> None:
    def make() -> tuple[np.ndarray, int]:
        corpus = make_corpus(
            "dev", 3, seed=1, folder=tmp_path, checkpoint=feature_settings, workers=1
        )
        return np.asarray(corpus.features(2)), corpus.length(2)

    features, length = make()
    assert features.shape == (length, 128)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again, _ = make()
    assert np.array_equal(features, again)
    assert stamps == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    waveforms = shard_audio(tmp_path, "dev", 3, 1)
    assert len(waveforms) == 3
    assert len(waveforms[2]) // 160 == length
