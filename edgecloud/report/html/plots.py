"""The page's figures of quality, latency and cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from edgecloud.quality.metric import values
from edgecloud.report.comparison import Group
from edgecloud.report.html import svg
from edgecloud.report.html.svg import color
from edgecloud.report.html.theme import Look, looks
from edgecloud.report.paired import qualities
from edgecloud.report.summary import headline, number
from edgecloud.report.texts import Texts
from edgecloud.results.histogram import EDGES_S

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Figure", "by_clock", "distributions", "tradeoffs"]

_WIDTH, _HEIGHT = 3.9, 2.75
_TIMES = ("total_time", "ttft", "tpot")
_LINES: Final[tuple[Any, ...]] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (4, 1.2, 1, 1.2)))
_SHAPES = ("o", "s", "D", "^")
_MOST_NAMED = 5
"""Marks that are named where they lie; of more, each has its number there and its name in the legend."""
_LONGEST_NAMED = 24


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawn figure: ``name`` is its id on the page and, with ``.svg``, its file."""

    name: str
    title: str
    svg: str
    note: str = ""


def tradeoffs(group: Group, texts: Texts, *, prefix: str) -> list[Figure]:
    """Quality against latency, the size of a mark being the cloud's busy time; one for each quality and
    each clock."""
    found = []
    for name, label in qualities(group.arms).items():
        heading = f"{texts('fig_tradeoff')}: {texts.label(label)}".replace(
            ": ", ": " if texts.language == "en" else "："
        )
        for own, clock, arms in by_clock(group, texts, prefix):
            points = [point for arm in arms if (point := _point(group, arm, name)) is not None]
            if points:
                title = heading + clock
                found.append(
                    _tradeoff(points, texts, name=name, label=label, title=title, prefix=own)
                )
    return found


def distributions(group: Group, texts: Texts, *, prefix: str) -> list[Figure]:
    """For each latency and each clock a histogram over the fixed bins, series under series, and the ECDFs in
    one figure."""
    found = []
    for name in _TIMES:
        for own, clock, arms in by_clock(group, texts, prefix):
            columns = {arm: list(group.arms[arm].per_sample(name).values()) for arm in arms}
            columns = {arm: values for arm, values in columns.items() if values}
            if columns:
                found += [
                    draw(group, columns, texts, name=name, clock=clock, prefix=own)
                    for draw in (_histogram, _ecdf)
                ]
    return found


def by_clock(
    group: Group, texts: Texts, prefix: str, arms: Sequence[str] | None = None
) -> list[tuple[str, str, list[str]]]:
    """For each clock: a prefix of ids, an end of titles, and the series that it timed: times of two clocks
    share no axis. With one clock the prefix is ``prefix`` and the end is empty."""
    wanted = group.arms if arms is None else arms
    clocks = {
        clock: timed
        for clock, all_timed in group.clocks().items()
        if (timed := [arm for arm in all_timed if arm in wanted])
    }
    several = len(clocks) > 1
    return [
        (
            f"{prefix}-{number}" if number else prefix,
            texts("of_clock", clock=texts.clock(clock)) if several else "",
            timed,
        )
        for number, (clock, timed) in enumerate(clocks.items())
    ]


_ALONE = Look("edge", 0, 1)


@dataclass(frozen=True, slots=True)
class _Point:
    arm: str
    ink: str
    time: float
    quality: float
    times: tuple[float, float]
    qualities: tuple[float, float]
    busy: float
    look: Look = _ALONE


def _point(group: Group, arm: str, name: str) -> _Point | None:
    result = group.arms[arm]
    time, quality = headline(result, "total_time"), headline(result, name)
    if time.estimate is None or quality.estimate is None:
        return None
    busy = result.metrics.value("cost_metrics.cloud_busy_time_mean") or 0.0
    look = looks(list(group.arms), group.specs)[arm]
    return _Point(
        arm,
        color(look.role),
        time.estimate,
        quality.estimate,
        (time.low or time.estimate, time.high or time.estimate),
        (
            quality.estimate if quality.low is None else quality.low,
            quality.high or quality.estimate,
        ),
        busy,
        look,
    )


