"""Does the caption name the emotion that the references name?

A lexicon of words by emotion, small and general, in both languages. The first word of it in a text
is the emotion that the text names; a word that is negated ("不开心", "not happy") does not count,
unless the negation is itself in the lexicon ("unhappy"). It is a yardstick for captions that say
the emotion in so many words; metaphors and mixed feelings escape it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Final

from edgecloud.contracts import Language
from edgecloud.errors import MetricError
from edgecloud.quality.result import MetricResult, mean
from edgecloud.quality.tokenise import normalise

__all__ = ["LEXICON", "emotion_accuracy", "named_emotion", "reference_emotion"]

_CHINESE: Final[Mapping[str, str]] = {
    "neutral": "平静 平淡 淡然 镇定 冷静 中性 淡定 平和 沉着 从容 无情绪",
    "happy": "开心 高兴 愉快 喜悦 快乐 欢快 欢乐 愉悦 欢喜 幸福 欣喜 欢愉 舒畅 畅快 得意 乐观 喜气 满足 满意 "
    "兴高采烈 喜出望外",
    "sad": "悲伤 难过 伤心 沮丧 悲痛 哀伤 忧伤 忧郁 失落 失望 委屈 悲哀 伤感 心酸 凄凉 痛苦 忧愁 惆怅 哀怨 "
    "不开心 不高兴 不愉快 不快乐",
    "angry": "愤怒 生气 恼火 气愤 恼怒 怒火 发怒 愤恨 愤懑 激愤 怒气 暴怒 火大 不满 怨恨 埋怨 "
    "暴躁 不耐烦",
    "fearful": "害怕 恐惧 惊慌 惶恐 恐慌 惊恐 畏惧 胆怯 惧怕 慌张 慌乱 心虚",
    "surprised": "惊讶 吃惊 诧异 惊奇 震惊 意外 惊喜 惊愕 出乎意料 意想不到",
    "disgusted": "厌恶 嫌弃 反感 鄙夷 讨厌 恶心 鄙视 轻蔑 不屑 嫌恶 厌烦",
    "gentle": "温柔 温和 关切 体贴 柔和 关心 关怀 亲切 和蔼",
    "tired": "疲惫 疲倦 疲劳 劳累 倦怠 困倦 无精打采",
    "excited": "兴奋 激动 亢奋 激昂 热情 振奋",
    "anxious": "焦急 着急 焦虑 担心 担忧 紧张 不安 急切 忧虑 心急 烦躁",
    "confused": "疑惑 困惑 好奇 不解 迷茫 疑问 怀疑 迷惑",
    "proud": "自豪 骄傲 自信 傲气",
}
_ENGLISH: Final[Mapping[str, str]] = {
    "neutral": "neutral calm calmly calmness composed unmoved emotionless unemotional impassive",
    "happy": "happy happily happiness cheerful cheerfully joy joyful joyfully delighted delight "
    "glad pleased joyous merry contented",
    "sad": "sad sadly sadness sorrow sorrowful gloomy dejected unhappy mournful melancholy upset "
    "depressed heartbroken disappointed disappointment grief grieving",
    "angry": "angry angrily anger furious irate enraged mad annoyed irritated fury rage outraged "
    "resentful dissatisfied",
    "fearful": "afraid fear fearful fearfully scared frightened terrified terror panic panicked "
    "panicky",
    "surprised": "surprised surprise surprising astonished astonishment amazed amazement startled "
    "shocked stunned",
    "disgusted": "disgusted disgust repulsed contemptuous contempt disdainful disdain repelled "
    "revolted scornful",
    "gentle": "gentle gently gentleness tender tenderly tenderness caring affectionate warm "
    "warmhearted",
    "tired": "tired tiredness weary exhausted fatigued sleepy drowsy",
    "excited": "excited excitedly excitement thrilled enthusiastic enthusiasm exhilarated eager",
    "anxious": "anxious anxiously anxiety worried worry nervous uneasy tense concerned",
    "confused": "confused confusion puzzled curious doubtful bewildered perplexed",
    "proud": "proud proudly pride confident",
}


def _words(table: Mapping[str, str]) -> Mapping[str, tuple[str, ...]]:
    return MappingProxyType({emotion: tuple(words.split()) for emotion, words in table.items()})


LEXICON: Final[Mapping[Language, Mapping[str, tuple[str, ...]]]] = MappingProxyType(
    {"chinese": _words(_CHINESE), "english": _words(_ENGLISH)}
)
"""Words by emotion, by language. No word is in two emotions."""

# Each look-behind has a fixed width, as Python's re wants it.
_NOT_BEFORE: Final[Mapping[Language, str]] = MappingProxyType(
    {
        "chinese": "".join(
            f"(?<!{negation})"
            for negation in ("不", "没", "没有", "并不", "不太", "不很", "不是", "不是很", "毫无")
        ),
        "english": r"(?<!\bnot )(?<!\bnot very )(?<!n't )(?<!\bno )(?<!\bwithout )(?<!\bnever )\b",
    }
)
_AFTER: Final[Mapping[Language, str]] = MappingProxyType({"chinese": "", "english": r"\b"})


@cache
def _pattern(language: Language) -> tuple[re.Pattern[str], Mapping[str, str]]:
    emotions = {word: name for name, words in LEXICON[language].items() for word in words}
    # Longest first, so that "不开心" is read before the "开心" inside it.
    words = "|".join(sorted(map(re.escape, emotions), key=len, reverse=True))
    return re.compile(f"{_NOT_BEFORE[language]}(?:{words}){_AFTER[language]}"), emotions


def named_emotion(text: str, language: Language) -> str | None:
    """The emotion that ``text`` names first, or ``None``.

    >>> named_emotion("语气并不开心，有些生气", "chinese")
    'angry'
    >>> named_emotion("She sounds not happy but tired.", "english")
    'tired'
    """
    pattern, emotions = _pattern(language)
    found = pattern.search(normalise(text).lower())
    return emotions[found.group()] if found else None


def reference_emotion(references: Sequence[str], language: Language) -> str | None:
    """The emotion most references name; among equals, the one named first. ``None`` without any."""
    named = [named_emotion(reference, language) for reference in references]
    counts = Counter(emotion for emotion in named if emotion is not None)
    return counts.most_common(1)[0][0] if counts else None


def emotion_accuracy(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], *, language: Language
) -> MetricResult:
    """``emotion_accuracy``, 0..1, higher is better: the share of captions that name the emotion of
    their references.

    A sample whose references name none has no value; a caption that names none is wrong. Raises
    :class:`~edgecloud.errors.MetricError` when the lengths differ.
    """
    if len(hypotheses) != len(references):
        raise MetricError(f"{len(hypotheses)} hypotheses but {len(references)} lists of references")
    values: list[float | None] = []
    for hypothesis, alternatives in zip(hypotheses, references, strict=True):
        expected = reference_emotion(alternatives, language)
        right = named_emotion(hypothesis, language) == expected
        values.append(None if expected is None else float(right))
    unnamed = values.count(None)
    notes = {}
    if unnamed:
        notes["emotion_accuracy"] = (
            f"references of {unnamed} of {len(values)} samples name no emotion of the lexicon"
        )
    return MetricResult(
        {"emotion_accuracy": mean(values)},
        tuple({"emotion_accuracy": value} for value in values),
        notes,
    )
