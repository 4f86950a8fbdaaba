"""The frontier's plot of one place: quality against time, and time against the cloud's."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from edgecloud.report.html.theme import LIGHT
from edgecloud.results.frontier import bound_line, leading_gap
from edgecloud.results.rivals import PLAIN

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw"]

_INK = {"policy": "spec-2", "chosen": "fail", "added": "spec-1", "removed": "spec-6"}
_INK |= {"baseline": "warn", "rival": "spec-4", "oracle": "spec-5"}
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
    time; on the right time against busy time, with the bound and the line of whole captions. Where there are rivals,
    below, what ours and they close at most within a budget of the cloud, and of time."""
    rivals = any(row["role"] == "rival" for row in block["rows"])
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(9.2, 7.8 if rivals else 4.4), layout="constrained")
        FigureCanvasSVG(figure)
        (left, right), *below = figure.subplots(1 + rivals, 2, squeeze=False)
        _quality(left, block)
        _time(right, block)
        for axes, budget in zip(itertools.chain(*below), _REACHES, strict=False):
            _reach(axes, block, *budget)
        place = [block["language"], block["prompt_type"], block["hardware_profile"], block["link"]]
        figure.suptitle(", ".join(part for part in place if part) + f", {block['samples']} samples")
        handles, labels = right.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=7)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


_REACHES = (("busy", "time", (1.1, 0.65)), ("time", "busy", (0.8, 0.5)))
_NAMES = {"busy": "cloud busy time", "time": "total time"}
_UNITS = {"busy": "cloud alone = 1", "time": "edge alone = 1"}


def _reach(
    axes: Axes, block: Mapping[str, Any], budget: str, other: str, limits: tuple[float, ...]
) -> None:
    """The most of the gap that is closed within each ``budget``, by ours and by rivals, with the interval of whoever
    leads; the other quantity stays within each of ``limits``."""
    for limit, style in zip(limits, ("-", "--"), strict=True):
        for whose, ink in (("rivals", LIGHT["spec-4"]), ("ours", LIGHT["fail"])):
            found = _candidates(block, rivals=whose == "rivals")
            within = sorted(
                (at[budget], gap) for at, gap in found if at[other] <= limit and at[budget] <= 1.2
            )
            steps: list[tuple[float, tuple[float, float, float]]] = []
            for at, gap in within:
                if not steps or gap[0] > steps[-1][1][0]:
                    steps.append((at, gap))
            if not steps:
                continue
            steps.append((1.2, steps[-1][1]))
            x = [at for at, _ in steps]
            most, low, high = zip(*(gap for _, gap in steps), strict=True)
            label = f"{whose}, {_NAMES[other]} ≤ {limit:g}"
            axes.step(x, most, where="post", color=ink, linestyle=style, linewidth=1.2, label=label)
            axes.fill_between(x, low, high, step="post", color=ink, alpha=0.1, linewidth=0)
    axes.set_xlabel(f"at most so much {_NAMES[budget]}, {_UNITS[budget]}")
    axes.set_ylabel("most of the gap closed")
    axes.set_xlim(0, 1.2)
    axes.set_ylim(-0.05, 1.15)
    axes.legend(fontsize=7.5, loc="lower right")


_Candidate = tuple[dict[str, float], tuple[float, float, float]]


def _candidates(block: Mapping[str, Any], *, rivals: bool) -> list[_Candidate]:
    """Time and busy time of each of ours, or of each rival, and the gap that it closes with its interval. Rivals are
    edge and cloud alone, too, and routers by lot between them."""
    rows = [row for row in block["rows"] if row["role"] != "oracle" and _placed(row)]
    found: list[_Candidate] = []
    if rivals:
        cloud_time = block["cloud"]["total_s"] / block["edge"]["total_s"]
        for share in (place / 50 for place in range(51)):
            at = {"busy": share, "time": 1 - share * (1 - cloud_time)}
            found.append((at, (share, share, share)))
    for row in rows:
        gap = leading_gap(row)
        if (row["role"] in PLAIN) == rivals and gap["estimate"] is not None:
            ends = (gap["estimate"], gap["low"], gap["high"])
            own, low, high = (gap["estimate"] if end is None else end for end in ends)
            at = {name: row[name]["estimate"] for name in ("busy", "time")}
            found.append((at, (own, low, high)))
    return found


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
    axes.set_ylabel(f"gap closed ({quality})\nmark: cloud busy time")


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
    axes.set_ylabel("total time, edge alone = 1\nfilled: gap closed ≥ 0.95")
