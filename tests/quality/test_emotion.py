"""Which emotion a caption names."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from edgecloud.contracts import Language
from edgecloud.errors import MetricError
from edgecloud.quality.metrics.emotion import (
    LEXICON,
    emotion_scores,
    named_emotion,
    named_emotions,
    reference_emotion,
)

SENTENCES = Path(__file__).parent / "sentences"
LEAST = 0.95


@pytest.mark.parametrize("path", sorted(SENTENCES.glob("emotions_*.json")), ids=lambda p: p.stem)
def test_sentences_are_read_as_a_reader_reads_them(path: Path) -> None:
    language: Language = "chinese" if path.stem.startswith("emotions_zh_") else "english"
    rows = json.loads(path.read_text("utf-8"))
    wrong = [
        (row["text"], row["emotions"], found)
        for row in rows
        if (found := list(named_emotions(row["text"], language))) != row["emotions"]
    ]
    assert len(rows) >= 40
    assert len(wrong) <= (1 - LEAST) * len(rows), "\n".join(map(str, wrong))


@pytest.mark.parametrize(
    "text, emotion",
    [
        ("心里感到很是惊讶和惊喜", "surprised"),
        ("语气不开心", "sad"),
        ("并不是很高兴，有点疲惫", "tired"),
        ("他没有生气，语气平静", "neutral"),
        ("心生不满，厌恶。", "angry"),
        ("语速很快，声音洪亮", None),
        ("", None),
    ],
)
def test_chinese_emotions(text: str, emotion: str | None) -> None:
    assert named_emotion(text, "chinese") == emotion


@pytest.mark.parametrize(
    "text, emotion",
    [
        ("She sounds Happy.", "happy"),
        ("unhappy and quiet", "sad"),
        ("He isn't angry, just tired", "tired"),
        ("without fear, calm", "neutral"),
        ("She is madly fast", None),
    ],
)
def test_english_emotions(text: str, emotion: str | None) -> None:
    assert named_emotion(text, "english") == emotion


@pytest.mark.parametrize(
    "text, emotions",
    [
        ("不是因为生气，而是因为害怕", ["fearful"]),
        ("她不是因为悲伤才哭", []),
        ("他哭不是因为难过，而是因为高兴", ["happy"]),
        ("不是由于生气，而是由于害怕", ["fearful"]),
        ("她并不是因为生气才提高声音，而是因为激动", ["excited"]),
        ("他并非因为难过而哭泣，语气平静", ["neutral"]),
        ("他没说话是因为害怕", ["fearful"]),
        ("她不哭是因为高兴", ["happy"]),
        ("她没有哭，因为她很高兴", ["happy"]),
        ("他因为生气而大吼", ["angry"]),
        ("他生起气来", ["angry"]),
        ("他发起火来", ["angry"]),
        ("她伤起心来", ["sad"]),
        ("生了一肚子气", ["angry"]),
        ("他发了很大的火", ["angry"]),
        ("她伤透了心", ["sad"]),
        ("语气懊恼", ["angry"]),
        ("面露不悦", ["angry"]),
        ("他大失所望", ["sad"]),
        ("虽不高兴，倒也不难过", []),
        ("她不高兴，也不说话", ["sad"]),
        ("虽不高兴，但还是答应了", ["sad"]),
        ("她没有生起气来", []),
        ("他不生气，也不高兴", []),
        ("他没有发很大的火", []),
        ("她生不起气来", []),
    ],
)
def test_what_chinese_captions_deny_and_what_they_leave(text: str, emotions: list[str]) -> None:
    assert list(named_emotions(text, "chinese")) == emotions


@pytest.mark.parametrize(
    "text, emotions",
    [
        ("Instead of joy there is weariness in his voice", ["tired"]),
        ("Instead of being angry he sounds sad", ["sad"]),
        ("Rather than joy there is weariness", ["tired"]),
        ("Instead of joy, there is weariness", ["tired"]),
        ("He sounds sad rather than angry", ["sad"]),
        ("Without anger she speaks calmly", ["neutral"]),
        ("He speaks without the joy she is known for", []),
        ("Far from being angry her voice sounds gentle", ["gentle"]),
        ("Rather than saying she is happy I would call her sad", ["sad"]),
        ("Instead of joy there's only sadness", ["sad"]),
        ("Instead of happiness his voice carries sorrow", ["sad"]),
        ("The voice is anything other than calm", []),
        ("He used to be cheerful, but now he sounds sad", ["sad"]),
        ("She is too tired to be angry", ["tired"]),
        ("If he is nervous, it does not show", []),
        ("If he is angry, it is not at her", ["angry"]),
        ("If she is sad, she hides it", []),
        ("It would be wrong to describe her voice as fearful", []),
        ("It would not be wrong to describe her voice as fearful", ["fearful"]),
        ("He is nothing if not proud", ["proud"]),
        ("There is bitterness in her voice", ["angry"]),
        ("He shouts in a fit of temper", ["angry"]),
        ("She sounds relieved", ["happy"]),
        ("No fear, only curiosity", ["confused"]),
        ("Her voice trembles not because she is angry but because she is afraid", ["fearful"]),
        ("He cries not because he is sad but because he is happy", ["happy"]),
        ("She cries because she is sad", ["sad"]),
        ("He shouts, not out of anger but out of fear", ["fearful"]),
        ("He isn't angry because he is happy", ["happy"]),
        ("She is used to being calm", ["neutral"]),
        ("She is not crying because she is afraid", ["fearful"]),
        ("He is too excited to hide his joy", ["excited", "happy"]),
    ],
)
def test_what_english_captions_deny_and_what_they_leave(text: str, emotions: list[str]) -> None:
    assert list(named_emotions(text, "english")) == emotions


@pytest.mark.parametrize("language", ["chinese", "english"])
def test_each_word_names_its_own_emotion_and_no_other(language: Any) -> None:
    words = sorted((word, emotion) for emotion, some in LEXICON[language].items() for word in some)
    assert all(first[0] != second[0] for first, second in pairwise(words))
    for word, emotion in words:
        assert named_emotion(f" {word.rstrip('*')} ", language) == emotion


def test_references_vote_and_the_first_named_breaks_a_tie() -> None:
    assert reference_emotion(["很开心", "很生气", "很气愤"], "chinese") == "angry"
    assert reference_emotion(["很开心", "很生气"], "chinese") == "happy"
    assert reference_emotion(["语速很快"], "chinese") is None


def test_accuracy_is_over_samples_whose_references_name_an_emotion() -> None:
    result = emotion_scores(
        ["很高兴", "很生气", "语速快", "很高兴"],
        [["很开心"], ["很开心"], ["很开心"], ["语速快"]],
        language="chinese",
    )
    assert [row["emotion_accuracy"] for row in result.per_sample] == [1.0, 0.0, 0.0, None]
    assert result.corpus["emotion_accuracy"] == pytest.approx(1 / 3)
    assert "1 of 4 samples name no emotion" in result.notes["emotion_accuracy"]


def test_every_emotion_counts_in_recall_and_precision() -> None:
    result = emotion_scores(
        ["很高兴，又很累", "很生气", "语速快", "很高兴"],
        [["很开心", "很惊讶"], ["既愤怒又悲伤"], ["很开心"], ["语速快"]],
        language="chinese",
    )
    assert [row["emotion_recall"] for row in result.per_sample] == [0.5, 0.5, 0.0, None]
    assert [row["emotion_precision"] for row in result.per_sample] == [0.5, 1.0, 0.0, None]
    assert [row["emotion_accuracy"] for row in result.per_sample] == [1.0, 1.0, 0.0, None]
    assert result.corpus["emotion_recall"] == pytest.approx(1 / 3)
    assert "1 of 4" in result.notes["emotion_recall"]


def test_without_any_emotion_there_is_no_accuracy() -> None:
    result = emotion_scores(["很高兴"], [["语速快"]], language="chinese")
    assert set(result.corpus.values()) == {None}
    with pytest.raises(MetricError):
        emotion_scores(["很高兴"], [], language="chinese")


@pytest.mark.parametrize("language", ["chinese", "english"])
def test_captions_of_the_embedded_corpus_name_their_emotion(language: Any) -> None:
    grammar = pytest.importorskip("edgecloud.embedded.factory.grammar")
    for emotion, words in grammar.EMOTION_WORDS[language].items():
        for word in words:
            assert named_emotion(word, language) == emotion, word
    rng = random.Random(0)
    for emotion in grammar.EMOTIONS:
        for prompt_type in ("concise", "default", "detailed"):
            for _ in range(60):
                attributes = grammar.Attributes(
                    voice=rng.choice(grammar.VOICES),
                    pitch=rng.choice(grammar.PITCHES),
                    rate=rng.choice(grammar.RATES),
                    loudness=rng.choice(grammar.LOUDNESSES),
                    emotion=emotion,
                )
                caption = grammar.caption(attributes, language, prompt_type, rng)
                assert named_emotion(caption, language) == emotion, caption