def _tradeoff(
    points: Sequence[_Point], texts: Texts, *, name: str, label: str, title: str, prefix: str
) -> Figure:
    most = max(point.busy for point in points) or 1.0
    with svg.style():
        drawn = svg.figure(_WIDTH, _HEIGHT)
        axes = drawn.add_subplot()
        for point in points:
            gid, shape = svg.of_arm(point.look.number), _SHAPES[point.look.mark]
            axes.vlines(point.time, *point.qualities, color=point.ink, linewidth=0.9, gid=gid)
            axes.hlines(point.quality, *point.times, color=point.ink, linewidth=0.9, gid=gid)
            at = ([point.time], [point.quality])
            disc = axes.scatter(
                *at, s=_disc(point, most), color=point.ink, alpha=0.28, linewidths=0
            )
            disc.set_gid(gid)
            axes.scatter(*at, s=16, color=point.ink, linewidths=0, marker=shape, gid=gid, zorder=3)
        # Time from 0, so that distances along it are ratios that one can see.
        axes.set_xlim(0, max(point.times[1] for point in points) * 1.42)
        axes.margins(y=0.22)
        extent = values()[name].range
        if extent is not None:  # a share: no room below 0 and above 1
            (low, high), (bottom, top) = extent, axes.get_ylim()
            room = 0.06 * (high - low)
            axes.set_ylim(max(bottom, low - room), min(top, high + room))
        if not _label(axes, points, texts, most=most):
            _number(drawn, axes, points, texts)
        axes.set_xlabel(texts("mean_total_time"))
        axes.set_ylabel(texts("mean_quality", name=texts.label(label)))
        description = {
            point.look.number: f"{texts.arm(point.arm)}: {number(point.time)} s ({_ends(point.times)}), "
            f"{number(point.quality)} ({_ends(point.qualities)}), " + _busy_text(point.busy, texts)
            for point in points
        }
        figure_id = f"{prefix}-tradeoff-{name}"
        text = svg.to_svg(drawn, name=figure_id, title=title, description=description)
    return Figure(figure_id, title, text, texts("fig_tradeoff_note", level="95%"))


def _number(drawn: Any, axes: Axes, points: Sequence[_Point], texts: Texts) -> None:
    """Give each mark its series' number, where it lies on no other; a legend above, for which the figure grows, has
    the names."""
    names = {p.arm: (p.look, f"{p.look.number} {texts.arm(p.arm)}") for p in points}
    drawn.set_size_inches(_WIDTH, _HEIGHT + _legend_in([name for _, name in names.values()]))
    _legend(drawn, names, marks=True)
    drawn.draw_without_rendering()  # lays the axes out
    for point, (across, up) in zip(points, _spots(axes, points), strict=True):
        far = math.hypot(across, up) > _NEAR_PT
        gid = svg.of_arm(point.look.number)
        said = axes.annotate(
            str(point.look.number),
            (point.time, point.quality),
            xytext=(across, up),
            textcoords="offset points",
            ha="center",
            va="center",
            color=point.ink,
            gid=gid,
            arrowprops={"arrowstyle": "-", "color": point.ink, "linewidth": 0.5} if far else None,
        )
        if said.arrow_patch is not None:
            said.arrow_patch.set_gid(gid)


_NEAR_PT = 12.0
"""A number that is farther from its mark has a line to it."""
_RINGS_PT = tuple(range(9, 130, 7))
_TURNS = (45, 0, -45, 90, -90, 135, 180, -135)


