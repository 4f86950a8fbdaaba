"""The caption grammar: what is audible in a clip, said in two languages and three lengths.

Every slot of a template has several wordings that are equally good, so a model that has learned
the language perfectly is still unsure which one comes next: about ln(n) nats for n wordings.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, get_args

from edgecloud.models.prompts import Language, PromptType

Voice = Literal["male", "female"]
Pitch = Literal["low", "mid", "high"]
Rate = Literal["slow", "mid", "fast"]
Loudness = Literal["soft", "mid", "loud"]
Emotion = Literal["neutral", "happy", "angry", "sad", "fearful", "surprised", "disgusted", "gentle"]

VOICES: Final[tuple[Voice, ...]] = get_args(Voice)
PITCHES: Final[tuple[Pitch, ...]] = get_args(Pitch)
RATES: Final[tuple[Rate, ...]] = get_args(Rate)
LOUDNESSES: Final[tuple[Loudness, ...]] = get_args(Loudness)
EMOTIONS: Final[tuple[Emotion, ...]] = get_args(Emotion)


@dataclass(frozen=True, slots=True)
class Attributes:
    """Audible attributes of a clip; levels are relative to the voice, loudness is absolute."""

    voice: Voice
    pitch: Pitch
    rate: Rate
    loudness: Loudness
    emotion: Emotion


SAID: Final[Mapping[PromptType, tuple[str, ...]]] = MappingProxyType(
    {
        "concise": ("voice", "rate", "emotion"),
        "default": ("voice", "pitch", "rate", "loudness", "emotion"),
        "detailed": ("voice", "pitch", "rate", "loudness", "emotion"),
    }
)
"""The attributes that captions of a type say."""
EMOTION_WORDS: Final[Mapping[Language, Mapping[Emotion, tuple[str, ...]]]] = MappingProxyType(
    {
        "chinese": {
            "neutral": ("平静", "平淡", "镇定"),
            "happy": ("开心", "高兴", "愉快"),
            "angry": ("愤怒", "生气", "恼火"),
            "sad": ("悲伤", "难过", "沮丧"),
            "fearful": ("害怕", "恐惧", "惶恐"),
            "surprised": ("惊讶", "吃惊", "诧异"),
            "disgusted": ("厌恶", "嫌弃", "反感"),
            "gentle": ("温柔", "关切", "体贴"),
        },
        "english": {
            "neutral": ("calm", "neutral", "composed"),
            "happy": ("happy", "cheerful", "joyful"),
            "angry": ("angry", "furious", "irate"),
            "sad": ("sad", "sorrowful", "gloomy"),
            "fearful": ("afraid", "fearful", "scared"),
            "surprised": ("surprised", "astonished", "amazed"),
            "disgusted": ("disgusted", "repulsed", "disdainful"),
            "gentle": ("gentle", "tender", "caring"),
        },
    }
)
"""Words by emotion. No word occurs in two emotions or anywhere else in a caption."""

_Slots = Mapping[str, tuple[str, ...]]

_CHINESE_SLOTS: Final[_Slots] = {
    "opening": (
        "这段录音里，",
        "从音频来看，",
        "听起来，",
        "可以听到，",
        "在这段话中，",
        "录音显示，",
        "据声音判断，",
        "整段语音中，",
        "片段里，",
        "仔细听，",
        "这条语音里，",
        "总体上，",
    ),
    "voice male": ("一位男士", "一名男性", "男人"),
    "voice female": ("一位女士", "一名女性", "女人"),
    "rate slow": ("语速缓慢", "说得很慢", "节奏拖沓"),
    "rate mid": ("语速适中", "说得不快不慢", "节奏均匀"),
    "rate fast": ("语速很快", "说得飞快", "节奏急促"),
    "loudness soft": ("声音微弱", "音量很轻", "轻声细语"),
    "loudness mid": ("声音大小正常", "音量适中", "响度一般"),
    "loudness loud": ("声音洪亮", "音量很大", "高声大嗓"),
    "pitch low": ("音调低沉", "嗓音偏低", "声线压低"),
    "pitch mid": ("音调居中", "嗓音不高不低", "声线平稳"),
    "pitch high": ("音调高亢", "嗓音偏高", "声线尖细"),
    "shows": ("流露出", "透着", "表现出", "显出", "带着", "传达出"),
    "manner neutral": ("语气没有什么起伏",),
    "manner happy": ("像刚遇到喜事一样",),
    "manner angry": ("像要和人争吵起来",),
    "manner sad": ("仿佛快要落泪",),
    "manner fearful": ("好像正受到威胁",),
    "manner surprised": ("似乎完全出乎意料",),
    "manner disgusted": ("仿佛对此不屑一顾",),
    "manner gentle": ("像在安慰家人",),
    "concise male": ("男声", "男性", "男士"),
    "concise female": ("女声", "女性", "女士"),
    "speech": ("这段话", "全句", "整句话", "所说的话"),
    "clear": ("十分清晰", "清楚可辨", "吐字分明", "咬字清楚"),
    "delivery": ("说话时", "开口时", "表达时", "讲话过程中", "整个过程中"),
    "closing": (
        "这种情绪贯穿始终",
        "情绪从头到尾没有变化",
        "听众很容易察觉",
        "这一点非常明显",
        "感情表达得自然",
        "前后保持一致",
    ),
}
_ENGLISH_SLOTS: Final[_Slots] = {
    "opening": (
        "In this clip,",
        "Here,",
        "On the recording,",
        "Throughout,",
        "As heard,",
        "During the clip,",
        "We hear that",
        "It seems that",
        "From the audio,",
        "Clearly,",
        "Overall,",
        "Listening closely,",
    ),
    "voice male": ("a man", "one male speaker", "some guy"),
    "voice female": ("a woman", "one female speaker", "some lady"),
    "rate slow": ("speaks slowly", "talks without hurry", "drags the words"),
    "rate mid": ("speaks steadily", "talks at medium speed", "paces the words"),
    "rate fast": ("speaks quickly", "talks in a rush", "hurries the words"),
    "loudness soft": ("very quietly", "in a whisper", "with little volume"),
    "loudness mid": ("fairly audibly", "in normal loudness", "with medium volume"),
    "loudness loud": ("quite loudly", "in full force", "with great volume"),
    "pitch low": ("a low pitch", "the voice lowered", "deep tones"),
    "pitch mid": ("a middle pitch", "the voice level", "medium tones"),
    "pitch high": ("a high pitch", "the voice raised", "shrill tones"),
    "shows": ("sounding", "seeming", "apparently", "feeling", "appearing", "evidently"),
    "manner neutral": ("as if merely stating facts",),
    "manner happy": ("as if sharing good news",),
    "manner angry": ("as if about to shout",),
    "manner sad": ("as if holding back tears",),
    "manner fearful": ("as if facing some danger",),
    "manner surprised": ("as if caught off guard",),
    "manner disgusted": ("as if turning away from it",),
    "manner gentle": ("as if comforting a child",),
    "concise male": ("male voice", "man's voice", "man speaking"),
    "concise female": ("female voice", "woman's voice", "woman speaking"),
    "speech": ("The utterance", "The sentence", "The whole line", "The speech"),
    "clear": ("very clear", "easy to follow", "well articulated", "plain to hear"),
    "delivery": ("The delivery", "The speaking style", "The manner", "The mood", "The attitude"),
    "is": ("is", "seems", "sounds", "feels"),
    "closing": (
        "and this mood never changes.",
        "and the feeling stays throughout.",
        "which is easy to notice.",
        "as any listener would tell.",
        "and it is expressed naturally.",
        "from the start to the end.",
    ),
}

_TEMPLATES: Final[Mapping[tuple[Language, PromptType], str]] = {
    ("chinese", "concise"): "{concise}，{rate}，{emotion}",
    (
        "chinese",
        "default",
    ): "{opening}{voice}{rate}，{loudness}，{pitch}，{shows}{emotion}的情绪，{manner}。",
    (
        "chinese",
        "detailed",
    ): "{opening}{voice}{pitch}，{clear}。{speech}{rate}，同时{loudness}。"
    "{delivery}{shows}{emotion}的情绪，{manner}，{closing}。",
    ("english", "concise"): "{emotion} {concise}, {rate}",
    (
        "english",
        "default",
    ): "{opening} {voice} {rate} {loudness} with {pitch}, {shows} {emotion}, {manner}.",
    (
        "english",
        "detailed",
    ): "{opening} {voice} is heard with {pitch}. {speech} is {clear}, and the speaker {rate} "
    "{loudness}. {delivery} {is} {emotion}, {manner}, {closing}",
}
_FIELD = re.compile(r"\{(\w+)\}")


def caption(
    attributes: Attributes, language: Language, prompt_type: PromptType, rng: random.Random
) -> str:
    """One wording, all wordings of a slot being equally likely."""
    slots = _CHINESE_SLOTS if language == "chinese" else _ENGLISH_SLOTS

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        if name == "emotion":
            return rng.choice(EMOTION_WORDS[language][attributes.emotion])
        if name == "concise":
            return rng.choice(slots[f"concise {attributes.voice}"])
        if name == "manner":
            return rng.choice(slots[f"manner {attributes.emotion}"])
        if name in ("voice", "pitch", "rate", "loudness"):
            return rng.choice(slots[f"{name} {getattr(attributes, name)}"])
        return rng.choice(slots[name])

    return _FIELD.sub(fill, _TEMPLATES[language, prompt_type])


def references(
    attributes: Attributes, language: Language, seed: str, prompt_type: PromptType = "default"
) -> list[str]:
    """Three captions of a type, drawn independently, reproducible from `seed`."""
    rng = random.Random(f"references {seed} {language}")
    return [caption(attributes, language, prompt_type, rng) for _ in range(3)]


def emotion_of(text: str, language: Language) -> Emotion | None:
    """The emotion named first in a caption, or None if no word of the lexicon occurs in it."""
    lowered = text.lower()
    found: list[tuple[int, Emotion]] = []
    for emotion, words in EMOTION_WORDS[language].items():
        for word in words:
            pattern = word if language == "chinese" else rf"\b{word}\b"
            if match := re.search(pattern, lowered):
                found.append((match.start(), emotion))
    return min(found)[1] if found else None
