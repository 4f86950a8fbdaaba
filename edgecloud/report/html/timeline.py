"""The timeline of one request: for each series, lanes of edge, link and cloud."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib.patches import Patch

from edgecloud.contracts import Commit, Trace
from edgecloud.report.comparison import Group
from edgecloud.report.html import svg
from edgecloud.report.html.plots import Figure, by_clock
from edgecloud.report.html.svg import color
from edgecloud.report.html.theme import looks
from edgecloud.report.lanes import spans
from edgecloud.report.texts import Texts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["timelines"]

_WIDTH = 9.4
_LANES = ("edge", "link", "cloud")
_INKS = {"edge": "edge", "link": "muted", "cloud": "cloud"}
# The waiting that comes before the first token is pale, the work token by token is full.
_ALPHA = {"features": 0.22, "prefill": 0.45, "transfer": 0.75}

Traces = Mapping[str, Mapping[str, Trace]]


def timelines(group: Group, traces: Traces, texts: Texts, *, prefix: str) -> list[Figure]:
    """Three requests for each clock, by the total time of the series of interest: a typical one, the
    fastest, the slowest. ``traces`` holds those of journals by series and ``file_id``; series without are left out.
    """
    drawn = [arm for arm in group.arms if traces.get(arm)]
    return [
        figure
        for own, clock, arms in by_clock(group, texts, prefix, drawn)
        for figure in _of_clock(group, traces, arms, texts, clock=clock, prefix=own)
    ]


def _of_clock(
    group: Group, traces: Traces, arms: Sequence[str], texts: Texts, *, clock: str, prefix: str
) -> list[Figure]:
    leading = next((arm for arm in reversed(group.specs) if arm in arms), arms[0])
    times = group.arms[leading].per_sample("total_time")
    shared = [i for i in times if all(i in traces[arm] for arm in arms)]
    ordered = sorted(shared, key=lambda file_id: times[file_id])
    if not ordered:
        return []
    chosen = {
        "typical": ordered[len(ordered) // 2],
        "fastest": ordered[0],
        "slowest": ordered[-1],
    }
    return [
        _timeline(
            {arm: traces[arm][file_id] for arm in arms},
            group,
            texts,
            title=f"{texts(f'timeline_{which}')} ({file_id}){clock}",
            name=f"{prefix}-timeline-{which}",
        )
        for which, file_id in chosen.items()
    ]


def _timeline(
    traces: Mapping[str, Trace],
    group: Group,
    texts: Texts,
    *,
    title: str,
    name: str,
) -> Figure:
    end = max(event.end_s for trace in traces.values() for event in trace.events)
    with svg.style():
        drawn = svg.figure(_WIDTH, 0.72 * len(traces) + 1.1)
        known = looks(list(group.arms), group.specs)
        rows, scale = svg.rows(drawn, [known[arm].number for arm in traces])
        for axes, (arm, trace) in zip(rows, traces.items(), strict=True):
            _lanes(axes, trace)
            axes.set_yticks(range(3), [texts(f"lane_{lane}") for lane in _LANES])
            axes.set_title(
                texts.arm(arm),
                loc="left",
                color=color(known[arm].role),
                fontweight="bold",
                pad=2,
            )
        scale.set_xlim(0, end * 1.005)
        scale.set_xlabel(texts("seconds"))
        legend = drawn.legend(
            handles=_legend(traces, texts),
            loc="outside upper left",
            ncols=3,  # as much as a phone shows of the figure
            frameon=False,
            handlelength=1.2,
            handleheight=0.9,
            columnspacing=1.6,
        )
        legend.set_gid(svg.FIXED)
        said = {known[arm].number: text for arm, text in _words(traces, texts).items()}
        text = svg.to_svg(drawn, name=name, title=title, description=said, stacked=True)
    return Figure(name, title, text, texts("timeline_note"))


def _lanes(axes: Axes, trace: Trace) -> None:
    bars: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for span in spans(trace):
        bars.setdefault((span.lane, span.kind), []).append(
            (span.start_s, span.end_s - span.start_s)
        )
    for (lane, kind), its in bars.items():
        axes.broken_barh(
            its,
            (_LANES.index(lane) - 0.31, 0.62),
            color=color(_ink(lane, kind)),
            alpha=_ALPHA.get(kind, 0.9),
            linewidth=0,
        )
    done = [commit.at_s for commit in trace.of(Commit)]
    axes.vlines(done, 2.5, 2.85, color=color("ink"), linewidth=0.7)
    axes.set_ylim(2.9, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _ink(lane: str, kind: str) -> str:
    """The role of a bar's colour: verifying has one of its own, beside the cloud's generating."""
    return "verify" if kind == "verify" else _INKS[lane]


def _legend(traces: Mapping[str, Trace], texts: Texts) -> list[Patch]:
    """One patch for each kind of work that is drawn."""
    found: dict[tuple[str, str], Patch] = {}
    for trace in traces.values():
        for span in spans(trace):
            kind = "decode" if span.kind == "draft" else span.kind
            label = texts(f"lane_{span.lane}")
            if span.lane != "link":
                label += f" · {texts(f'kind_{kind}')}"
            found.setdefault(
                (span.lane, kind),
                Patch(
                    facecolor=color(_ink(span.lane, span.kind)),
                    alpha=_ALPHA.get(span.kind, 0.9),
                    linewidth=0,
                    label=label,
                ),
            )
    order = sorted(found, key=lambda key: _LANES.index(key[0]))
    return [found[key] for key in order]


def _words(traces: Mapping[str, Trace], texts: Texts) -> dict[str, str]:
    """For each series the seconds that each lane was busy, and with what, for a screen reader."""
    parts = {}
    for arm, trace in traces.items():
        busy: dict[tuple[str, str], float] = {}
        for span in spans(trace):
            key = (span.lane, span.kind)
            busy[key] = busy.get(key, 0.0) + span.end_s - span.start_s
        ordered = sorted(busy, key=lambda key: _LANES.index(key[0]))
        lanes = ", ".join(
            f"{texts(f'lane_{lane}')} {texts(f'kind_{kind}')} {busy[lane, kind]:.2f} s"
            for lane, kind in ordered
        )
        parts[arm] = f"{texts.arm(arm)}: {lanes}"
    return parts
