"""The page of a fleet: tables as markdown, and a plot of latency and goodput by edges."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from tabulate import tabulate

from edgecloud.errors import OutputError

__all__ = ["asked_of_the_gpu", "draw", "in_short", "table", "write_page"]

Json = Mapping[str, Any]
_SETTINGS: Any = {"svg.fonttype": "none", "svg.hashsalt": "edgecloud", "font.size": 8.5}


def table(fleet: Json) -> str:
    """Both tables of FLEET.json: at each number of edges, and of the most edges within the objective."""
    headers = ["policy", "edges", "captions/s", "within the objective/s", "p50 s", "p95 s", "p99 s"]
    headers += ["GPU busy", "busy s/caption", "GPUs for 10^6 a day", "$ a day"]
    rows = [
        [
            block["policy"], row["edges"], *_numbers(row, "captions_per_s", "goodput_per_s", "p50_s", "p95_s", "p99_s"),
            f"{row['utilization']:.0%}", *_numbers(row, "busy_s_per_caption"),
            row["gpus_for_a_million_a_day"], f"{row['dollars_a_day']:.0f}",
        ]
        for block in fleet["policies"] for row in block["at"]
    ]  # fmt: skip
    found = _table(headers, rows)
    headers = ["policy", "most edges", "captions/GPU-second", "/ cloud alone", "p95 s", "GPU busy"]
    headers += ["GPUs for 10^6 a day", "$ a day"]
    most = [
        [block["policy"], "none", *["–"] * 6]
        if block["most"] is None
        else [
            block["policy"], block["most"]["edges"], *_numbers(block["most"], "captions_per_gpu_s"),
            "–" if block["over_cloud_alone"] is None else f"{block['over_cloud_alone']:.2f}",
            *_numbers(block["most"], "p95_s"), f"{block['most']['utilization']:.0%}",
            block["most"]["gpus_for_a_million_a_day"], f"{block['most']['dollars_a_day']:.0f}",
        ]
        for block in fleet["policies"] if block["mode"] != "edge"
    ]  # fmt: skip
    given = "" if fleet["load"] == "closed" else ", of those numbers"
    return f"{found}\n\nThe most edges on one GPU within the objective{given}:\n\n{_table(headers, most)}"


def in_short(fleet: Json) -> str:
    """What FLEET.json says to whoever wants to know how many edges one GPU serves, in one paragraph."""
    objective = fleet["objective"]
    kind, _, rate = fleet["load"].partition(":")
    asking = {
        "closed": "each of which asks again as soon as it has its caption",
        "poisson": f"each of which asks every {1 / float(rate or 1):.4g} s in the mean, at random",
    }.get(kind, f"which ask as {fleet['load']} says")
    asked = (
        f"How many edges, {asking}, does one GPU serve with p{100 * objective['share']:g} within "
        f"{objective['seconds']:g} s?"
    )
    said = (f"{block['policy']}: {_most_words(block)}." for block in fleet["policies"])
    return " ".join((f"**In short.** {asked}", *said))


def asked_of_the_gpu(fleet: Json) -> str:
    """The table of what a caption asks of a GPU that it has to itself, and of the bound that its prefills are."""
    headers = ["policy", "prefills", "s", "verifications", "s", "steps", "s", "together s"]
    headers += ["1 / prefill s", "/ cloud alone at the objective"]
    rates = [
        block["most"]["captions_per_gpu_s"]
        for block in fleet["policies"]
        if block["mode"] == "cloud" and block["most"]
    ]
    rows = []
    for block in fleet["policies"]:
        own = block["alone"]
        least_s, together_s = own["prefill_s"], own["prefill_s"] + own["verify_s"] + own["step_s"]
        rows.append(
            [
                block["policy"],
                *_numbers(own, *own),
                f"{together_s:.3g}",
                f"{1 / least_s:.3g}" if least_s else "–",
                f"{1 / least_s / rates[0]:.2f}" if least_s and rates else "–",
            ]
        )
    return _table(headers, rows)


def _most_words(block: Json) -> str:
    """The most edges of a policy; where there are none, how long it takes with the fewest."""
    most, first = block["most"], block["at"][0]
    if block["mode"] == "edge":
        kept = "within it" if first["met"] else "too long whatever a GPU does"
        return f"needs no GPU, p95 is {first['p95_s']:.3g} s ({kept})"
    if most is None:
        edges = "one edge" if first["edges"] == 1 else f"{first['edges']} edges"
        return f"**none**, with {edges} p95 is {first['p95_s']:.3g} s already"
    over = block["over_cloud_alone"]
    beside = "" if over is None or over == 1 else f", {over:.2f} times the cloud alone"
    return f"**{most['edges']}** ({most['captions_per_gpu_s']:.3g} captions a GPU-second{beside})"


def write_page(fleet: Json, page: Path) -> list[Path]:
    """Write the page and, beside it, its plot. Returns the paths.

    Raises:
        OutputError: one cannot be written.
    """
    plot = page.with_suffix(".svg")
    objective = fleet["objective"]
    words = {
        "assumed": "assumed: up to 32 sessions a step costs as much as one's, and prefills share nothing",
        "modelled": "a roofline's",
        "measured": "measured",
    }
    notes = [f"- {b['policy']}: {b['note']}." for b in fleet["policies"] if b["note"]]
    text = "\n".join(
        [
            "# A fleet on one cloud",
            "",
            f"Made by `edgecloud fleet`: hardware profile {fleet['hardware_profile']}, link {fleet['link']}, load "
            f"{fleet['load']}, at most {fleet['max_batch']} sessions a forward, seed {fleet['seed']}. Costs of batches "
            f"are {words[fleet['batch_costs']]}. The objective is p{100 * objective['share']:g} within "
            f"{objective['seconds']:g} s. A GPU-hour is ${fleet['gpu_hour_dollars']:g} "
            f"({fleet['gpu_hour_source']}).",
            "",
            in_short(fleet),
            "",
            table(fleet),
            "",
            "What a caption asks of a GPU that it has to itself, in the mean. Steps and verifications of several sessions "
            "share forwards; where prefills share nothing, no policy does more captions a GPU-second than 1 / prefill s.",
            "",
            asked_of_the_gpu(fleet),
            "",
            *notes,
            "",
            f"![latency and goodput by edges]({plot.name})",
            "",
        ]
    )
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, encoding="utf-8", newline="\n")
        plot.write_text(draw(fleet), encoding="utf-8", newline="\n")
    except OSError as error:
        raise OutputError(f"cannot write {page}: {error.strerror or error}") from error
    return [page, plot]


def draw(fleet: Json) -> str:
    """An SVG file: p95 and captions within the objective a second, by the number of edges."""
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(9.2, 3.8), layout="constrained")
        FigureCanvasSVG(figure)
        left, right = figure.subplots(1, 2)
        for block in fleet["policies"]:
            edges = [row["edges"] for row in block["at"]]
            left.plot(
                edges, [row["p95_s"] for row in block["at"]], marker="o", label=block["policy"]
            )
            right.plot(edges, [row["goodput_per_s"] for row in block["at"]], marker="o")
        left.axhline(fleet["objective"]["seconds"], color="black", linewidth=0.8, linestyle="--")
        left.set_yscale("log")
        left.set_ylabel("p95, s")
        right.set_ylabel("captions within the objective a second")
        for axes in (left, right):
            axes.set_xscale("log")
            axes.set_xlabel("edges")
        figure.legend(loc="outside lower center", ncols=3, fontsize=7.5)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _numbers(row: Json, *names: str) -> list[str]:
    return [f"{row[name]:.3g}" for name in names]


def _table(headers: list[str], rows: list[list[Any]]) -> str:
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)
