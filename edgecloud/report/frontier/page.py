"""The frontier's tables as markdown, and the page whose words stand around them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from edgecloud.errors import OutputError
from edgecloud.experiments.targets import Verdict
from edgecloud.results.frontier import router, seeded
from edgecloud.results.statistics import Interval
from edgecloud.textfiles import read_text

__all__ = ["notes", "place_name", "sections", "updated"]

Json = dict[str, Any]
_NEAR_CLOUD = 0.95
"""The share of the gap from which a policy is compared with the plain baselines."""
_MOST_OF_GAP = 0.97
"""The share of the gap for which it is said how many captions must open the cloud."""


def place_name(block: Mapping[str, Any]) -> str:
    """``chinese-default-paper``, with the link's name where there is one."""
    parts = (block["language"], block["prompt_type"], block["hardware_profile"], block["link"])
    return "-".join(part for part in parts if part)


def sections(blocks: Sequence[Json], verdicts: Sequence[Verdict]) -> dict[str, str]:
    """Every table by its name: ``targets``, and for each place ``policies-…``, ``added-…``,
    ``removed-…``, ``rivals-…`` with ``budgets-…`` and ``contests-…``, and ``baselines-…``, where it has such rows."""
    found = {"targets": _targets(verdicts)} if verdicts else {}
    for block in blocks:
        name = place_name(block)
        found[f"policies-{name}"] = _policies(block)
        for role in ("added", "removed"):
            if rows := [row for row in block["rows"] if row["role"] == role]:
                found[f"{role}-{name}"] = _noted(_steps(rows, _truth(block)), rows, _BESIDE)
        if any(row["role"] == "rival" for row in block["rows"]):
            found[f"rivals-{name}"] = _policies(block, ("rival", "oracle"))
            found[f"budgets-{name}"] = _budgets(block)
            found[f"contests-{name}"] = _contests(block)
        if any(row["role"] == "baseline" for row in block["rows"]):
            found[f"baselines-{name}"] = _baselines(block)
    return found


def _truth(block: Json) -> bool:
    """Whether the truth about attributes is known there: then they come first."""
    return block["edge"]["attribute_accuracy"] is not None


