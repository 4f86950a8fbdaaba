"""Prompt texts: language × prompt type, with or without the transcription.

The same messages go to the miniature pair, to Qwen2.5-Omni and to Qwen2-Audio: a short system prompt, then one user
turn that holds the audio first and the instruction after it. The system prompt and the audio come
before anything that depends on the language or the prompt type, so that all requests about one
recording share their beginning.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, get_args

Language = Literal["chinese", "english"]
PromptType = Literal["concise", "default", "detailed"]

LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)
PROMPT_TYPES: Final[tuple[PromptType, ...]] = get_args(PromptType)

SYSTEM_PROMPT: Final = "You listen to speech and describe the voice and its emotion."

_INSTRUCTIONS: Final[Mapping[tuple[Language, PromptType], str]] = MappingProxyType(
    {
        ("chinese", "concise"): "请用一个短语概括说话人的声音和情绪。只输出短语。",
        (
            "chinese",
            "default",
        ): "请用一句话描述说话人的性别、语速、音量、音调和情绪。只输出这句话。",
        (
            "chinese",
            "detailed",
        ): "请用两到三句话详细描述说话人的性别、音调、语速、音量和情绪。只输出描述。",
        (
            "english",
            "concise",
        ): "Summarise the speaker's voice and emotion in one short phrase. Write only the phrase.",
        (
            "english",
            "default",
        ): "Describe the speaker's gender, speaking rate, loudness, pitch and emotion in one sentence. "
        "Write only the sentence.",
        (
            "english",
            "detailed",
        ): "Describe the speaker's gender, pitch, speaking rate, loudness and emotion in detail, "
        "in two or three sentences. Write only the description.",
    }
)
_TRANSCRIPTION_NOTES: Final[Mapping[Language, str]] = MappingProxyType(
    {
        "chinese": "说话内容是：“{transcription}”。",
        "english": 'The speaker says: "{transcription}".',
    }
)


def instruction(
    language: Language, prompt_type: PromptType, *, transcription: str | None = None
) -> str:
    """The text of the user turn, without the audio.

    Args:
        language: the language of the caption asked for, whatever language the recording is in.
        prompt_type: how much to say: a phrase, a sentence, or two or three sentences.
        transcription: the words of the recording for the input modality ``audio_text``; ``None``
            or an empty text leaves the audio alone (``audio_only``).

    Raises:
        ValueError: the language or the prompt type is not one of those listed here.
    """
    try:
        text = _INSTRUCTIONS[language, prompt_type]
    except KeyError:
        raise ValueError(
            f"no prompt for language {language!r} and prompt type {prompt_type!r}; "
            f"languages: {', '.join(LANGUAGES)}; prompt types: {', '.join(PROMPT_TYPES)}"
        ) from None
    if not transcription:
        return text
    separator = "" if language == "chinese" else " "
    note = _TRANSCRIPTION_NOTES[language].replace("{transcription}", transcription)
    return note + separator + text


def prompt_messages(
    language: Language, prompt_type: PromptType, transcription: str | None = None
) -> list[dict[str, Any]]:
    """The request as chat messages for the family's chat template.

    The user turn holds one audio entry (the template writes the audio start, placeholder and end
    tokens for it; some look for the type, some for the key) and then the instruction. Arguments and
    errors are those of `instruction`.
    """
    text = instruction(language, prompt_type, transcription=transcription)
    return [
        {"role": "system", "content": [{"type": "text", "text": SYSTEM_PROMPT}]},
        {
            "role": "user",
            "content": [{"type": "audio", "audio": ""}, {"type": "text", "text": text}],
        },
    ]


def text_messages(text: str) -> list[dict[str, Any]]:
    """A request of text alone as chat messages: one turn of the user; the system prompt is the
    template's."""
    return [{"role": "user", "content": text}]
