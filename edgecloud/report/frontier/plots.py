"""The frontier's plot of one place: quality against time, and time against the cloud's."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from edgecloud.report.html.theme import LIGHT
from edgecloud.results.frontier import bound_line, leading_gap

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw"]

_INK = {"policy": "spec-2", "chosen": "fail", "added": "spec-1", "removed": "spec-6"}
_INK |= {"baseline": "warn", "rival": "spec-3", "oracle": "spec-5"}
_LABELS = {
    "policy": "policies",
    "added": "one idea added at a time",
    "removed": "one idea removed",
    "baseline": "first tokens by the cloud, the rest unverified",
    "rival": "rivals: cascades, routers, a cloud that speculates itself",
    "oracle": "oracle: knows how good both captions are, an upper bound",
    "chosen": "chosen",
}
_SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "edgecloud",
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LIGHT["rule"],
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}


def draw(block: Mapping[str, Any]) -> str:
    """An SVG file. On the left the gap closed against time, the size of a mark being the cloud's busy
    time; on the right time against busy time, with the bound and the line of whole captions."""
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(9.2, 4.4), layout="constrained")
        FigureCanvasSVG(figure)
        left, right = figure.subplots(1, 2)
        _quality(left, block)
        _time(right, block)
        place = [block["language"], block["prompt_type"], block["hardware_profile"], block["link"]]
        figure.suptitle(", ".join(part for part in place if part) + f", {block['samples']} samples")
        handles, labels = right.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=7.5)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _quality(axes: Axes, block: Mapping[str, Any]) -> None:
    cloud_time = block["cloud"]["total_s"] / block["edge"]["total_s"]
    axes.scatter([1], [0], s=18, color=LIGHT["edge"], marker="s")
    axes.annotate("edge", (1, 0), (4, 4), textcoords="offset points", color=LIGHT["edge"])
    axes.scatter([cloud_time], [1], s=_size(1.0), color=LIGHT["cloud"], marker="s")
    axes.annotate(
        "cloud", (cloud_time, 1), (9, -3), textcoords="offset points", color=LIGHT["cloud"]
    )
    for row in sorted(block["rows"], key=lambda row: list(_LABELS).index(row["role"])):
        gap = leading_gap(row)
        if gap["estimate"] is None or not _placed(row):
            continue
        ink = LIGHT[_INK[row["role"]]]
        at = (row["time"]["estimate"], gap["estimate"])
        axes.plot([at[0], at[0]], [gap["low"], gap["high"]], color=ink, linewidth=0.5, alpha=0.5)
        axes.scatter(*at, s=_size(row["busy"]["estimate"]), color=ink, alpha=0.7, linewidths=0)
    axes.set_xlabel("total time, edge alone = 1")
    quality = "CIDEr" if block["edge"]["attribute_accuracy"] is None else "all attributes right"
    axes.set_ylabel(f"gap closed ({quality}); mark: cloud busy time")


def _placed(row: Mapping[str, Any]) -> bool:
    """Whether it has both ratios."""
    return row["time"]["estimate"] is not None and row["busy"]["estimate"] is not None


def _size(busy: float) -> float:
    return 8 + 90 * busy


def _time(axes: Axes, block: Mapping[str, Any]) -> None:
    cloud_time = block["cloud"]["total_s"] / block["edge"]["total_s"]
    axes.plot(
        *zip(*bound_line(block), strict=True),
        color=LIGHT["ink"],
        linewidth=1.0,
        label="bound, edge and cloud on each caption",
    )
    axes.plot(
        [0, 1],
        [1, cloud_time],
        color=LIGHT["muted"],
        linewidth=1.0,
        linestyle="--",
        label="whole captions to the cloud (gap closed = busy time)",
    )
    axes.scatter([0], [1], s=18, color=LIGHT["edge"], marker="s", label="edge alone")
    axes.scatter([1], [cloud_time], s=18, color=LIGHT["cloud"], marker="s", label="cloud alone")
    for role, label in _LABELS.items():
        rows = [row for row in block["rows"] if row["role"] == role and _placed(row)]
        near = [row for row in rows if (leading_gap(row)["estimate"] or 0) >= 0.95]
        far = [row for row in rows if row not in near]
        ink = LIGHT[_INK[role]]
        for found, face, name in ((near, ink, label), (far, "none", None)):
            if found:
                axes.scatter(
                    [row["busy"]["estimate"] for row in found],
                    [row["time"]["estimate"] for row in found],
                    s=16,
                    facecolors=face,
                    edgecolors=ink,
                    linewidths=0.8,
                    label=name,
                )
    axes.set_xlabel("cloud busy time, cloud alone = 1")
    axes.set_ylabel("total time, edge alone = 1; filled: gap closed ≥ 0.95")
