"""English: which words of emotion are the speaker's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from edgecloud.quality.lexicon import Mention, lexicon
from edgecloud.quality.scoping import blank, denied_feelings, explained, in_order, rule

__all__ = ["english_emotions"]

_SENTENCE: Final = re.compile(r"[.!?;]+(?=\s|$)")

_REACH: Final = 240
"""Characters around a word that are read, so that time is proportional to length."""

# Where the reach of a negation ends.
_ENDS: Final = re.compile(
    r"\b(?:(?<!anything )(?<!nothing )but|yet|however|although|though|while|whereas|(?<!not )(?<!n't )because|despite"
    r"|in spite of|instead(?! of)|then|when|until|just|only|merely|rather(?! than)"
    r"|as (?:he|she|they|if|though)|so (?:he|she|they|that)|and (?:he|she|it|they|his|her|the|a|an"
    r"|is|was|sounds?|speaks?|seems?|keeps?|talks?|appears?|remains?|stays?|instead|in|with|uses?"
    r"|simply|rather|more|becomes?|grows?|quite|very|clearly|still|begins?|starts?|ends?))\b"
    r"|: | [-–—]+ |—"
)
# "Instead of joy there is …": where the sentence proper begins without a comma.
_INSTEAD: Final = re.compile(
    r"\b(?:instead of|rather than|in place of|in lieu of|as opposed to|unlike|far from|without)\s+\w"
    r".*?(?<!\bsay )(?<!\bsaying )(?<!\bthat )\b(?:there(?:'s| is| are| was| were)"
    r"|(?:i|he|she|it|they|(?:(?:his|her|their|the|this|a) (?:\w+ ){0,2}?(?:voice|speaker|man|woman|boy|girl"
    r"|tone|delivery|speech|mood|manner|words?)))(?:'s)?(?: \w+ly| still| now| just)?"
    r"(?:(?<='s)| (?:is|are|was|were|has|would|holds?|carr(?:y|ies)|shows?|conveys?|expresses|remains?|stays?|grows?"
    r"|becomes?|gets?|turns?|sound(?:s|ed)?|seem(?:s|ed)?|appear(?:s|ed)?|feels?|felt|speaks?|spoke|talks?|answers?"
    r"|repl(?:y|ies)|comes across)))\b"
)
# "too tired to be angry", "it would be wrong to call her sad"
_CUES: Final = (
    r"<negations>|\btoo \w+(?: \w+){0,2}? to (?:be|feel|sound|seem|get|become|stay|remain|show)\b"
    r"|\b(?:wrong|inaccurate|incorrect|false|misleading|untrue|mistaken|a mistake|an error) to (?:call|say|describe"
    r"|label|characteri[sz]e|hear|read|think|speak of|claim|term)\b"
)
# "if he is nervous, it does not show"
_IF: Final = re.compile(r"\bif (?:he|she|they|it|there|the \w+|his \w+|her \w+)\b[^,]*$")
_UNSEEN: Final = (
    r"[^,]{0,40},[^,]{0,30}?(?:<negations>)[^,]{0,30}?\b(?:show\w*|heard?|audible|notice\w*|detect\w*|tell|know"
    r"|guess|evident|apparent|obvious|betray\w*)\b|[^,]{0,40},\s*(?:he|she|they) (?:\w+ )?(?:hides?|conceals?|masks?"
    r"|disguises?) (?:it|that|this)\b"
)
# A cry or laugh whose cause is denied is of something else, which is said next.
_OTHER_CAUSE: Final = re.compile(r"(?:n't|\bnot) (?:because|out of(?! breath)|from|due to)\b")
# After a comma: the list that was denied goes on.
_LIST: Final = re.compile(
    r"\s*(?!(?:just|but|only|rather|simply|merely|he|she|it|they|his|her|in|with|is)\b)"
    r"(?:\w+(?: \w+)?\s*,\s*)*(?:\w+ ){0,2}(?:or|nor)\b"
)
# A negation of something else than being or sounding.
_WITHOUT_DOING: Final = re.compile(
    r"\bwithout (?!sound|seem|be|show|feel|gett|betray|express|becom|appear|reveal|convey|display"
    r"|grow|turn|los)\w+ing\b"
)
# A negation that heightens, or that is of holding back.
_GAIN: Final = re.compile(
    r"(?:couldn't|could not|can't|cannot) (?:be|have been|sound|feel|get) (?:any )?(?:more|(?=\w+ier))"
    r"|(?:\bnever|n't|\bnot|\brarely|\bseldom)(?: ever)? (?:been|sounded|felt|seemed)(?: quite)?"
    r" (?:so|more|this|(?=\w+ier))"
    r"|\bnever (?:has|have|had) \w+ (?:been|sounded|felt|seemed) (?:so|more|this|(?=\w+ier))"
    r"|(?:can't|cannot|couldn't|could not|unable to|fail(?:s|ed)? to) keep\b"
    r"|\b(?:try|tries|trying|tried|struggl\w+|fight\w*|fought|striv\w+) not to\b"
    r"|(?:n't|\bnot|\bnever|\bhardly)(?: be| have been)? (?:wrong|inaccurate|incorrect|false|misleading"
    r"|a mistake|an error) to \w+"
    r"|\bmore than(?: a little| just| merely)?\b"
    r"|\b(?:barely|hardly|scarcely) (?:audible|able|awake|above|paus|breath|dar|mov|wait|believ)\w*"
)
_UNHIDDEN: Final = (
    r"(?:n't|\b(?:not|cannot|never|no longer|fail(?:s|ed|ing)? to|unable to|without|no|hardly|barely"
    r"|scarcely))(?: (?:quite|fully|entirely|really|even|ever|completely|being able to|be able to"
    r"|able to|possibly|manage to|way to|attempt to|effort to|use))* <unhidden>"
)
# After the word: it is gone.
_GONE: Final = re.compile(
    r"[^,]{0,24}?\b(?:(?:is|are|was|were|seems?|remains?) (?:\w+ )?(?:absent|missing|lacking|gone|nowhere)"
    r"|(?:has|have|had) (?:\w+ )?(?:vanished|faded|disappeared|gone|evaporated|subsided|passed|lifted"
    r"|left (?:her|him|them)|melted|ebbed)"
    r"|(?:vanish|disappear|evaporat|subsid|fad)(?:es|ed|ing)?\b|(?:melts|ebbs|drains) away|wears off"
    r"|never (?:comes?|shows?|surfaces?|appears?|enters?|creeps?)"
    r"|(?:is|are|does|do|can|could)(?:n't| not) (?:\w+ )?(?:present|audible|heard|detectable|there|evident"
    r"|apparent|detected|show|come|creep|enter|appear))|\s*-?free\b"
)
_BESIDE: Final = re.compile(
    r"[\s-]*(?:(?:out|aloud|softly|quietly|loudly|slightly)\s*)?(?:(?:of|with|in|from|out of|at)\s+)?"
    r"(?:(?:a|an|the|his|her|pure|sheer|little|sudden|kind of|sort of)\s+)?"
)
_FEELINGS: Final = r"<negations>[\s,]+(?:<quantities>[\s,]+){0,8}<feelings>"

# Of somebody or something else.
_CLAUSE: Final = re.compile(
    r",|\b(?:while|whereas|but|although|though)\b|\bas (?=(?:the|a|an|other|his|her|someone|people|fans"
    r"|children)\b)|\band (?=(?:he|she)\b)|\bover (?=(?:the|a)\b)"
)
_DETERMINERS: Final = (
    r"(?:(?:the|a|an|his|her|their|its|some|one|several|many|two|three|another|any|every|all|this|that"
    r"|these|those|very|deeply|clearly|visibly|rather|small|young|little|old|elderly|newly|so|most|group"
    r"|of)\s+)*"
)
_THING: Final = (
    r"\s+(?:(?!(?:of|in|and|as|with|to|at|about|by|when|while|for|on|the|a|his|her|over|from)\b)\w+\s+)?"
    r"<things>"
)
_SUBJECT: Final = (
    r"\s*(?:(?:even|and|with|over|as|where|in which|there is|there are|though|by|a few|group of)\s+)*"
    + _DETERMINERS
    + r"(?:(?!(?:man|woman|boy|girl|speaker|voice|he|she|mother|father|narrator|host)\b)\w+\s+)?"
    r"(?:<outsiders>|(?:his|her|their)\s+<kin>)\b(?!['-])"
)
_SPEAKER: Final = re.compile(r"\b(?:he|she|speaker|voice|tone)\b")
_COMPANY: Final = (
    r"\b(?:his|her|their|other) <kin>(?: \w+)? (?:(?:who|that) )?(?:is|are|was|were|be|feels?|seems?"
    r"|sounds?|becomes?|looks?|grows?|to be)\s(?:\w+ ){0,2}$"
    r"|\b(?:makes?|making|made|leaves?|leaving|left|gets?) (?:everyone|everybody|others|people"
    r"|(?:the|his|her) \w+|listeners)(?: \w+){0,2} $"
)
_CONTENT: Final = (
    r"<things>(?: (?:that|which) \w+)? (?:full of|filled with|brimming with|of) (?:\w+ )?$"
)
_ADDRESSED: Final = r"<addressees>\s+" + _DETERMINERS + r"(?:\w+(?:,| and| but)? )?$"
_PERSON: Final = r"\s+(?:(?:and|,)?\s*\w+\s+)?<persons>\b"
_WHO: Final = (
    r"<addressees>\s+"
    + _DETERMINERS
    + r"(?:\w+ ){0,2}(?:who|that) (?:is|are|was|were|feels?|seems?"
    r"|sounds?|looks?) (?:\w+ )?$"
)
_REPORTED: Final = (
    r"<reports>(?:,[^,]*,)?(?: \w+){0,3} (?:that|how|why)\b"
    r"(?! (?:he|she) (?:is|was|feels?|felt|sounds?)\b)[^,]*$"
)
_POLITE: Final = re.compile(r"\b(?:would|will|'d|'ll) (?:be|feel) (?:\w+ )?$")
_TOPIC: Final = r"<topics>((?:(?!<topics>).)*)$"
# Inside a topic: from here on it is said how.
_MANNER: Final = re.compile(
    r"\b(?:in an?|in his|in her|with|using|while|and (?:sounds?|seems?|is|laughs?)|as|so|through|until"
    r"|sounding|seeming|growing|becoming|clearly|obviously|getting)\b"
)
_ADVERB: Final = re.compile(r"\w+ly\Z")


def english_emotions(text: str) -> Iterator[str]:
    """The speaker's emotions in a folded, lower-case text, in its order, repeats among them."""
    begin = 0
    for end in [*(match.end() for match in _SENTENCE.finditer(text)), len(text)]:
        yield from _sentence(text[begin:end])
        begin = end


