"""Text to tokens: the four ways in which captions are cut up before they are scored.

======================  ====================================================================
``zh.jieba``            Chinese words by jieba's default dictionary, punctuation dropped
``zh.jieba_punct``      the same, punctuation kept
``zh.char``             one token per character, punctuation dropped
``en.simple``           lower-cased runs of letters and digits, with one apostrophe inside
======================  ====================================================================

The n-gram scorers split at spaces, so a Chinese caption that was not segmented is one long token:
it matches nothing and scores 0 without a word. They therefore take :class:`Tokens` only, which say
which tokeniser made them.
"""

from __future__ import annotations

import logging
import re
import sys
import unicodedata
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from edgecloud.contracts import Language
from edgecloud.errors import MetricError
from edgecloud.quality.fold import fold

if TYPE_CHECKING:
    from jieba import Tokenizer

__all__ = [
    "DESCRIPTIONS",
    "LANGUAGE_TOKENIZERS",
    "Tokens",
    "is_punctuation",
    "normalize",
    "segment",
]

_END_OF_TURN: Final = "<|im_end|>"
_ENGLISH_WORD: Final = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")
_SPACE: Final = re.compile(r"\s")
_INSIDE_NO_TOKEN: Final = re.compile(r"\s|\w[，。！？；：、]|[，。！？；：、]\w")
_BETWEEN_CLAUSES: Final = re.compile("([，。！？；：、]+)")
"""Marks that end a word of jieba's wherever they stand."""

LANGUAGE_TOKENIZERS: Final[Mapping[Language, tuple[str, ...]]] = MappingProxyType(
    {"chinese": ("zh.jieba", "zh.char"), "english": ("en.simple",)}
)
"""Tokenisers used on captions in a language; the first gives the caption's length."""

DESCRIPTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "zh.jieba": "jieba words (default dictionary, HMM), lower-cased, punctuation dropped",
        "zh.jieba_punct": "jieba words (default dictionary, HMM), lower-cased, punctuation kept",
        "zh.char": "single characters, lower-cased, punctuation dropped",
        "en.simple": "lower-cased runs of letters and digits, with one apostrophe inside",
        "en.ptb": "Stanford PTBTokenizer (Java), lower-cased, punctuation dropped",
    }
)


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text cut up by ``tokenizer``; made by :func:`segment`.

    Raises :class:`~edgecloud.errors.MetricError` when a token is empty or holds white space or a
    Chinese clause mark between letters: then it is a text that nobody cut up. (The English ``en.ptb``
    may leave Chinese whole, where a caption is in the wrong language.)
    """

    tokenizer: str
    words: tuple[str, ...]

    def __post_init__(self) -> None:
        inside = _SPACE if self.tokenizer == "en.ptb" else _INSIDE_NO_TOKEN
        # At once: what may stand in no token does not reach over what joins them.
        if all(self.words) and not inside.search("\0".join(self.words)):
            return
        word = next(word for word in self.words if not word or inside.search(word))
        raise MetricError(
            f"{word!r} is not a token of {self.tokenizer}: cut the text up with "
            "edgecloud.quality.tokenize.segment before it is scored"
        )

    @property
    def text(self) -> str:
        """The tokens joined with one space, as pycocoevalcap wants them."""
        return " ".join(self.words)


def normalize(text: str) -> str:
    """Folded (see :func:`~edgecloud.quality.fold.fold`), without the literal ``<|im_end|>``, every
    run of white space being one space.

    Line breaks and other separators would otherwise end a line, and with it the caption.
    """
    return " ".join(fold(text).replace(_END_OF_TURN, "").split())


@lru_cache(maxsize=65536)
def is_punctuation(token: str) -> bool:
    """Every character is punctuation, a symbol, a separator or a control character."""
    return all(unicodedata.category(character)[0] in "PSZC" for character in token)


def segment(text: str, tokenizer: str) -> Tokens:
    """``text`` cut up; the empty text gives no tokens.

    >>> segment("She's HAPPY, really!", "en.simple").words
    ("she's", 'happy', 'really')
    >>> segment("很开心。", "zh.char").words
    ('很', '开', '心')

    Raises :class:`~edgecloud.errors.MetricError` for an unknown tokeniser.
    """
    try:
        split = _SPLITTERS[tokenizer]
    except KeyError:
        known = ", ".join(_SPLITTERS)
        raise MetricError(f"no tokeniser {tokenizer!r}; there are {known}") from None
    return Tokens(tokenizer, tuple(map(sys.intern, split(_lowered(text)))))


@lru_cache(maxsize=64)
def _lowered(text: str) -> str:
    """The same for each tokeniser that a text is cut up by, one after the other."""
    return normalize(text).lower()


def _jieba_words(text: str) -> list[str]:
    return [word for word in _jieba_words_and_marks(text) if not is_punctuation(word)]


def _jieba_words_and_marks(text: str) -> list[str]:
    clauses = _BETWEEN_CLAUSES.split(text)
    return [word for clause in clauses if clause for word in _words_of_clause(clause)]


# Captions say the same things again and again.
@lru_cache(maxsize=65536)
def _words_of_clause(text: str) -> tuple[str, ...]:
    return tuple(word for word in _jieba().cut(text) if word.strip())


def _characters(text: str) -> list[str]:
    return [character for character in text if not is_punctuation(character)]


def _english_words(text: str) -> list[str]:
    return _ENGLISH_WORD.findall(text)


@cache
def _jieba() -> Tokenizer:
    """A tokenizer of our own: words that a program adds to jieba's shared one do not reach it."""
    with warnings.catch_warnings():
        # jieba 0.42 has invalid escapes in its sources and, where setuptools has it, imports
        # pkg_resources: both warn on first import.
        for category in (SyntaxWarning, DeprecationWarning, UserWarning):
            warnings.simplefilter("ignore", category)
        import jieba
    jieba.setLogLevel(logging.WARNING)
    tokenizer = jieba.Tokenizer()
    tokenizer.initialize()
    return tokenizer


_SPLITTERS: Final[Mapping[str, Callable[[str], list[str]]]] = MappingProxyType(
    {
        "zh.jieba": _jieba_words,
        "zh.jieba_punct": _jieba_words_and_marks,
        "zh.char": _characters,
        "en.simple": _english_words,
    }
)
