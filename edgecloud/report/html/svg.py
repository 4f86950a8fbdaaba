"""matplotlib figures as SVG that belongs to a page: its colours are the page's, its text is text.

Figures are drawn with stand-in colours, one for each role of :mod:`edgecloud.report.html.theme`,
which then become ``var(--role)``: the same drawing is right in the light and the dark theme.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from io import StringIO
from typing import Any, Final

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from edgecloud.report.html.theme import LIGHT

__all__ = ["color", "figure", "of_arm", "style", "to_svg"]

_ROLES: Final = tuple(LIGHT)
_STAND_IN: Final = "#fe01"
_ARM: Final = "arm-"
FONT_PT: Final = 8.5


def color(role: str) -> str:
    """The stand-in for a role's colour."""
    return f"{_STAND_IN}{_ROLES.index(role):02x}"


def of_arm(number: int) -> str:
    """The ``gid`` of what is drawn for the series of this number: a class on the page, which hides it."""
    return f"{_ARM}{number}"


@contextmanager
def style() -> Iterator[None]:
    """Inside, figures are drawn the page's way."""
    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "edgecloud",
        "text.parse_math": False,  # a name may hold a dollar sign
        "font.size": FONT_PT,
        "axes.labelsize": FONT_PT,
        "axes.titlesize": FONT_PT,
        "xtick.labelsize": FONT_PT,
        "ytick.labelsize": FONT_PT,
        "text.color": color("ink"),
        "axes.labelcolor": color("muted"),
        "axes.edgecolor": color("control"),
        "xtick.color": color("control"),
        "ytick.color": color("control"),
        "xtick.labelcolor": color("muted"),
        "ytick.labelcolor": color("muted"),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.facecolor": "none",
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": color("rule"),
        "grid.linewidth": 0.6,
        "axes.linewidth": 0.7,
        "xtick.major.width": 0.7,
        "ytick.major.width": 0.7,
        "axes.unicode_minus": True,
    }
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # The reader's own fonts draw the text; matplotlib's need not have every glyph.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def figure(width: float, height: float) -> Figure:
    """An empty figure of ``width`` by ``height`` inches, on no ground. Use it inside :func:`style`."""
    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(made)
    made.patch.set_alpha(0.0)
    return made


def to_svg(drawn: Figure, *, name: str, title: str, description: str) -> str:
    """The ``<svg>`` element, to stand in HTML. Its ids begin with ``name``; ``title`` and
    ``description`` are what a screen reader says in its place."""
    buffer = StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    drawn.savefig(buffer, format="svg", metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", text, count=1, flags=re.DOTALL)
    text = re.sub(
        rf"{_STAND_IN}([0-9a-f]{{2}})",
        lambda found: f"var(--{_ROLES[int(found[1], 16)]})",
        text,
    )
    text = re.sub(rf'\bid="({_ARM}\d+)"', r'class="\1"', text)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\1{name}-", text)
    text = re.sub(r"font:\s*([\d.]+px)[^;\"]*", r"font-size: \1", text)
    text = re.sub(r"font-family:[^;\"]*;?\s*", "", text)
    head, rest = text.split(">", 1)
    head = re.sub(r'\s(width|height|version)="[^"]*"', "", head)
    return (
        f'{head} role="img" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{escape(title)}</title>'
        f'<desc id="{name}-d">{escape(description)}</desc>{rest.strip()}'
    )
