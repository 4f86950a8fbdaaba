"""Building blocks of the rules of both languages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Final

from edgecloud.contracts import Language
from edgecloud.quality.lexicon import Mention, lexicon

__all__ = ["FILLER", "blank", "denied_feelings", "explained", "in_order", "rule"]

FILLER: Final = "□"
"""Stands for a character that no rule is to read."""
_NAME: Final = re.compile("<([a-z]+)>")


@cache
def rule(language: Language, template: str) -> re.Pattern[str]:
    """A regular expression in which ``<name>`` stands for any word of that list of cues."""
    own = lexicon(language)
    return re.compile(_NAME.sub(lambda match: own.pattern(own.cues[match[1]]), template))


def blank(pattern: re.Pattern[str], text: str) -> str:
    """``text`` with every match blanked out, length for length."""
    return pattern.sub(lambda match: FILLER * len(match.group()), text)


def explained(sign: Mention, found: Sequence[Mention], gap: re.Pattern[str], text: str) -> bool:
    """True when a word for another emotion, no more than ``gap`` away, says what a sign is of:
    "nervous laughter"."""
    for other in found:
        if min(abs(other.start - sign.end), abs(sign.start - other.end)) > 20:
            continue
        if other.sign or other.emotion == sign.emotion:
            continue
        first, last = (sign, other) if sign.start < other.start else (other, sign)
        if gap.fullmatch(text[first.end : last.start]):
            return True
    return False


def denied_feelings(
    pattern: re.Pattern[str], text: str, found: Sequence[Mention]
) -> list[tuple[int, str]]:
    """Places where ``text`` denies feelings as such and names none of them: there it says neutral."""
    return [
        (match.start(), "neutral")
        for match in pattern.finditer(text)
        if not any(match.start() <= mention.start < match.end() for mention in found)
    ]


def in_order(events: Sequence[tuple[int, str]]) -> Iterator[str]:
    """Emotions by place in the text."""
    return (emotion for _, emotion in sorted(events))
