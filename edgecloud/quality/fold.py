"""One form for what is written in several, before anything reads a text: quotes, full-width forms,
what has no width, and, where a lexicon is asked, traditional Chinese characters."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from opencc import OpenCC

__all__ = ["HAN", "Script", "fold", "script_of", "simplified"]

Script = Literal["simplified", "traditional"]

HAN: Final = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f]")

_QUOTES: Final = str.maketrans(
    {**dict.fromkeys("‘’‚‛ʼ′＇´`｀", "'"), **dict.fromkeys("“”„‟″＂", '"')}
)
# Corner brackets are quotes; of those within others the inner ones are single.
_CORNERS: Final = re.compile("「[^」]*」|『[^』]*』")
_INNER: Final = str.maketrans(dict.fromkeys("「」『』", "'"))
_OUTER: Final = str.maketrans(dict.fromkeys("「」『』", '"'))
# Soft hyphens, zero-width spaces and joiners, marks of direction, byte order marks.
_NO_WIDTH: Final = re.compile(
    "[\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]"
)
_FULL_WIDTH: Final = {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
# In Chinese these are the marks themselves, not another form of the narrow ones.
_MARKS: Final = "，！？：；（）～"
_NARROW: Final = str.maketrans(_FULL_WIDTH)
_NARROW_CHINESE: Final = str.maketrans({c: n for c, n in _FULL_WIDTH.items() if c not in _MARKS})


def fold(text: str) -> str:
    """``text`` with plain quotes and apostrophes for typographic ones, backticks and corner brackets,
    ASCII for its full-width forms, and nothing for characters without width. In a text with Chinese
    characters the clause marks stay, being its own.

    >>> fold("She isn’t “ｈａｐｐｙ”")
    'She isn\\'t "happy"'
    >>> fold("他说“ＯＫ”，很开心")
    '他说"OK"，很开心'
    >>> fold("她说「好」，isn`t")
    '她说"好"，isn\'t'
    """
    if text.isascii():
        return text.replace("`", "'")
    text = _CORNERS.sub(_plain_corners, _NO_WIDTH.sub("", text)).translate(_OUTER)
    return text.translate(_QUOTES).translate(_NARROW_CHINESE if HAN.search(text) else _NARROW)


def _plain_corners(match: re.Match[str]) -> str:
    return f'"{match.group()[1:-1].translate(_INNER)}"'


@lru_cache(maxsize=65536)
def simplified(text: str) -> str:
    """``text`` in simplified characters, by OpenCC's character and phrase tables of Taiwan.

    >>> simplified("憤怒地大聲喊叫，十分著急")
    '愤怒地大声喊叫，十分着急'
    """
    return str(_opencc("tw2s").convert(text)) if HAN.search(text) else text


@lru_cache(maxsize=65536)
def script_of(text: str) -> Script | None:
    """The script that more of the characters are of; ``None`` where none is of one script alone.

    >>> script_of("語氣平靜"), script_of("语气平静"), script_of("心平")
    ('traditional', 'simplified', None)
    """
    if not HAN.search(text):
        return None
    traditional, simple = (
        sum(before != after for before, after in zip(text, _opencc(to).convert(text), strict=False))
        for to in ("t2s", "s2t")
    )
    if traditional == simple:
        return None
    return "traditional" if traditional > simple else "simplified"


@cache
def _opencc(conversion: str) -> OpenCC:
    from opencc import OpenCC  # a third of a second to import; needed for Chinese alone

    return OpenCC(conversion)
