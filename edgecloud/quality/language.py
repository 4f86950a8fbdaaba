"""The language of a text, Chinese or English."""

from __future__ import annotations

import re
from typing import Final

from edgecloud.contracts import Language
from edgecloud.quality.fold import HAN, fold

__all__ = ["detect_language"]

_LATIN: Final = re.compile("[A-Za-zÀ-ÖØ-öø-ÿＡ-Ｚａ-ｚ]")
"""Without one of these, as most Chinese captions are, there is no Latin word before or after folding."""
_LATIN_WORD: Final = re.compile(r"[A-Za-zÀ-ÖØ-öø-ÿ]+(?:'[A-Za-z]+)?")


def detect_language(text: str) -> Language | None:
    """The language of ``text`` by its share of Chinese characters; ``None`` without any letter.

    A Chinese character weighs as much as an English word, so a name in the other script does not
    tip the balance.

    >>> detect_language("他说 OK，语气开心")
    'chinese'
    >>> detect_language("She says 你好 in a cheerful voice")
    'english'
    """
    if not _LATIN.search(text):
        return "chinese" if HAN.search(text) else None
    text = fold(text)
    han = len(HAN.findall(text))
    words = len(_LATIN_WORD.findall(text))
    if han + words == 0:
        return None
    return "chinese" if 2 * han >= han + words else "english"
