"""Words of emotion and the cues that take them back, read from ``words/*.toml``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final

from edgecloud.contracts import Language

__all__ = ["Lexicon", "Mention", "lexicon"]

_IGNORED: Final = ""


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
        emotions: words by emotion; in English a star stands for any further letters. Of the Chinese
            verbs that other words may part, every form.
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
        """A regular expression of any of the words, whole ones in English, the longest first."""
        if self.language == "chinese":
            return _any_of(words)
        # "n't" is the end of a word.
        inside = [word for word in words if word.startswith("n't")]
        whole = rf"\b{_any_of(word for word in words if word not in inside)}\b"
        return rf"(?:{whole}|{_any_of(inside)}\b)" if inside else whole

    def mentions(self, text: str) -> list[Mention]:
        """Every word of emotion in ``text`` (lower case, simplified), from left to right; of two that
        overlap the one that begins first, and of those the longer."""
        pattern, meanings = _words(self.language)
        found = []
        for match in pattern.finditer(text):
            emotion, sign = _meaning(match.group(), meanings)
            if emotion != _IGNORED:
                found.append(Mention(match.start(), match.end(), emotion, sign))
        return found


@cache
def lexicon(language: Language) -> Lexicon:
    """The words of ``language``."""
    path = files(__package__) / "words" / f"{language}.toml"
    content = tomllib.loads(path.read_text(encoding="utf-8"))

    def split(text: str) -> tuple[str, ...]:
        parts = text.split() if language == "chinese" else " ".join(text.split()).split(",")
        return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))

    def table(name: str) -> Mapping[str, tuple[str, ...]]:
        return MappingProxyType({key: split(words) for key, words in content[name].items()})

    emotions = dict(table("emotions"))
    if "separable" in content:
        verbs = dict(table("separable"))
        between = verbs.pop("between")
        for name, some in verbs.items():
            parted = [verb.replace("-", words) for verb in some for words in between]
            emotions[name] = tuple(dict.fromkeys([*emotions[name], *parted]))
    return Lexicon(
        language,
        emotions=MappingProxyType(emotions),
        signs=table("signs"),
        ignored=split(content["ignored"]["phrases"]),
        cues=table("cues"),
    )


@cache
def _words(language: Language) -> tuple[re.Pattern[str], Mapping[str, tuple[str, bool]]]:
    """A pattern of all words, and the meaning of each."""
    own = lexicon(language)
    meanings = {
        word: (name, sign)
        for sign, some in ((True, own.signs), (False, own.emotions))
        for name, words in some.items()
        for word in words
    }
    meanings |= dict.fromkeys(own.ignored, (_IGNORED, False))
    return re.compile(own.pattern(meanings)), meanings


def _meaning(word: str, meanings: Mapping[str, tuple[str, bool]]) -> tuple[str, bool]:
    if word in meanings:
        return meanings[word]
    stems = (word[:length] + "*" for length in range(len(word), 0, -1))
    return next(meanings[stem] for stem in stems if stem in meanings)


def _any_of(words: Iterable[str]) -> str:
    """A regular expression of any of the words by their common beginnings, which is read a hundred
    times faster than one after the other."""
    root: dict[str, Any] = {}
    for word in words:
        node = root
        for letter in word:
            node = node.setdefault(letter, {})
        node[""] = {}
    return _branches(root)


def _branches(node: Mapping[str, Any]) -> str:
    rest = [
        (r"\w*" if letter == "*" else re.escape(letter)) + _branches(below)
        for letter, below in sorted(node.items(), key=lambda item: item[0] == "*")
        if letter
    ]
    if not rest:
        return ""
    return f"(?:{'|'.join(rest)})" + ("?" if "" in node else "")
