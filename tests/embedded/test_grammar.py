"""The caption grammar."""

from __future__ import annotations

import random
import re

import pytest

from edgecloud.embedded.factory import grammar
from edgecloud.embedded.factory.grammar import Attributes, Emotion
from edgecloud.models.prompts import LANGUAGES, PROMPT_TYPES, Language

CASES = [(language, emotion) for language in LANGUAGES for emotion in grammar.EMOTIONS]


def attributes(emotion: Emotion, rng: random.Random) -> Attributes:
    return Attributes(
        voice=rng.choice(grammar.VOICES),
        pitch=rng.choice(grammar.PITCHES),
        rate=rng.choice(grammar.RATES),
        loudness=rng.choice(grammar.LOUDNESSES),
        emotion=emotion,
    )


@pytest.mark.parametrize(("language", "emotion"), CASES)
def test_the_emotion_can_be_read_off_every_caption(language: Language, emotion: Emotion) -> None:
    rng = random.Random(7)
    for prompt_type in PROMPT_TYPES:
        for _ in range(30):
            text = grammar.caption(attributes(emotion, rng), language, prompt_type, rng)
            assert grammar.emotion_of(text, language) == emotion, text


def test_a_text_without_an_emotion_word_has_none() -> None:
    assert grammar.emotion_of("a man speaks", "english") is None
    assert grammar.emotion_of("一位男士在说话", "chinese") is None


def test_the_emotion_named_first_counts() -> None:
    assert grammar.emotion_of("not sad but happy", "english") == "sad"


def test_words_inside_other_words_do_not_count() -> None:
    assert grammar.emotion_of("an unhappy madman", "english") is None


def test_references_are_three_and_repeatable() -> None:
    truth = Attributes("male", "low", "slow", "soft", "sad")
    drawn = grammar.references(truth, "english", "clip")
    assert len(drawn) == 3
    assert drawn == grammar.references(truth, "english", "clip")
    assert drawn != grammar.references(truth, "english", "another clip")


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_types_differ_in_sentences(language: Language) -> None:
    rng = random.Random(3)
    ends = []
    for prompt_type in PROMPT_TYPES:
        text = grammar.caption(attributes("happy", rng), language, prompt_type, rng)
        ends.append(len(re.findall(r"[.。]", text)))
    assert ends == [0, 1, 3]
