"""Texts of reports, in English and Chinese."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, Literal, get_args

from edgecloud.quality.metric import values
from edgecloud.report.words.interface import INTERFACE
from edgecloud.report.words.labels import LABELS, MISMATCHES, NOTES
from edgecloud.report.words.sentences import SENTENCES

__all__ = ["REPORT_LANGUAGES", "Texts", "UiLanguage"]

UiLanguage = Literal["en", "zh"]
REPORT_LANGUAGES: Final[tuple[str, ...]] = get_args(UiLanguage)
_MOST_NAMED: Final = 5
_TEXTS: Final = {**INTERFACE, **SENTENCES}


def _score_labels() -> dict[str, str]:
    """Chinese for what tables call the scores, and for what is compared of them, by the English."""
    found: dict[str, str] = {}
    for value in values().values():
        english, chinese = value.label("english"), value.label("chinese")
        space = " " if chinese[-1:].isascii() else ""
        found[english] = chinese
        found[f"{english} minus edge"] = f"{chinese} − 端侧"
        found[f"{english} minus cloud"] = f"{chinese} − 云端"
        found[f"{english} gap closed"] = f"{chinese}{space}差距弥合比例"
    return found


class Texts:
    """The words of one report language: ``texts("key", n=3)``; ``en`` or ``zh``."""

    def __init__(self, language: UiLanguage) -> None:
        self.language = language
        self._index = REPORT_LANGUAGES.index(language)

    def __call__(self, key: str, **values: object) -> str:
        """The text of a key, with its placeholders filled. Raises ``KeyError`` for an unknown key."""
        return _TEXTS[key][self._index].format(**values)

    def label(self, label: str) -> str:
        """The name of a row, block or series; English ones stand for themselves."""
        if self.language == "en":
            return label
        return LABELS.get(label) or _score_labels().get(label, label)

    def arm(self, name: str) -> str:
        """The name of a series, which may carry its run's name in brackets."""
        if self.language == "en":
            return name
        name = re.sub(r"(?<=[(, ])modelled: ", "推算：", name)
        name = re.sub(r"(?<=[( ])wall(?=[,)])", "墙钟", name)
        if name.startswith("spec"):
            return "推测" + name.removeprefix("spec")
        head, space, rest = name.partition(" ")
        return LABELS.get(head, head) + space + rest

    def listed(self, parts: Iterable[str]) -> str:
        """The parts of a list in a sentence."""
        return (", " if self.language == "en" else "、").join(parts)

    def arms(self, names: Sequence[str], *, of: int) -> str:
        """Names of some series ``of`` so many, for a sentence; of more than five the first three and the number of
        the others."""
        if len(names) > _MOST_NAMED and len(names) == of:
            return self("arms_all", n=of)
        shown = names if len(names) <= _MOST_NAMED else names[:3]
        joined = self.listed(map(self.arm, shown))
        return joined if shown is names else self("arms_many", names=joined, n=len(names) - 3)

    def clock(self, name: str) -> str:
        """The name of a clock: ``wall``, or ``modelled: `` with its profile."""
        kind, colon, profile = name.partition(": ")
        return self.label(kind) + (
            ("：" if self.language == "zh" else ": ") + profile if colon else ""
        )

    def note(self, note: str) -> str:
        """A reason that a result gives. Results speak English; common reasons are translated."""
        if self.language == "zh":
            if found := re.fullmatch(r"not comparable with (.+?): (different .+)", note):
                words = found[2].replace("; ", "；")
                for english, chinese in MISMATCHES.items():
                    words = words.replace(f"{english} (", f"{chinese} (")
                return f"与 {self.arm(found[1])} 不可比：{words}"
            for pattern, translation in NOTES:
                if found := re.fullmatch(pattern, note):
                    return found.expand(translation)
        return note

    def starting(self, *prefixes: str) -> dict[str, str]:
        """All texts whose keys begin so, unfilled: what the page's script says."""
        return {key: both[self._index] for key, both in _TEXTS.items() if key.startswith(prefixes)}
