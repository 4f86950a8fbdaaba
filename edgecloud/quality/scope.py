"""Whose emotion a word names: not the speaker's where it is quoted, denied, of somebody else, or of
what is spoken about.

Rules of reading over the cues of ``words/*.toml``, of each language in a module of its own. A denial
reaches from its cue to the end of the clause; "not only" denies nothing, and "cannot hide" leaves the
emotion standing.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from edgecloud.contracts import Language
from edgecloud.quality.fold import fold, simplified
from edgecloud.quality.scope_chinese import chinese_emotions
from edgecloud.quality.scope_english import english_emotions
from edgecloud.quality.scoping import FILLER

__all__ = ["folded", "speaker_emotions", "without_quotes"]

_QUOTED: Final = re.compile(
    r'"[^"]*"|《[^》]*》|〈[^〉]*〉'
    # Single quotes, which are apostrophes too.
    r"|(?<!\w)'(?=\w)[^']*(?:\w'\w[^']*)*[^'\s]'(?!\w)"
)
# Quotes around the caption itself, after a preamble or after nothing.
_CAPTION: Final = re.compile(
    r"\W*|.*(?:caption|description|version|描述|字幕|版本|如下)[^\"]{0,20}[:：]\s*", re.DOTALL
)


@lru_cache(maxsize=65536)
def speaker_emotions(text: str, language: Language) -> tuple[str, ...]:
    """The emotions that ``text`` gives the speaker, each once, in the order in which it names them.

    >>> speaker_emotions("Not only tired but also angry, she shouts", "english")
    ('tired', 'angry')
    >>> speaker_emotions("既不高兴也不难过，语气平静", "chinese")
    ('neutral',)
    """
    emotions = chinese_emotions if language == "chinese" else english_emotions
    return tuple(dict.fromkeys(emotions(folded(text, language))))


def folded(text: str, language: Language) -> str:
    """A text as lexicons read it: folded, in lower case and simplified characters, single spaces, and what it
    quotes blanked out.

    >>> folded('She  says "I am HAPPY", sadly', "english")
    'she says □□□□□□□□□□□□, sadly'
    """
    plain = " ".join(fold(text).lower().split())
    return without_quotes(simplified(plain) if language == "chinese" else plain)


def without_quotes(text: str) -> str:
    """A folded text with what it quotes blanked out, length for length."""

    def blank(match: re.Match[str]) -> str:
        ends = not text[match.end() :].strip(" .。!！")
        if ends and _CAPTION.fullmatch(text[: match.start()]):
            return match.group()
        return FILLER * len(match.group())

    return _QUOTED.sub(blank, text)
