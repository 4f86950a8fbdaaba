"""Defects of a caption, beyond its closeness to its references.

A scorer takes each of these for a poor caption; counted apart they say what to mend.

===================  ==================================================================
``chat_leakage``     the model went on with the conversation: "Human", "Assistant", role tags,
                     a preamble, an offer of help or a question to the user
``wrong_language``   the text is in the other language
``repetition_loop``  the same words over and over
``truncated``        the token limit ended the text, not the model
``empty``            no text
===================  ==================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from edgecloud.contracts import Language
from edgecloud.quality.language import detect_language
from edgecloud.quality.leakage import is_chat_leakage
from edgecloud.quality.tokenize import normalize, segment

__all__ = ["DEFECTS", "defects_of", "is_chat_leakage", "is_loop", "is_wrong_language"]

DEFECTS: Final = ("chat_leakage", "wrong_language", "repetition_loop", "truncated", "empty")

# (longest unit in tokens, repeats that make a loop): a long unit is a loop sooner than a short one,
# and laughter ("哈哈哈") or emphasis ("very, very") is none.
_LOOPS: Final = ((1, 6), (2, 4), (60, 3))


def defects_of(text: str, *, language: Language, stop: str | None = None) -> dict[str, bool]:
    """Every name of :data:`DEFECTS`, and whether this caption in ``language`` has it.

    ``stop`` is why generation ended (:data:`edgecloud.contracts.StopReason`), ``None`` if unknown.

    >>> found = defects_of("语气平静。 Human: 谢谢", language="chinese", stop="end_of_text")
    >>> [name for name, is_so in found.items() if is_so]
    ['chat_leakage']
    """
    return {
        "chat_leakage": is_chat_leakage(text),
        "wrong_language": is_wrong_language(text, language),
        "repetition_loop": is_loop(text, language),
        "truncated": stop == "token_limit",
        "empty": not normalize(text),
    }


def is_wrong_language(text: str, language: Language) -> bool:
    """The text is in the other language; one without letters is in none."""
    return detect_language(text) not in (language, None)


def is_loop(text: str, language: Language) -> bool:
    """Some run of tokens (characters in Chinese, words in English) follows itself over and over:
    6 times a single token, 4 times a pair, 3 times what is longer.

    >>> is_loop("语气平静，语气平静，语气平静，", "chinese")
    True
    >>> is_loop("a very, very, very happy voice", "english")
    False
    """
    # The language of the text, not the one asked for: English words are no Chinese characters.
    own = detect_language(text) or language
    words = segment(text, "zh.char" if own == "chinese" else "en.simple").words
    return any(
        _repeats(words, size, _least(size)) for size in range(1, min(60, len(words) // 3) + 1)
    )


def _least(size: int) -> int:
    return next(repeats for longest, repeats in _LOOPS if size <= longest)


def _repeats(words: Sequence[str], size: int, least: int) -> bool:
    """A unit of ``size`` words occurs ``least`` times in a row: as many words equal those ``size``
    before them."""
    run = 0
    for before, word in zip(words, words[size:], strict=False):
        run = run + 1 if before == word else 0
        if run >= size * (least - 1):
            return True
    return False
