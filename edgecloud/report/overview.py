"""The first look at results: each series as it was timed and on the pair that it stands for, in a table no wider than
a terminal, with what a reader must know of it.

The second half of a row is the same run's traces timed anew on a hardware profile
(:mod:`edgecloud.experiments.retiming`): no token differs.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from tabulate import tabulate

from edgecloud.errors import EdgeCloudError, JournalError
from edgecloud.experiments.retiming import retimed, timed_by
from edgecloud.report.comparison import Group, groups
from edgecloud.results.cost import cost
from edgecloud.results.journal import read
from edgecloud.results.latency import latency
from edgecloud.results.recorded_run import recorded_run
from edgecloud.results.records import Record
from edgecloud.results.result import Result
from edgecloud.settings.presets import FITTED, PRESETS

__all__ = ["Times", "deployed_times", "overview"]

_HEADERS = ("", "CIDEr", "time", "first", "busy", "time", "first", "busy")
_NARROWEST = 72
_NUMBERS = 58
"""What the columns of numbers take at most."""


@dataclass(frozen=True, slots=True)
class Times:
    """Means over the samples of a run, in seconds: total time, time to the first token, and how long the cloud was
    busy. ``None``: not known; ``reason`` then says why."""

    total_s: float | None = None
    ttft_s: float | None = None
    busy_s: float | None = None
    reason: str | None = None


def deployed_times(journal: Path, *, hardware_profile: str) -> Times:
    """The times of a run on another hardware profile, from its journal; without times and with a reason where it
    cannot be timed anew. Its samples that failed are left out."""
    try:
        run = recorded_run(*read(journal), path=journal)
        # The link of the run was this machine's; the profile has one of its own.
        config = timed_by(run.config, hardware_profile=hardware_profile, link="null")
        return _means(retimed(run, config).records)
    except JournalError as error:
        return Times(reason=f"its traces cannot be timed anew: {error}")
    except EdgeCloudError as error:
        return Times(reason=str(error))


def _means(records: Iterable[Record]) -> Times:
    traces = [record.trace for record in records if record.ok and record.trace is not None]
    found = [latency(trace) for trace in traces]
    return Times(
        total_s=_mean([each.total_time for each in found]),
        ttft_s=_mean([each.ttft for each in found]),
        busy_s=_mean([cost(trace).cloud_busy_time for trace in traces]),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def overview(
    results: Sequence[tuple[Result, Path]],
    *,
    hardware_profile: str,
    source: str,
    width: int = 80,
) -> str:
    """A table for each language, prompt and data set: a series a row, its quality, then mean seconds where it ran and
    on ``hardware_profile``, whose constants are from ``source``. ``results`` come with their journals. No line is longer
    than ``width`` characters, or 72 where that is less."""
    journals = {id(result): journal for result, journal in results}
    shown = groups(result for result, _ in results)
    notes: list[str] = []
    tables = []
    for group in shown:
        rows = [
            _row(_arm(name, result), result, journals[id(result)], hardware_profile, notes)
            for name, result in group.arms.items()
        ]
        tables.append("\n".join([*_wrapped(_title(group), width), _table(rows, width)]))
    told = [f"[{number}] {note}" for number, note in enumerate(notes, 1)]
    told.append(_sentence(shown, hardware_profile, source))
    return "\n\n".join(
        [*tables, "\n".join(line for note in told for line in _wrapped(note, width))]
    )


def _arm(name: str, result: Result) -> str:
    """A series' name; by the project's own preset where it has the settings of one, which say more than its rule."""
    own = result.experiment_config.settings
    if result.mode == "spec":
        for preset in FITTED:
            if all(own.get(setting) == value for setting, value in PRESETS[preset].items()):
                return f"spec {preset}"
    return name


def _title(group: Group) -> str:
    sizes = sorted({result.metrics.num_completed for result in group.arms.values()})
    many = " or ".join(map(str, sizes))
    return (
        f"{group.language.capitalize()}, {group.prompt_type} prompt, {group.data}: {many} samples; "
        "mean seconds a caption"
    )


def _row(
    name: str, result: Result, journal: Path, hardware_profile: str, notes: list[str]
) -> list[str]:
    metrics = result.metrics
    here = Times(
        metrics.value("latency_metrics.total_time_mean"),
        metrics.value("latency_metrics.ttft_mean"),
        metrics.value("cost_metrics.cloud_busy_time_mean"),
    )
    there = deployed_times(journal, hardware_profile=hardware_profile)
    if there.reason is not None:
        if there.reason not in notes:
            notes.append(there.reason)
        there = replace(there, reason=f"[{notes.index(there.reason) + 1}]")
    cider = metrics.value("cider")
    return [
        name,
        "–" if cider is None else f"{cider:.3f}",
        *map(_seconds, (here.total_s, here.ttft_s, here.busy_s)),
        there.reason or _seconds(there.total_s),
        *map(_seconds, (there.ttft_s, there.busy_s)),
    ]


def _seconds(value: float | None) -> str:
    return "–" if value is None else "0" if value == 0 else f"{value:.3g}"


def _table(rows: Sequence[Sequence[str]], width: int) -> str:
    """The rows under two lines of heads: where, and what. Names of series that are too long are broken."""
    text = tabulate(
        rows,
        headers=_HEADERS,
        tablefmt="simple",
        disable_numparse=True,
        maxcolwidths=[max(width, _NARROWEST) - _NUMBERS, *[None] * (len(_HEADERS) - 1)],
        colalign=["left", *["right"] * (len(_HEADERS) - 1)],
    )
    rule = text.splitlines()[1].split("  ")
    begins = [sum(len(part) + 2 for part in rule[:column]) for column in (2, 5)]
    places = f"{'':{begins[0]}}{'as it ran':{begins[1] - begins[0]}}deployed (modelled)"
    return "\n".join([places.rstrip(), text])


def _sentence(shown: Sequence[Group], hardware_profile: str, source: str) -> str:
    """Where the cloud ran, what was captioned by what, and what the modelled columns are."""
    results = [result for group in shown for result in group.arms.values()]
    measured = [result for result in results if not result.experiment_config.modelled]
    clouds = {
        model.device or "an unknown device"
        for result in measured
        if (model := result.models.get("cloud")) is not None
    }
    parts = []
    if len(measured) < len(results):
        parts.append("As it ran: in modelled time, where a run's clock says so.")
    if clouds == {"cpu"}:
        parts.append(
            "As it ran: the cloud's model shared this machine's processor with the edge's, so asking it saves no "
            "time here, and these times do not say what speculation is worth."
        )
    elif clouds:
        parts.append(f"As it ran: the cloud's model ran on {', '.join(sorted(clouds))}.")
    if any(result.data.manifest == "embedded" for result in results):
        parts.append(
            "Models and recordings are the embedded ones: miniatures of 0.4 M and 3.6 M parameters on "
            "synthetic speech."
        )
    parts.append(
        f"Deployed: the same traces, token for token, timed by the profile {hardware_profile} "
        f"({source}), not measured. First: when the first token is there; busy: how long the cloud works for a caption."
    )
    return " ".join(parts)


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(width, _NARROWEST), break_on_hyphens=False)
