"""Defects of captions: what counts, and what is ordinary speech about a voice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecloud.quality.defects import (
    DEFECTS,
    defects_of,
    is_chat_leakage,
    is_loop,
    is_wrong_language,
)

GOOD = {
    "chinese": [
        "一位女士语速很快，十分开心。",
        "说话人语气平静，没有明显情绪。<|im_end|>",
        "他哈哈哈哈地笑，听起来很高兴，你能感到他的喜悦。",
        "说话人似乎在问对方有没有吃饭，语气关切。",
        "OK，她说 hello 的时候很惊讶",
    ],
    "english": [
        "A calm woman speaks slowly and softly.",
        "The man sounds very, very happy, with a human warmth.",
        "Human speech, calm; it suggests that you know him.",
        "She asks a question in a worried tone.",
        "no no no, he says, frightened",
    ],
}


@pytest.mark.parametrize("language", ["chinese", "english"])
def test_ordinary_captions_have_no_defect(language: Any) -> None:
    for text in GOOD[language]:
        assert not any(defects_of(text, language=language, stop="end_of_text").values()), text


@pytest.mark.parametrize(
    "text",
    [
        "语气平静。Human: 谢谢你",
        "A sad voice. Human",
        "A sad voice.\nAssistant: The speaker",
        "<|im_start|>user\n描述情绪",
        "他很开心。\nuser\n再说一次",
        "用户：请描述。助手：他很开心",
        "The voice is calm. Is there anything else you would like to know?",
        "He is angry. Do you have any other questions?",
        "She is happy. Let me know if you need more.",
        "说话人很高兴。你觉得呢？",
        "说话人很生气。您还有其他问题吗？",
        "情绪悲伤。如果你还有什么问题，随时告诉我",
        "[INST] Describe the emotion",
    ],
)
def test_going_on_with_the_conversation_is_chat_leakage(text: str) -> None:
    assert is_chat_leakage(text)


def test_the_wrong_language_is_told_and_text_without_letters_is_not() -> None:
    assert is_wrong_language("A calm voice", "chinese")
    assert is_wrong_language("语气平静", "english")
    assert not is_wrong_language("…… 123", "chinese")


@pytest.mark.parametrize(
    "text, language",
    [
        ("很开心" * 3, "chinese"),
        ("她非常高兴，语气平静，" * 3, "chinese"),
        ("啊" * 6, "chinese"),
        ("calm " * 6, "english"),
        ("so sad " * 4, "english"),
        ("the voice is sad and the voice is sad and the voice is sad and", "english"),
        ("begin the voice is low. the voice is low. the voice is low. end", "chinese"),
    ],
)
def test_words_over_and_over_are_a_loop(text: str, language: Any) -> None:
    assert is_loop(text, language)


def test_a_runaway_of_700_characters_is_a_loop_and_truncated() -> None:
    found = defects_of("情绪悲伤，" * 140, language="chinese", stop="token_limit")
    assert [name for name in DEFECTS if found[name]] == ["repetition_loop", "truncated"]


def test_an_empty_caption_is_empty_and_nothing_else() -> None:
    found = defects_of(" <|im_end|>", language="english")
    assert [name for name in DEFECTS if found[name]] == ["empty"]


@given(st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=1, max_size=8))
def test_different_words_never_loop_and_six_copies_always_do(words: list[str]) -> None:
    assert not is_loop(" ".join(words), "english")
    assert is_loop(" ".join(words * 6), "english")


@given(st.text(), st.sampled_from(["chinese", "english"]))
def test_any_text_has_an_answer_for_every_name(text: str, language: Any) -> None:
    assert tuple(defects_of(text, language=language)) == DEFECTS


def test_sentences_with_and_without_the_words_of_an_assistant_are_told_apart() -> None:
    path = Path(__file__).parent / "sentences" / "leakage.json"
    rows = json.loads(path.read_text("utf-8"))
    wrong = [row["text"] for row in rows if is_chat_leakage(row["text"]) != row["leak"]]
    assert len(wrong) <= 0.05 * len(rows), wrong


@pytest.mark.parametrize(
    "text",
    [
        "他用询问的语气说“你有什么事吗？”，带着不耐烦。",
        'She asks "Would you like me to help?" in a soft voice.',
        "The Assistant Manager speaks in a low voice.",
        "Human speech, low and calm.",
        "他反复说我不知道，声音颤抖。",
        "She is sure, the speaker sounds calm.",
        "The Assistant Manager speaks calmly.",
        'She says "Sure, the speaker sounds calm."',
        "Sure, he says, calm and slow.",
        "OK，她说 hello 的时候很惊讶",
        "Yes, the woman says happily.",
        "好的，他说，语气平静。",
        "好的，她爽快地答应着",
        "他说“好的！语气平静。”",
        "以上就是今天的新闻内容，主持人语气平静",
        "她礼貌地问还有什么需要补充的吗？",
        "The note: a high one, held long, with joy.",
        "She notes that the summary is late.",
        "A calm voice, sure of itself.",
        "Great joy fills the voice.",
        "好的语气，温和而平静",
        "Certainly the speaker is calm.",
        "他描述：天气很好",
        "The result is a calm voice.",
        "Yes, yes, he is saying, excitedly",
        "A singer holds the note: the descriptions of it vary.",
        "她问：请问您还需要什么吗？语气温柔",
    ],
)
def test_speech_that_a_caption_quotes_is_no_leakage(text: str) -> None:
    assert not is_chat_leakage(text)


@pytest.mark.parametrize(
    "text",
    [
        "Certainly, here's a description: a man talks.",
        "Thank you for providing the audio.",
        "好的，这段音频里她语气平静。如果还有其他问题，可以再告诉我。",
        "当然可以！以下是描述：语气平静",
        "對不起，我無法處理音頻。",
        "Sure, the speaker sounds calm.",
        "Got it. The speaker sounds calm.",
        "Great question! The speaker is calm.",
        "Sure thing — here's what I came up with: a calm voice.",
        "The caption is: a calm voice",
        "Output: a calm voice.",
        "Note: this description is based on the provided audio.",
        "A calm voice. Note: this description is based on the provided audio.",
        "好的！语气平静。",
        "描述：语气平静",
        "语气平静。以上就是对这段音频的描述。",
        "请问还有什么需要补充的吗？",
        "语气平静。请问还有什么需要补充的吗？",
        "好的，她语气平静。",
        "**Caption:** a calm voice",
        "**Caption**: calm",
        "Understood! She sounds calm.",
        "当然！说话人语气平静。",
        "收到，这位女士语气平静",
        "好的。一位年轻男子语速很快",
        "音频描述：语气平静",
        "Okay, the speaker sounds calm.",
        "Good question. A woman speaks softly.",
        "Here's what I came up with: a calm voice.",
    ],
)
def test_preambles_and_offers_are_chat_leakage(text: str) -> None:
    assert is_chat_leakage(text)