def _spots(axes: Axes, points: Sequence[_Point]) -> list[tuple[float, float]]:
    """Points to the right of and above each mark where its number lies on no mark, no other number, and where there is
    room no interval, as near as can be."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    box, pt = axes.get_window_extent(), 72 / axes.figure.dpi
    width, height = box.width * pt, box.height * pt
    marks = [((p.time - left) / (right - left), (p.quality - low) / (high - low)) for p in points]

    def around(x: float, y: float, wide: float, tall: float) -> Box:
        across, up = wide / 2 / width, tall / 2 / height
        return x - across, y - up, x + across, y + up

    taken = [around(*mark, 6.0, 6.0) for mark in marks]
    lines = [
        box for p, (x, y) in zip(points, marks, strict=True) for box in _intervals(p, x, y, axes)
    ]
    steps = [
        (ring * math.cos(math.radians(turn)), ring * math.sin(math.radians(turn)))
        for ring in _RINGS_PT
        for turn in _TURNS
    ]
    found = []
    for point, (x, y) in zip(points, marks, strict=True):
        wide = len(str(point.look.number)) * _LETTER_PT + 3.0
        boxes = [around(x + a / width, y + u / height, wide, _LINE_PT) for a, u in steps]
        best = min(
            range(len(boxes)),
            key=lambda n: (_overlap(boxes[n], taken) > 0, _shared(boxes[n], lines) > 0, n),
        )
        taken.append(boxes[best])
        found.append(steps[best])
    return found


def _intervals(point: _Point, x: float, y: float, axes: Axes) -> list[Box]:
    """Boxes of the lines of a mark's intervals, in shares of the axes."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    begin, end = ((time - left) / (right - left) for time in point.times)
    bottom, top = ((quality - low) / (high - low) for quality in point.qualities)
    return [(x - 0.002, bottom, x + 0.002, top), (begin, y - 0.002, end, y + 0.002)]


def _ends(interval: tuple[float, float]) -> str:
    return " – ".join(map(number, interval))


def _letters(text: str) -> int:
    """The width of a text in Latin letters: a Chinese character is about as wide as two."""
    return sum(1 + (ord(character) > 0x2E80) for character in text)


_LEGEND_ROW_IN = 0.165


def _legend_columns(names: Sequence[str]) -> int:
    """Number of names side by side in a figure's legend."""
    letters = max(map(_letters, names)) + 9
    return max(1, min(len(names), 4, int(72 * _WIDTH / (letters * _LETTER_PT))))


def _legend_in(names: Sequence[str]) -> float:
    """Inches that the legend of these names takes above a figure."""
    return math.ceil(len(names) / _legend_columns(names)) * _LEGEND_ROW_IN if names else 0.0


def _legend(drawn: Any, arms: Mapping[str, tuple[Look, str]], *, marks: bool = False) -> None:
    """A legend above a figure: for each series its line or mark, and its name, cut where it is wider than the
    figure."""
    most = int(72 * _WIDTH / _LETTER_PT) - 8
    names = [_cut(name, most) for _, name in arms.values()]
    handles = [
        Line2D(
            [],
            [],
            color=color(look.role),
            linewidth=0 if marks else 1.5,
            linestyle="none" if marks else _LINES[look.mark],
            marker=_SHAPES[look.mark] if marks else None,
            markersize=4,
        )
        for look, _ in arms.values()
    ]
    legend = drawn.legend(
        handles,
        names,
        loc="outside upper left",
        ncols=_legend_columns(names),
        frameon=False,
        handlelength=1.0 if marks else 2.4,
        columnspacing=1.2,
        borderaxespad=0.1,
        labelspacing=0.25,
    )
    for (look, _), line, text in zip(
        arms.values(), legend.legend_handles, legend.get_texts(), strict=True
    ):
        text.set_color(color("ink"))
        for part in (line, text):
            part.set_gid(svg.of_arm(look.number))


def _cut(name: str, most: int) -> str:
    """A name of at most so many letters' width; its middle is left out, for its beginning and end tell it from
    others."""
    if _letters(name) <= most:
        return name
    half = int(len(name) * most / _letters(name) / 2) - 1
    return f"{name[:half]}…{name[-half:]}"


def _disc(point: _Point, most: float) -> float:
    """The area of a mark's disc, square points."""
    return 28 + 420 * point.busy / most


Box = tuple[float, float, float, float]
"""Left, bottom, right, top, in shares of the axes."""

_INSIDE_PT = (0.8 * 72 * _WIDTH, 0.76 * 72 * _HEIGHT)
"""About what the axes' names leave of a figure."""
_LETTER_PT, _LINE_PT = 0.55 * svg.FONT_PT, 1.25 * svg.FONT_PT
_PLACES = ((1, 0), (-1, 0), (1, -1), (-1, -1), (1, 1), (-1, 1), (0, 1), (0, -1))


