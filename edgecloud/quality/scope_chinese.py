"""Chinese: which words of emotion are the speaker's. Texts are in simplified characters."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Final

from edgecloud.quality.lexicon import Mention, lexicon
from edgecloud.quality.scoping import FILLER, blank, denied_feelings, explained, in_order, rule

__all__ = ["chinese_emotions"]

_REACH: Final = 60
"""Characters around a word that are read, so that time is proportional to length."""
_CLAUSE: Final = re.compile("[，。！？；：,.!?;:\n…—]+")
_BESIDE: Final = re.compile(
    "[着了地的得又就直一都不住流出眼声，、至极]{0,6}(?:说话|说|又|忍不住|边|到|直接|直|想|大|放声|失声|起来)?"
    "|[地得到的][^，]{0,5}"
)
_DOUBLE: Final = re.compile(
    "(?:并不是|不是|并非|不会|不能|不可能|没有|没|绝非)(?:不(?!高兴|开心|愉快|快乐|满|耐|安|解|屑)|没有|没|毫无)"
)
_RATHER: Final = re.compile("与其说?(.*?)(?=倒不如|不如|毋宁|还不如)")
_ENDS: Final = "(?:<ends>|(?<!不)是因为|(?<![是非不])因为)"
# Why somebody laughs or cries, denied: the sign is of something else, which is said next.
_OTHER_CAUSE: Final = re.compile("(?:不是|并非|绝非|并不)(?:因为?|由于|出于)")
_BECAUSE: Final = re.compile("因为?[^，]{1,8}而")
# 不高兴 is a word for being sad; "neither glad nor sad" (既不高兴也不难过) is not.
_NEITHER: Final = re.compile(
    "(?:不仅|不但|非但|不光|既|也|又|并|毫|绝|从|都|再也|丝毫)不(?=高兴|开心|愉快|快乐)"
)
_NOR: Final = "不(?=(?:高兴|开心|愉快|快乐)，?[^，。！？不]{0,3}[也亦](?:并?不|没有?|并非|谈不上|算不上)[^，。！？]{0,3}"
_FEELINGS: Final = "(?:<negations>|不)(?:<quantities>){0,8}<feelings>"
_GONE: Final = "(?:的|之)?(?:情绪|感觉|感|心情|神色|之情|之意|语气)?(?:[已也都早渐完全经]{0,3})[^，]{0,4}?<after>"

_THING: Final = "(?!的(?:声|语|口|嗓|音|情|心|笑|感))[的之]?[^，的地]{0,2}<things>"
_PERSON: Final = "(?:不已|万分|至极)?的[^，的地]{0,3}<persons>"
_ADVERB: Final = re.compile("(?:而又?[^，]{1,4})?地")
_MOVED: Final = "<causes>[^，]{0,3}<moved>[^，]*$"
_TOPIC: Final = "<topics>(?!<manners>)([^，]*)$"
_MANNER: Final = re.compile("语气|声音|口吻|语调|充满|透着|带着|显得|听起来|得很|时")
_VOICE: Final = re.compile("(?:的|之情的?)?(?:语气|口吻|声音|语调|嗓音|口气|腔调|神情|笑)")


def chinese_emotions(text: str) -> Iterator[str]:
    """The speaker's emotions in a folded, simplified text, in its order, repeats among them."""
    text = _NEITHER.sub(lambda match: match.group()[:-1] + "没", text.replace("甚么", "什么"))
    text = blank(_RATHER, _nor().sub("没", text))
    for clause in _CLAUSE.split(text):
        yield from _clause(clause)


@cache
def _nor() -> re.Pattern[str]:
    """The 不 of "glad" before "nor sad" or "nor angry"."""
    own = lexicon("chinese")
    return re.compile(f"{_NOR}{own.pattern([*own.emotions['sad'], *own.emotions['angry']])})")


def _clause(text: str) -> Iterator[str]:
    found = lexicon("chinese").mentions(text)
    cued = _without_affirmations(text, found)
    events = denied_feelings(rule("chinese", _FEELINGS), cued, found)
    otherwise = _OTHER_CAUSE.search(text) is not None
    for mention in found:
        if mention.sign and (otherwise or explained(mention, found, _BESIDE, text)):
            continue
        left = cued[max(0, mention.start - _REACH) : mention.start]
        right = slice(mention.end, mention.end + _REACH)
        if not (_denied(left, cued[right]) or _not_the_speakers(left, text[right])):
            events.append((mention.start, mention.emotion))
    return in_order(events)


def _without_affirmations(text: str, found: Sequence[Mention]) -> str:
    """Without the phrases that hold a negation and negate nothing, unless they are in a word of
    emotion."""
    cued = list(blank(_BECAUSE, blank(_DOUBLE, text)))
    inside = {place for mention in found for place in range(mention.start, mention.end)}
    for match in rule("chinese", "<affirmations>").finditer(text):
        if inside.isdisjoint(range(match.start(), match.end())):
            cued[match.start() : match.end()] = FILLER * len(match.group())
    return "".join(cued)


def _denied(left: str, right: str) -> bool:
    reach = rule("chinese", _ENDS).split(left)[-1]
    if rule("chinese", "<negations>").search(reach):
        return True
    near = [match.end() for match in rule("chinese", "<near>").finditer(reach)]
    past = reach[near[-1] :] if near else None
    if past is not None and len(past) <= 6 and not rule("chinese", "<subjects>").search(past):
        return True
    return rule("chinese", _GONE).match(right) is not None


def _not_the_speakers(left: str, right: str) -> bool:
    if rule("chinese", _THING).match(right):
        return True
    if rule("chinese", _PERSON).match(right) and rule("chinese", "<introducers>[^，]{0,8}$").search(
        left
    ):
        return True
    if rule("chinese", _MOVED).search(left):
        return True
    if _ADVERB.match(right):
        return False
    if rule("chinese", "(?:<outsiders>(?!面前|的声音)|[他她]的?<kin>)[^，]*$").search(left):
        return True
    topic = rule("chinese", _TOPIC).search(left)
    return topic is not None and not _VOICE.match(right) and not _MANNER.search(topic[1])
