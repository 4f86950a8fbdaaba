"""matplotlib figures as SVG that belongs to a page: its colours are the page's, its text is text.

Figures are drawn with stand-in colours, one for each role of :mod:`edgecloud.report.html.theme`,
which then become ``var(--role)``: the same drawing is right in the light and the dark theme.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from io import StringIO
from typing import TYPE_CHECKING, Any, Final

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from edgecloud.report.html.theme import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FIXED", "color", "figure", "of_arm", "rows", "style", "to_svg"]

_ROLES: Final = tuple(LIGHT)
_STAND_IN: Final = "#fe01"
_ARM: Final = "arm-"
FIXED: Final = "fixed"
"""The ``gid`` of what stays above a figure's rows where some of them are hidden: a class on the page."""
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


def rows(drawn: Figure, numbers: Sequence[int]) -> tuple[list[Axes], Axes]:
    """Axes for the series of these numbers, one under another, and the axes under them whose one scale is that of
    all: it stays where a series is hidden."""
    *found, last = drawn.subplots(
        len(numbers) + 1, 1, sharex=True, squeeze=False, height_ratios=[1] * len(numbers) + [0.001]
    )[:, 0]
    for axes, number in zip(found, numbers, strict=True):
        axes.set_gid(of_arm(number))
        axes.tick_params(axis="x", length=0)
    last.spines["left"].set_visible(False)
    last.set_yticks([])
    return found, last


def to_svg(
    drawn: Figure, *, name: str, title: str, description: Mapping[int, str], stacked: bool = False
) -> str:
    """The ``<svg>`` element, to stand in HTML. Its ids begin with ``name``; ``title`` and
    ``description``, by the number of the series, are what a screen reader says in its place. A figure of :func:`rows`
    is ``stacked``: the page closes the gaps of hidden ones by its ``data-pitch``, the height of a row.
    """
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
    text = text.replace(f'id="{name}-{FIXED}"', f'class="{FIXED}"')
    head, rest = text.split(">", 1)
    head = re.sub(r'\s(width|height|version)="[^"]*"', "", head)
    if stacked:
        first, second = (axes.get_position().y0 for axes in drawn.axes[:2])
        head += f' data-pitch="{(first - second) * drawn.get_figheight() * 72:.2f}"'
    said = "".join(
        f'<span class="{of_arm(number)}">{escape(text)}; </span>'
        for number, text in description.items()
    )
    return (
        f'{head} role="img" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{escape(title)}</title>'
        f'<desc id="{name}-d">{said}</desc>{rest.strip()}'
    )
