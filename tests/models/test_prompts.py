"""Prompt texts."""

from __future__ import annotations

import pytest

from edgecloud.models.prompts import LANGUAGES, PROMPT_TYPES, instruction, prompt_messages


def test_every_language_and_type_has_a_prompt_of_its_own() -> None:
    texts = {instruction(language, kind) for language in LANGUAGES for kind in PROMPT_TYPES}
    assert len(texts) == len(LANGUAGES) * len(PROMPT_TYPES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_transcription_is_part_of_the_prompt_only_when_given(language: str) -> None:
    with_words = instruction(language, "default", transcription="a {b} c")  # type: ignore[arg-type]
    assert "a {b} c" in with_words
    alone = instruction(language, "default")  # type: ignore[arg-type]
    assert with_words.endswith(alone)
    assert instruction(language, "default", transcription="") == alone  # type: ignore[arg-type]


def test_messages_are_system_then_audio_then_text() -> None:
    system, user = prompt_messages("english", "concise", "hello")
    assert system["role"] == "system"
    assert [part["type"] for part in user["content"]] == ["audio", "text"]
    assert "hello" in user["content"][1]["text"]


def test_all_requests_about_one_recording_share_their_beginning() -> None:
    systems = [
        prompt_messages(language, kind)[0] for language in LANGUAGES for kind in PROMPT_TYPES
    ]
    assert all(system == systems[0] for system in systems)


def test_unknown_prompt_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match="prompt types: concise, default, detailed"):
        instruction("english", "short")  # type: ignore[arg-type]