def _label(axes: Axes, points: Sequence[_Point], texts: Texts, *, most: float) -> bool:
    """Name each mark where its name lies on as little as can be. False where they are too many or too long, or some
    would lie on one another: then nothing is named."""
    lines = [f"{texts.arm(point.arm)}\n{_busy_text(point.busy, texts)}" for point in points]
    if len(points) > _MOST_NAMED or any(
        _letters(texts.arm(point.arm)) > _LONGEST_NAMED for point in points
    ):
        return False
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    width, height = right - left, high - low
    marks = [((p.time - left) / width, (p.quality - low) / height) for p in points]
    taken = [
        box
        for point, (x, y) in zip(points, marks, strict=True)
        for box in _mark_boxes(
            x, y, _disc(point, most), *((end - low) / height for end in point.qualities)
        )
    ]
    names: list[Box] = []
    places = []
    for text, (x, y) in zip(lines, marks, strict=True):
        found = [
            (_overlap(_box(x, y, place, text), [*taken, *names]), n)
            for n, place in enumerate(_PLACES)
        ]
        places.append(_PLACES[min(found)[1]])
        box = _box(x, y, places[-1], text)
        if _shared(box, names):
            return False
        names.append(box)
    for point, text, (x, y), (across, up) in zip(points, lines, marks, places, strict=True):
        axes.text(
            x + across * 0.055,
            y + up * (0.12 if across == 0 else 0.09),
            text,
            transform=axes.transAxes,
            ha={1: "left", -1: "right", 0: "center"}[across],
            va="center",
            color=point.ink,
            linespacing=1.25,
            gid=svg.of_arm(point.look.number),
        )
    return True


def _mark_boxes(x: float, y: float, area_pt: float, bottom: float, top: float) -> list[Box]:
    """Boxes that a mark with its disc, and its interval, cover."""
    across, up = (math.sqrt(area_pt / math.pi) / side for side in _INSIDE_PT)
    return [(x - across, y - up, x + across, y + up), (x - 0.008, bottom, x + 0.008, top)]


def _box(x: float, y: float, place: tuple[int, int], lines: str) -> Box:
    """Box that a label covers at a place beside a mark."""
    letters = max(map(_letters, lines.split("\n")))
    half_w = letters * _LETTER_PT / _INSIDE_PT[0] / 2
    half_h = (lines.count("\n") + 1) * _LINE_PT / _INSIDE_PT[1] / 2
    across, up = place
    middle_x = x + across * (0.055 + half_w)
    middle_y = y + up * (0.12 if across == 0 else 0.09)
    return middle_x - half_w, middle_y - half_h, middle_x + half_w, middle_y + half_h


def _overlap(box: Box, others: Sequence[Box]) -> float:
    """The area that a label shares with others, and twice all that is outside the axes."""
    x0, y0, x1, y1 = box
    inside = max(0.0, min(x1, 1.0) - max(x0, 0.0)) * max(0.0, min(y1, 1.0) - max(y0, 0.0))
    return round(2 * ((x1 - x0) * (y1 - y0) - inside) + _shared(box, others), 6)


def _shared(box: Box, others: Sequence[Box]) -> float:
    """The area that a box shares with others, each counted by itself."""
    x0, y0, x1, y1 = box
    return sum(
        max(0.0, min(x1, right) - max(x0, left)) * max(0.0, min(y1, top) - max(y0, bottom))
        for left, bottom, right, top in others
    )


def _busy_text(busy: float, texts: Texts) -> str:
    return texts("busy_label", value=number(busy)) if busy else texts("busy_zero")


def _bounds(columns: dict[str, list[float]]) -> tuple[float, float]:
    """The fixed edges around all values, with one bin of air on each side."""
    values = [value for column in columns.values() for value in column]
    first = max(int(np.searchsorted(EDGES_S, min(values), side="right")) - 2, 0)
    last = min(int(np.searchsorted(EDGES_S, max(values), side="right")) + 1, len(EDGES_S) - 1)
    return EDGES_S[first], EDGES_S[last]


