"""The page's colours, by role, in a light and a dark theme.

Text colours reach a contrast of 4.5 on their ground, marks of 3 (WCAG 2.2 AA); a test computes both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

__all__ = [
    "ARM_ROLES",
    "DARK",
    "LIGHT",
    "MARKS",
    "ORIGINS",
    "Look",
    "contrast",
    "looks",
    "role_of_arm",
]

LIGHT: Final[dict[str, str]] = {
    "ground": "#ffffff",
    "panel": "#f6f7f9",
    "ink": "#1b1d22",
    "muted": "#5a606b",
    "rule": "#d8dce3",
    "control": "#858c99",
    "accent": "#1d4fb8",
    "warn": "#8a4b00",
    "fail": "#b3261e",
    "edge": "#b0580a",
    "cloud": "#7a3fb5",
    "spec-1": "#0b7a70",
    "spec-2": "#1d5fd0",
    "spec-3": "#a8246b",
    "spec-4": "#566b00",
    "spec-5": "#8a5a44",
    "spec-6": "#50617a",
    "verify": "#2c7396",
    "verified": "#0b7a45",
    "corrected": "#bb2a1f",
    "bonus": "#1d5fd0",
}
DARK: Final[dict[str, str]] = {
    "ground": "#14161a",
    "panel": "#1d2026",
    "ink": "#e7e9ed",
    "muted": "#a3a9b5",
    "rule": "#343943",
    "control": "#747c8a",
    "accent": "#8fb4ff",
    "warn": "#eab267",
    "fail": "#ff8f85",
    "edge": "#eda04e",
    "cloud": "#c99bf5",
    "spec-1": "#45c2b4",
    "spec-2": "#7fadff",
    "spec-3": "#f08cbf",
    "spec-4": "#b5cc4f",
    "spec-5": "#d6a68f",
    "spec-6": "#a5b6cf",
    "verify": "#63c0e4",
    "verified": "#5cc78f",
    "corrected": "#ff8a7e",
    "bonus": "#7fadff",
}
ORIGINS: Final = ("edge", "verified", "corrected", "bonus", "cloud")
ARM_ROLES: Final = ("edge", "cloud", *(f"spec-{number}" for number in range(1, 7)))


def role_of_arm(name: str, specs: list[str]) -> str:
    """The role that gives a series its colour: the same series has one colour all over the page."""
    if name in specs:
        return f"spec-{specs.index(name) % 6 + 1}"
    return "cloud" if name.startswith("cloud") else "edge"


MARKS: Final = 4
"""Shapes of a mark, and ways to draw a line: where series share a colour, these tell them apart."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a series is shown all over the page: its ``role``'s colour, one of :data:`MARKS` shapes, and the number that
    stands for its name where there is no room for it."""

    role: str
    mark: int
    number: int


def looks(arms: Sequence[str], specs: list[str]) -> dict[str, Look]:
    """The look of each of a group's series. Colours come again after six, with another mark each time, so that 24
    series that speculate, and four of edge and of cloud alone, are all different.

    >>> [(look.role, look.mark) for look in looks(["edge", "edge (b)", "cloud"], []).values()]
    [('edge', 0), ('edge', 1), ('cloud', 0)]
    """
    seen: Counter[str] = Counter()
    found = {}
    for number, arm in enumerate(arms, start=1):
        role = role_of_arm(arm, specs)
        found[arm] = Look(role, seen[role] % MARKS, number)
        seen[role] += 1
    return found


def contrast(first: str, second: str) -> float:
    """The contrast ratio of two ``#rrggbb`` colours as WCAG defines it, 1 to 21.

    >>> round(contrast("#000000", "#ffffff"))
    21
    """
    lighter, darker = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(color: str) -> float:
    channels = (int(color[start : start + 2], 16) / 255 for start in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
