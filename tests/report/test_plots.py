"""The figures: what can be measured of them once they are drawn."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("matplotlib", reason="the extra report is not installed")
from edgecloud.report.html import plots, svg
from edgecloud.report.texts import Texts

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
        plots._label(axes, points, Texts(language), most=most)  # type: ignore[arg-type]
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