def _sentence(text: str) -> Iterator[str]:
    found = lexicon("english").mentions(text)
    cued = blank(rule("english", "<affirmations>"), text)
    for pattern in (_GAIN, _WITHOUT_DOING, rule("english", _UNHIDDEN)):
        cued = blank(pattern, cued)
    events = denied_feelings(rule("english", _FEELINGS), cued, found)
    otherwise = _OTHER_CAUSE.search(cued) is not None
    for mention in found:
        left = cued[max(0, mention.start - _REACH) : mention.start]
        right = cued[mention.end : mention.end + _REACH]
        if mention.sign and (otherwise or explained(mention, found, _BESIDE, text)):
            continue
        if not (_denied(left, right) or _not_the_speakers(left, right, mention, text)):
            events.append((mention.start, mention.emotion))
    return in_order(events)


def _denied(left: str, right: str) -> bool:
    ends = (match.end() for pattern in (_ENDS, _INSTEAD) for match in pattern.finditer(left))
    start = max(ends, default=0)
    for match in re.finditer(",", left):
        if match.end() > start and not _LIST.match(f"{left[match.end() :]}this{right}"):
            start = match.end()
    reach = left[start:]
    cues = list(rule("english", _CUES).finditer(reach))
    if re.search(r"\bso much\b.*\bas\b|\bless\b.*\bthan\b", reach):
        return False  # "not so much angry as sad", "less angry than sad"
    if re.search(r"\bmore\b.*\bthan (?:\w+ ){0,2}$", reach):
        return True
    if re.search(r"\bless\b(?: \w+){0,2} $", reach) and re.match(r"[^,]*\bthan\b", right):
        return True
    if cues and not (len(cues) > 1 and cues[-1].group() == "without"):
        return True
    if _IF.search(left) and rule("english", _UNSEEN).match(right):
        return True
    return bool(_GONE.match(right))


def _not_the_speakers(left: str, right: str, mention: Mention, text: str) -> bool:
    if not mention.sign and rule("english", _THING).match(right):
        return True
    clause = _CLAUSE.split(left)[-1]
    if rule("english", "<places>").search(_CLAUSE.split(right)[0]):
        return True
    if rule("english", _SUBJECT).match(clause) and not _SPEAKER.search(clause):
        return True
    if any(rule("english", some).search(clause) for some in (_COMPANY, _WHO, _CONTENT)):
        return True
    if rule("english", _ADDRESSED).search(clause) and rule("english", _PERSON).match(right):
        return True
    if rule("english", _REPORTED).search(left):
        return True
    if _POLITE.search(clause) and re.match(r"\s+(?:to|if|for)\b", right):
        return True
    topic = rule("english", _TOPIC).search(clause)
    if topic is None or _MANNER.search(topic[1]):
        return False
    last = re.match(r"\s*(?:[,.]|$)", right) is not None
    return not (last and topic[1].strip() and _ADVERB.search(text[: mention.end]))
