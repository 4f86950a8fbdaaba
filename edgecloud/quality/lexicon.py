"""Words of emotion and the cues that take them back, read from ``words/*.toml``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from edgecloud.contracts import Language

__all__ = ["Lexicon", "Mention", "lexicon"]


@dataclass(frozen=True, slots=True)
class Mention:
    """A word of emotion at ``start`` to ``end`` of a text. ``sign``: a sound or gesture, such as a
    laugh, that another word beside it explains."""

    start: int
    end: int
    emotion: str
    sign: bool


@dataclass(frozen=True, slots=True)
class Lexicon:
    """The words of a language.

    Attributes:
        emotions: words by emotion; in English a star stands for any further letters.
        signs: the same for sounds and gestures.
        ignored: phrases that look like words of emotion and are none.
        cues: lists of words by what they do to a word of emotion near them.
    """

    language: Language
    emotions: Mapping[str, tuple[str, ...]]
    signs: Mapping[str, tuple[str, ...]]
    ignored: tuple[str, ...]
    cues: Mapping[str, tuple[str, ...]]

    def pattern(self, words: Iterable[str]) -> str:
        """A regular expression of any of the words, the longest first."""
        ordered = sorted(set(words), key=len, reverse=True)
        if self.language == "chinese":
            return "(?:" + "|".join(map(re.escape, ordered)) + ")"
        # "n't" is the end of a word; everything else is whole words.
        whole = "|".join(re.escape(word).replace(r"\*", r"\w*") for word in ordered if word[:2] != "n'")
        inside = "|".join(re.escape(word) for word in ordered if word[:2] == "n'")
        return rf"(?:\b(?:{whole})\b" + (rf"|(?:{inside})\b" if inside else "") + ")"

    def mentions(self, text: str) -> list[Mention]:
        """Every word of emotion in ``text`` (lower case, simplified), from left to right; of two that
        overlap the one that begins first, and of those the longer."""
        pattern, meaning = _words(self.language)
        found = []
        for match in pattern.finditer(text):
            group = match.lastgroup
            if group and group != "ignored":
                emotion, sign = meaning[group]
                found.append(Mention(match.start(), match.end(), emotion, sign))
        return found


@cache
def lexicon(language: Language) -> Lexicon:
    """The words of ``language``."""
    path = files("edgecloud.quality") / "words" / f"{language}.toml"
    content = tomllib.loads(path.read_text(encoding="utf-8"))

    def split(text: str) -> tuple[str, ...]:
        parts = text.split() if language == "chinese" else " ".join(text.split()).split(",")
        return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))

    def table(name: str) -> Mapping[str, tuple[str, ...]]:
        return MappingProxyType({key: split(words) for key, words in content[name].items()})

    return Lexicon(
        language,
        emotions=table("emotions"),
        signs=table("signs"),
        ignored=split(content["ignored"]["phrases"]),
        cues=table("cues"),
    )


@cache
def _words(language: Language) -> tuple[re.Pattern[str], Mapping[str, tuple[str, bool]]]:
    """All words in one pattern, a group for each word's meaning; the longest word comes first."""
    own = lexicon(language)
    entries = [(word, ("ignored", False)) for word in own.ignored]
    for sign, some in ((False, own.emotions), (True, own.signs)):
        entries += [(word, (name, sign)) for name, words in some.items() for word in words]
    entries.sort(key=lambda entry: len(entry[0]), reverse=True)
    parts, meaning = [], {}
    for position, (word, what) in enumerate(entries):
        group = "ignored" if what[0] == "ignored" else f"w{position}"
        if group != "ignored":
            meaning[group] = what
        name = f"?P<{group}>" if group != "ignored" else "?:"
        text = re.escape(word)
        if language == "english":
            text = text.replace(r"\*", r"\w*") + r"\b"
        parts.append(f"({name}{text})")
    edge = r"\b" if language == "english" else ""
    return re.compile(f"{edge}(?:{'|'.join(parts)})"), meaning