def updated(page: Path, tables: Mapping[str, str]) -> str:
    """The page with each table between its marks, ``<!-- begin NAME -->`` and ``<!-- end -->``.

    Raises:
        OutputError: the page cannot be read, or it marks a place for a table that there is not.
    """
    text = read_text(page, what="the page", error=OutputError)
    pattern = re.compile(r"(<!-- begin (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
    if unknown := {name for _, name, _ in pattern.findall(text)} - set(tables):
        raise OutputError(
            f"the page {page} marks a place for {', '.join(sorted(unknown))}; "
            f"this sweep has {', '.join(tables)}"
        )
    return pattern.sub(lambda m: f"{m[1]}\n{tables[m[2]]}\n\n{m[3]}", text)


def _budgets(block: Json) -> str:
    """Who closes most of the gap at each budget of the cloud and of time, what is lost first; and how many captions
    must open the cloud."""
    order = ("lost", "even", "won")
    found = sorted(block["budgets"], key=lambda leader: order.index(leader["verdict"]))
    counts = {name: sum(leader["verdict"] == name for leader in found) for name in order}
    rows = [
        [
            f"**{leader['verdict']}**" if leader["verdict"] == "lost" else leader["verdict"],
            f"{leader['cloud']:g}",
            f"{leader['time']:g}",
            leader["own"] or "–",
            leader["rival"] or "–",
            _interval(leader["gap"]),
        ]
        for leader in found
    ]
    said = (
        f"Of {len(found)} budgets ours lose {counts['lost']} and win {counts['won']}; at {counts['even']} the paired "
        "interval of the difference holds 0."
    )
    headers = ["", "cloud busy / cloud ≤", "time / edge ≤", "best of ours", "best rival"]
    headers += ["gap closed − rival's"]
    return "\n".join([said, "", _table(headers, rows), *_least_opened(block)])


def _least_opened(block: Json) -> list[str]:
    """A line on how many captions must open the cloud, whatever decides which."""
    if not _truth(block):
        return []
    edge, cloud = (block[side]["attribute_accuracy"] for side in ("edge", "cloud"))
    least = _MOST_OF_GAP * (cloud - edge)
    return [
        "",
        f"A caption that never opens the cloud is the edge's own: to close {_MOST_OF_GAP:g} of the gap in attributes "
        f"({edge:.3f} to {cloud:.3f}) at least {least:.3f} of the captions must open it, whatever decides which.",
    ]


def _contests(block: Json) -> str:
    """Each chosen policy beside the best of each family of rivals at its budget: what it lost to comes first."""
    headers = ["policy", "", "at its budget of", "rival", "busy − rival's, / cloud"]
    headers += ["time / rival's", "gap closed − rival's"]
    order = ("lost", "trade", "won")
    chosen = [row for row in block["rows"] if row["role"] == "chosen"] or block["rows"]
    found = [(row["name"], rival) for row in chosen for rival in row.get("rivals", ())]
    rows = [
        [
            name,
            f"**{rival['verdict']}**" if rival["verdict"] == "lost" else rival["verdict"],
            rival["budget"],
            rival["rival"],
            f"{rival['busy']:+.3f}",
            _interval(rival["time"]),
            _interval(rival["gap"]),
        ]
        for name, rival in sorted(found, key=lambda pair: order.index(pair[1]["verdict"]))
    ]
    return _table(headers, rows)


def _policies(block: Json, roles: Sequence[str] = ("policy", "chosen")) -> str:
    """Edge and cloud alone, then every policy of these ``roles``, the fastest last; under them what crosses."""
    edge, cloud = block["edge"], block["cloud"]
    headers = ["policy", "time s", "/ edge", "cloud busy s", "/ cloud", "calls", "cloud tokens"]
    headers += ["attributes", "attribute gap closed"] if _truth(block) else []
    headers += ["CIDEr", "CIDEr gap closed", "first token / edge", "above bound"]
    rows = [
        ["edge alone", _n(edge["total_s"]), "1", "0", "0", "0", "0"],
        ["cloud alone", _n(cloud["total_s"]), _n(cloud["total_s"] / edge["total_s"])],
    ]
    rows[1] += [_n(cloud["busy_s"]), "1", "1", "1"]
    if _truth(block):
        rows[0] += [_n(edge["attribute_accuracy"]), "0"]
        rows[1] += [_n(cloud["attribute_accuracy"]), "1"]
    rows[0] += [_n(edge["cider"]), "0", "1", ""]
    rows[1] += [_n(cloud["cider"]), "1", _n(cloud["ttft_s"] / edge["ttft_s"]), ""]
    shown = [row for row in block["rows"] if row["role"] in roles]
    rows += [
        _policy(row, truth=_truth(block)) for row in sorted(shown, key=lambda row: -row["total_s"])
    ]
    table = _noted(_table(headers, rows), shown, ("edge", "cloud"))
    return "\n".join([table, *_detectable(block, shown)])


def _detectable(block: Json, shown: Sequence[Json]) -> list[str]:
    """A line with the differences to the cloud that resampling the recordings tells from none."""
    told = []
    for key, label in (
        ("attributes_over_cloud", "all attributes right"),
        ("cider_over_cloud", "CIDEr"),
    ):
        found = [Interval(**row[key]).detectable for row in shown if row.get(key)]
        if widths := [half for half in found if half is not None]:
            told.append(f"{max(widths):.3f} in {label}")
    if not told:
        return []
    return [
        "",
        f"Between other recordings like these {block['samples']}, a difference to the cloud is told from none from "
        f"about {' and '.join(told)} on (half the paired 95% interval, the widest here); between these very captions "
        "every difference is exact.",
    ]


_BESIDE = ("edge", "cloud", "against")


def notes(row: Json, beside: Sequence[str] = _BESIDE) -> list[str]:
    """Of what a row is compared with: what differs as the grid declares, and why there is no ratio."""
    found = []
    for name in beside:
        step = row["against"] or {}
        other = f"the {name} alone" if name != "against" else str(step.get("name"))
        ratio = {"edge": row["time"], "cloud": row["busy"]}.get(name, step.get("time") or {})
        if what := row["crossings"].get(name):
            found.append(f"a crossing, as declared, beside {other}: {what}")
        if ratio.get("estimate") is None and (why := ratio.get("reason")):
            found.append(f"no ratio over {other}: {why}")
    return found


def _noted(table: str, rows: Sequence[Json], beside: Sequence[str]) -> str:
    """The table, and under it its rows' notes, each once."""
    found: dict[str, list[str]] = {}
    for row in rows:
        for note in notes(row, beside):
            found.setdefault(note, []).append(row["name"])
    lines = [f"- {_few(names)}: {note}." for note, names in found.items()]
    return "\n".join([table, "", *lines]) if lines else table


def _few(names: Sequence[str]) -> str:
    """Names in a line; of more than three the first two, and how many there are beside them."""
    shown = names if len(names) <= 3 else [*names[:2], f"{len(names) - 2} more of these rows"]
    return "; ".join(shown)


def _policy(row: Json, *, truth: bool) -> list[str]:
    attributes = [_n(row["attribute_accuracy"]), _interval(row["attribute_gap_closed"])]
    return [
        f"**{row['name']}**" if row["role"] == "chosen" else row["name"],
        _n(row["total_s"]),
        _interval(row["time"]),
        _n(row["busy_s"]),
        _interval(row["busy"]),
        _n(row["calls"]),
        _n(row["cloud_token_share"]),
        *(attributes if truth else []),
        _n(row["cider"]),
        _interval(row["gap_closed"]),
        _interval(row["ttft"]),
        _percent(row["above_bound"]),
    ]


def _steps(rows: Sequence[Json], truth: bool) -> str:
    """The effect of each idea against the policy that differs by it alone."""
    headers = ["policy", "time / edge", "busy / cloud", "calls"]
    headers += ["attribute gap closed"] if truth else []
    headers += ["CIDEr gap closed", "against", "time ×", "busy ×"]
    headers += ["attributes +"] if truth else []
    headers += ["CIDEr +", "calls +"]
    shown = []
    for row in rows:
        step = row["against"]
        line = [row["name"], _n(row["time"]["estimate"]), _n(row["busy"]["estimate"])]
        line += [_n(row["calls"])]
        line += [_interval(row["attribute_gap_closed"])] if truth else []
        line += [_interval(row["gap_closed"])]
        if step is not None:
            line += [step["name"], _interval(step["time"]), _interval(step["busy"])]
            line += [_interval(step["attributes"])] if truth else []
            line += [_interval(step["cider"]), _interval(step["calls"])]
        shown.append([*line, *[""] * (len(headers) - len(line))])
    return _table(headers, shown)


def _baselines(block: Json) -> str:
    """Each policy near the cloud's quality beside what the two plain baselines reach with as much of
    the cloud."""
    headers = ["policy", "busy / cloud", "gap closed", "time / edge"]
    headers += ["router: gap", "router: time", "first tokens: gap", "first tokens: time", "beaten"]
    seeds = [row for row in block["rows"] if row["role"] == "baseline"]
    rows = []
    for row in block["rows"]:
        gap, busy, time = (row[name]["estimate"] for name in ("gap_closed", "busy", "time"))
        if (
            row["role"] in ("baseline", "rival", "oracle")
            or None in (gap, busy, time)
            or gap < _NEAR_CLOUD
        ):
            continue
        by_router, by_seeds = router(block, busy), seeded(seeds, busy)
        rivals = [found for found in (by_router, by_seeds) if found is not None]
        lost = any(r.gap_closed >= gap and r.time <= time for r in rivals)
        rows.append(
            [
                row["name"],
                _n(busy),
                _n(gap),
                _n(time),
                _n(by_router.gap_closed),
                _n(by_router.time),
                _n(by_seeds.gap_closed) if by_seeds else "–",
                _n(by_seeds.time) if by_seeds else "–",
                "no"
                if lost
                else "yes"
                if all(r.gap_closed < gap for r in rivals)
                else "in quality or time",
            ]
        )
    return _table(headers, rows)


def _targets(verdicts: Sequence[Verdict]) -> str:
    headers = ["configuration", "where", "measure", "wanted", "reached", ""]
    rows = [
        [
            verdict.policy,
            place_name(verdict.place),
            verdict.measure.replace("_", " "),
            verdict.bound,
            _n(verdict.value),
            "met" if verdict.met else "**missed**",
        ]
        for verdict in verdicts
    ]
    return _table(headers, rows)


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def _n(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}" if value >= 1e-3 or value <= 0 else "< 0.001"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:+.1%}"


def _interval(found: Mapping[str, Any] | None) -> str:
    if found is None or found["estimate"] is None:
        return "–"
    if found["low"] is None:
        return f"{found['estimate']:.3f}"
    return f"{found['estimate']:.3f} ({found['low']:.3f} … {found['high']:.3f})"
