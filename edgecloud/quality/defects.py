"""What is wrong with a caption beyond how close it is to its references.

A scorer takes each of these for a poor caption; counted apart they say what to mend.

===================  ==================================================================
``chat_leakage``     the model went on with the conversation: "Human", "Assistant", role tags,
                     an offer of help or a question to the user
``wrong_language``   the text is in the other language
``repetition_loop``  the same words over and over
``truncated``        the token limit ended the text, not the model
``empty``            no text
===================  ==================================================================
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from edgecloud.contracts import Language
from edgecloud.quality.language import detect_language
from edgecloud.quality.tokenise import normalise, segment

__all__ = ["DEFECTS", "defects_of", "is_chat_leakage", "is_loop", "is_wrong_language"]

DEFECTS: Final = ("chat_leakage", "wrong_language", "repetition_loop", "truncated", "empty")

_ROLE_TAGS: Final = re.compile(
    r"<\|(?:im_start|im_end|endoftext|user|assistant|system)\|?>?|\[/?INST\]|<</?SYS>>"
    # A role's name that opens the text, a sentence or a line and is followed by a colon.
    r"|(?:^|[\n.!?。！？\"”'])\s*(?:Human|User|Assistant|System|用户|助手|人类|系统)\s*[:：]"
    # The names as they leak where the tags around them were not shown; "human voice" is no leak.
    r"|(?-i:(?<![A-Za-z])(?:Human|Assistant)(?!\s+[a-z]|[a-z]))"
    r"|(?:^|\n)\s*(?:user|assistant|system)\s*(?:\n|$)",
    re.IGNORECASE | re.MULTILINE,
)
_OFFERS: Final = re.compile(
    r"(?:is there anything else|anything else (?:i|you)|how (?:can|may) i (?:help|assist)"
    r"|(?:do|would|did|are|have) you (?:have|like|want|need|think|agree|know|interested|noticed|ever)"
    r"\b[^.!]*\?|what (?:do|would) you (?:think|like)|(?:please )?(?:feel free|let me know)"
    r"|if you have any (?:other|more|further)|(?:i'm|i am) (?:sorry|an? (?:ai|language model))"
    r"|as an ai\b)",
    re.IGNORECASE,
)
_OFFERS_ZH: Final = re.compile(
    "(?:如果|要是)?(?:你|您)(?:还|还有|有|要是)?(?:什么|任何|其他|别的|更多)?[^。！？]{0,12}(?:随时|尽管)[^。！？]{0,6}(?:告诉|问|联系|提)"
    "|(?:你|您)(?:觉得|认为|想|还想|能|可以|知道|有没有|有什么|还有)[^。！]{0,24}[?？]"
    "|(?:还有|有)(?:什么|其他|别的)[^。！]{0,12}(?:吗|呢)?[?？]"
    "|有什么(?:可以|能)(?:帮|为)|作为(?:一个|一名)?(?:AI|人工智能|语言模型)|很高兴(?:能)?(?:为您|帮助)|希望(?:这|以上|对)[^。！？]{0,10}(?:有帮助|有所帮助)",
    re.IGNORECASE,
)

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
        "empty": not normalise(text),
    }


def is_chat_leakage(text: str) -> bool:
    """The text holds a role's name or tag, an offer of help, or a question to the user.

    A literal ``<|im_end|>`` at the very end is the model's full stop, not leakage.
    """
    text = text.strip().removesuffix("<|im_end|>")
    return any(pattern.search(text) for pattern in (_ROLE_TAGS, _OFFERS, _OFFERS_ZH))


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
