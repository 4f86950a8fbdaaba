"""The figures: what can be measured of them once they are drawn."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="the extra report is not installed")
from matplotlib.text import Text

from edgecloud.report.comparison import Group, groups
from edgecloud.report.html import plots, svg, timeline
from edgecloud.report.html.theme import looks
from edgecloud.report.sources import Source, load_sources
from edgecloud.report.texts import Texts
from tests.report.pages import write_runs

SIDE_BY_SIDE = [(0.02, 1.5, 0.0), (0.074, 1.7, 0.044), (0.17, 2.68, 0.089), (0.076, 2.8, 0.069)]
CLOSE = [(0.1, 1.9, 0.0), (0.26, 1.95, 0.13), (0.31, 2.73, 0.17), (0.22, 2.77, 0.2)]


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("at", [SIDE_BY_SIDE, CLOSE], ids=["side by side", "close"])
def test_the_name_of_a_mark_lies_on_no_disc_and_on_no_other_name(
    at: list[tuple[float, float, float]], language: str
) -> None:
    points = [
        plots._Point(arm, "#333333", time, quality, (time, time), (quality, quality), busy)
        for arm, (time, quality, busy) in zip(
            ("edge", "spec rank", "spec exact", "cloud"), at, strict=True
        )
    ]
    most = max(point.busy for point in points)
    with svg.style():
        drawn = svg.figure(plots._WIDTH, plots._HEIGHT)
        axes = drawn.add_subplot()
        axes.set_xlim(0, max(point.time for point in points) * 1.42)
        axes.set_ylim(1.2, 3.2)
        axes.set_xlabel("x")
        axes.set_ylabel("y")
        assert plots._label(axes, points, Texts(language), most=most)  # type: ignore[arg-type]
        drawn.draw_without_rendering()
        names = [text.get_window_extent() for text in axes.texts]
        for point in points:
            x, y = axes.transData.transform((point.time, point.quality))
            radius = math.sqrt(plots._disc(point, most) / math.pi) * drawn.dpi / 72
            for name in names:
                across = max(name.x0 - x, x - name.x1, 0.0)
                up = max(name.y0 - y, y - name.y1, 0.0)
                assert math.hypot(across, up) > 0.6 * radius
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    assert not any(a.overlaps(b) for a, b in pairs)


def test_marks_whose_names_would_lie_on_one_another_have_numbers_and_a_legend() -> None:
    points = [
        plots._Point(f"spec {n}", "#333333", 1 + n / 50, 0.5, (1, 2), (0.1, 0.9), 0.1, look)
        for n, look in enumerate(looks([f"spec {n}" for n in range(5)], []).values())
    ]
    figure = plots._tradeoff(
        points, Texts("en"), name="cider", label="CIDEr", title="t", prefix="g0"
    )
    assert all(f">{n} spec {n - 1}</text>" in figure.svg for n in range(1, 6))
    assert all(f">{n}</text>" in figure.svg for n in range(1, 6))


def test_numbers_of_marks_that_lie_on_one_another_do_not() -> None:
    specs = [f"spec {n}" for n in range(23)]
    points = [
        plots._Point(arm, "#333333", 19.0, 0.98, (18, 20), (0.9, 1.0), 0.1, look)
        for arm, look in looks(specs, specs).items()
    ]
    with svg.style():
        drawn = svg.figure(plots._WIDTH, plots._HEIGHT)
        axes = drawn.add_subplot()
        axes.set(xlim=(0, 27), ylim=(0, 1.06), xlabel="x", ylabel="y")
        plots._number(drawn, axes, points, Texts("en"))
        drawn.draw_without_rendering()
        boxes = [Text.get_window_extent(text) for text in axes.texts]
        inside = drawn.bbox
    assert len(boxes) == 23
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
    assert all(inside.x0 <= box.x0 and box.x1 <= inside.x1 for box in boxes)


def test_each_of_23_series_looks_like_no_other() -> None:
    specs = [f"spec rank ({number})" for number in range(19)]
    arms = ["edge (a)", "edge (b)", *specs, "cloud (a)", "cloud (b)"]
    found = looks(arms, specs)
    assert len({(look.role, look.mark) for look in found.values()}) == len(arms) == 23
    assert [look.number for look in found.values()] == list(range(1, 24))


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("count", [5, 23])
def test_legends_of_many_series_with_long_names_lie_inside_the_figure(
    count: int, language: str
) -> None:
    names = {f"spec rank (bounded k={k} threshold={k / 100:.2f})": k for k in range(count)}
    known = looks(list(names), list(names))
    texts = Texts(language)  # type: ignore[arg-type]
    with svg.style():
        its = {arm: (known[arm], texts.arm(arm)) for arm in names}
        drawn = svg.figure(plots._WIDTH, plots._HEIGHT + plots._legend_in(list(names)))
        axes = drawn.add_subplot()
        plots._legend(drawn, its)
        drawn.draw_without_rendering()
        whole, legend = drawn.bbox, drawn.legends[0].get_window_extent()
        assert whole.x0 <= legend.x0 <= legend.x1 <= whole.x1
        assert whole.y0 <= legend.y0 <= legend.y1 <= whole.y1
        assert axes.get_window_extent().height > 0.5 * 72 * plots._HEIGHT
        shown = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert len(set(shown)) == count


def test_verifying_and_generating_have_colours_of_their_own(tmp_path: Path) -> None:
    sources = load_sources([write_runs(tmp_path, 4)])
    (group,) = groups(source.result for source in sources)
    traces = {
        arm: source.traces
        for arm, source in zip(group.arms, _in_order(group, sources), strict=True)
    }
    figure = timeline.timelines(group, traces, Texts("en"), prefix="g0")[0]
    assert "var(--verify)" in figure.svg
    assert "cloud verifying" in figure.svg
    assert "cloud generating" in figure.svg
    assert all(f'class="arm-{number}"' in figure.svg for number in range(1, 5))


def _in_order(group: Group, sources: list[Source]) -> list[Source]:
    return [next(s for s in sources if s.result is result) for result in group.arms.values()]