def _histogram(
    group: Group,
    columns: dict[str, list[float]],
    texts: Texts,
    *,
    name: str,
    clock: str,
    prefix: str,
) -> Figure:
    title = texts("fig_histogram", name=texts(name)) + clock
    low, high = _bounds(columns)
    edges = [edge for edge in EDGES_S if low <= edge <= high]
    counts = {arm: np.histogram(values, bins=edges)[0] for arm, values in columns.items()}
    most = max(int(count.max()) for count in counts.values())
    with svg.style():
        known = looks(list(group.arms), group.specs)
        drawn = svg.figure(_WIDTH, max(_HEIGHT, 0.55 * len(columns) + 0.6))
        rows, scale = svg.rows(drawn, [known[arm].number for arm in columns])
        for axes, (arm, count) in zip(rows, counts.items(), strict=True):
            ink = color(known[arm].role)
            axes.stairs(count, edges, fill=True, color=ink, alpha=0.35, linewidth=0)
            axes.stairs(count, edges, color=ink, linewidth=1.1)
            axes.set_ylim(0, most * 1.05)
            axes.set_yticks([0, most])
            axes.grid(visible=False)
            middle = float(np.median(columns[arm]))
            told = f"  ·  p50 {number(middle)} s"
            text = _cut(texts.arm(arm), int(_INSIDE_PT[0] / _LETTER_PT) - len(told)) + told
            axes.set_title(text, loc="left", color=ink, pad=4)
        _log_seconds(scale, low, high)
        scale.set_xlabel(texts("seconds_log"))
        figure_id = f"{prefix}-histogram-{name}"
        said = _medians(columns, known, texts)
        text = svg.to_svg(drawn, name=figure_id, title=title, description=said, stacked=True)
    return Figure(figure_id, title, text)


def _ecdf(
    group: Group,
    columns: dict[str, list[float]],
    texts: Texts,
    *,
    name: str,
    clock: str,
    prefix: str,
) -> Figure:
    title = texts("fig_ecdf", name=texts(name)) + clock
    low, high = _bounds(columns)
    known = looks(list(group.arms), group.specs)
    names = {arm: (known[arm], texts.arm(arm)) for arm in columns}
    with svg.style():
        taken = _legend_in([name for _, name in names.values()])
        drawn = svg.figure(_WIDTH, max(_HEIGHT, _HEIGHT - 0.3 + taken))
        axes = drawn.add_subplot()
        for arm, values in columns.items():
            look = known[arm]
            line = axes.ecdf(
                values, color=color(look.role), linewidth=1.5, linestyle=_LINES[look.mark]
            )
            line.set_gid(svg.of_arm(look.number))
        _log_seconds(axes, low, high)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel(texts("seconds_log"))
        axes.set_ylabel(texts("axis_ecdf"))
        _legend(drawn, names)
        figure_id = f"{prefix}-ecdf-{name}"
        said = _medians(columns, known, texts)
        text = svg.to_svg(drawn, name=figure_id, title=title, description=said)
    return Figure(figure_id, title, text)


def _log_seconds(axes: Axes, low: float, high: float) -> None:
    """A logarithmic axis with plain numbers at 1, 2 and 5 of each decade."""
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    decades = range(-5, 5)
    ticks = [step * 10.0**decade for decade in decades for step in (1, 2, 5)]
    inside = [tick for tick in ticks if low <= tick <= high]
    if len(inside) > 7:
        inside = [tick for tick in inside if np.isclose(np.log10(tick) % 1, 0) or len(inside) < 4]
    axes.set_xticks(inside)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _medians(
    columns: Mapping[str, Sequence[float]], known: Mapping[str, Look], texts: Texts
) -> dict[int, str]:
    return {
        known[arm].number: f"{texts.arm(arm)}: p50 {number(float(np.median(values)))} s, "
        f"p90 {number(float(np.percentile(values, 90)))} s, n {len(values)}"
        for arm, values in columns.items()
    }
