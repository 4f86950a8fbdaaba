"""What a caption says is audible in a voice, read by lexicons: ``words/attributes-*.toml``, and for emotions
:mod:`edgecloud.quality.scope`.

Five attributes have values that are known here (:data:`KNOWN`): ``voice``, ``pitch``, ``rate``,
``loudness``, ``emotion``. Besides, a caption may say a *manner*: a phrase such as "as if sharing good news",
which goes with one emotion without naming it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final

from edgecloud.contracts import Language
from edgecloud.quality.lexicon import lexicon
from edgecloud.quality.scope import folded, speaker_emotions
from edgecloud.quality.scoping import FILLER

__all__ = ["KNOWN", "LEXICON_VERSION", "Reading", "is_truth", "read_attributes"]

LEXICON_VERSION: Final = 2
"""Values of different versions do not compare; raised with any change of words or rules."""

KNOWN: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "voice": ("male", "female"),
        "pitch": ("low", "mid", "high"),
        "rate": ("slow", "mid", "fast"),
        "loudness": ("soft", "mid", "loud"),
        "emotion": tuple(lexicon("english").emotions),
    }
)
"""The values that captions are read for, by attribute."""

_BETWEEN: Final[Mapping[Language, str]] = MappingProxyType(
    {"english": r"(?:[\w'-]+ ){0,2}", "chinese": r"[^，。；、！？,.;!?\s不没]{0,3}"}
)
_DENIED: Final[Mapping[Language, str]] = MappingProxyType(
    {"english": r"\b(?:{words})(?: [\w-]+)? $", "chinese": "(?:{words})$"}
)
_REACH: Final = 40
"""Characters in front of a word in which a denial is looked for."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a caption says. ``named``: by attribute its values, each once, in the caption's order; ``manners``:
    the emotions that its phrases of manner go with."""

    named: Mapping[str, tuple[str, ...]]
    manners: tuple[str, ...]

    @property
    def contradicts_itself(self) -> bool:
        """True where one voice has two values of an attribute at once (of emotions it may have several), or
        no manner goes with any emotion that is named though both are there."""
        twice = any(len(self.named[name]) > 1 for name in KNOWN if name != "emotion")
        emotions = self.named["emotion"]
        return twice or bool(self.manners and emotions and not {*emotions} & {*self.manners})

    def said_of(self, attribute: str) -> frozenset[str]:
        """The values that it gives an attribute, an emotion by its manner among them."""
        manners = self.manners if attribute == "emotion" else ()
        return frozenset((*self.named[attribute], *manners))


def is_truth(value: object) -> bool:
    """True for what the truth about a voice is given as: a mapping of names to texts."""
    return isinstance(value, Mapping) and all(isinstance(text, str) for text in value.values())


@lru_cache(maxsize=65536)
def read_attributes(text: str, language: Language) -> Reading:
    """What a caption says of the voice, in the caption's language. What is quoted, and what is denied in so many
    words, is left out.

    >>> reading = read_attributes("A man speaks slowly, sounding sad, as if sharing good news.", "english")
    >>> dict(reading.named), reading.manners
    ({'voice': ('male',), 'pitch': (), 'rate': ('slow',), 'loudness': (), 'emotion': ('sad',)}, ('happy',))
    >>> reading.contradicts_itself
    True
    >>> dict(read_attributes("女士语速不快不慢，音量很轻，语气温柔", "chinese").named)
    {'voice': ('female',), 'pitch': (), 'rate': ('mid',), 'loudness': ('soft',), 'emotion': ('gentle',)}
    """
    plain = folded(text, language)
    manners: list[str] = []
    for start, end, value in _found(plain, "manner", language):
        manners.append(value)
        plain = plain[:start] + FILLER * (end - start) + plain[end:]
    before = _without_denials_inside(plain, language)
    named = {
        name: tuple(dict.fromkeys(value for *_, value in _found(plain, name, language, before)))
        for name in KNOWN
        if name != "emotion"
    }
    named["emotion"] = speaker_emotions(plain, language)
    return Reading(MappingProxyType(named), tuple(dict.fromkeys(manners)))


def _without_denials_inside(text: str, language: Language) -> str:
    """``text``, as long, without the phrases that say a value by denying something ("without hurry"): they deny nothing
    of what comes after them."""
    patterns, denied = _patterns(language)
    for by_value in patterns.values():
        for pattern in by_value.values():
            for match in pattern.finditer(text):
                said = match.group()
                if any(denied.search(said[:end]) for end in range(1, len(said))):
                    text = text[: match.start()] + FILLER * len(said) + text[match.end() :]
    return text


def _found(
    text: str, attribute: str, language: Language, before: str | None = None
) -> Iterator[tuple[int, int, str]]:
    """Start, end and value of each mention of an attribute, in the text's order; of two that overlap the one that
    begins first, and of those the longer. Denials are looked for in ``before``, as long as ``text``."""
    before = text if before is None else before
    patterns, denied = _patterns(language)
    matches = sorted(
        (match.start(), -match.end(), value)
        for value, pattern in patterns[attribute].items()
        for match in pattern.finditer(text)
    )
    reached = 0
    for start, minus_end, value in matches:
        if start < reached:
            continue
        reached = -minus_end
        if not denied.search(before[max(0, start - _REACH) : start]):
            yield start, reached, value


@cache
def _patterns(
    language: Language,
) -> tuple[Mapping[str, Mapping[str, re.Pattern[str]]], re.Pattern[str]]:
    """The pattern of each value by attribute, and that of a denial at the end of what stands in front."""
    path = files("edgecloud.quality") / "words" / f"attributes-{language}.toml"
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    denials = content.pop("denials")["words"]
    edge = r"\b" if language == "english" else ""

    def any_of(phrases: Sequence[str]) -> re.Pattern[str]:
        longest = sorted(phrases, key=len, reverse=True)
        joined = "|".join(phrase.replace("~", _BETWEEN[language]) for phrase in longest)
        return re.compile(f"{edge}(?:{joined}){edge}")

    found = {
        name: {value: any_of(phrases) for value, phrases in by_value.items()}
        for name, by_value in content.items()
    }
    return found, re.compile(_DENIED[language].format(words="|".join(denials)))
