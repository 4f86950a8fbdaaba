"""How many edges one cloud serves: journals timed anew, and then together on one cloud that batches.

See :mod:`edgecloud.experiments.fleet_simulation` for the events. A journal's captions become scripts: what the edge
computes between its calls takes the time of the retimed trace, calls take what link and cloud have for them.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgecloud.contracts import Finish, Generate, Prefill, Verify
from edgecloud.errors import ConfigError, JournalError
from edgecloud.experiments.fleet_simulation import (
    Arrivals,
    Call,
    Join,
    Operation,
    Script,
    Send,
    Simulated,
    Work,
    chooser,
    poisson,
    simulate,
)
from edgecloud.experiments.fleet_simulation import closed as closed_loop
from edgecloud.experiments.retiming import retimed, timed_by
from edgecloud.hardware.costs import CloudCosts
from edgecloud.hardware.link import Link
from edgecloud.hardware.link import link as link_of
from edgecloud.hardware.profiles import profile
from edgecloud.results.journal import read
from edgecloud.results.recorded_run import recorded_run
from edgecloud.results.records import Record

__all__ = [
    "GPU_HOUR",
    "SELF_SPECULATION",
    "Load",
    "Objective",
    "Policy",
    "alone",
    "fleet",
    "policy",
    "script",
]

SCHEMA = "edgecloud-fleet/1"
GPU_HOUR = (
    2.69,
    "RunPod's list price of one H100 SXM, Secure Cloud, as spheron.network quotes it on 2026-05-22",
)
"""Dollars for an hour of one GPU, and where that is from."""
SELF_SPECULATION = (
    1.65,
    "EAGLE-3 on Qwen2-Audio-7B: SGLang's pull request 33051, one H100, greedy, one request at a time",
)
"""How many times fewer steps a cloud with a draft head of its own takes. That this holds in batches, too, is assumed
in that cloud's favor."""
_DAY_S = 86_400
_MILLION = 1_000_000
_WARM_UP = 0.1
"""Of the captions, those that end first and are not counted."""
_MOST_EDGES = 4096
_FEWEST = 1000
"""Captions of a simulation, at least."""


@dataclass(frozen=True, slots=True)
class Objective:
    """``share`` of the captions take at most ``seconds``: ``p95=3s`` is 0.95 and 3."""

    share: float
    seconds: float

    @classmethod
    def parse(cls, text: str) -> Objective:
        """The objective in ``p95=3s`` or ``p99=500ms``.

        Raises:
            ConfigError: it says none.
        """
        found = re.fullmatch(r"p(\d{1,2}(?:\.\d+)?)=(\d+(?:\.\d+)?)(ms|s)", text)
        if found is None or float(found[1]) == 0 or float(found[2]) == 0:
            raise ConfigError(
                f"--slo {text}: a percentile and a time were expected, such as p95=3s"
            )
        return cls(float(found[1]) / 100, float(found[2]) / (1000 if found[3] == "ms" else 1))


@dataclass(frozen=True, slots=True)
class Load:
    """``closed``: each edge begins its next caption when the last has ended. ``rate``: captions a second come to
    each edge at random. ``rows``: they come as a file says, at a second to an edge (its number modulo the edges)."""

    text: str
    rate: float | None = None
    rows: tuple[tuple[float, int], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Load:
        """The load in ``closed``, ``poisson:RATE``, or a CSV file with ``arrival_s`` and, if need be, ``edge``.

        Raises:
            ConfigError: it says none, or the file is no such trace.
        """
        if text == "closed":
            return cls(text)
        if text.startswith("poisson:"):
            rate = _number(text.partition(":")[2])
            if rate is None or rate <= 0:
                raise ConfigError(
                    f"--load {text}: a rate above 0 was expected, captions a second at each edge"
                )
            return cls(text, rate=rate)
        path = Path(text)
        if not path.is_file():
            raise ConfigError(f"--load {text}: closed, poisson:RATE or a CSV file was expected")
        try:
            with path.open(encoding="utf-8-sig", newline="") as handle:
                rows = tuple(
                    (float(row["arrival_s"]), int(row.get("edge") or number))
                    for number, row in enumerate(csv.DictReader(handle))
                )
        except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"--load {path}: columns arrival_s and edge of numbers were expected ({type(error).__name__}: {error})"
            ) from error
        times = [row[0] for row in rows]
        if len(rows) < 2 or times != sorted(times) or not all(0 <= at < math.inf for at in times):
            raise ConfigError(f"--load {path}: two arrivals at least, none before the one above it")
        return cls(path.name, rows=rows)

    def arrivals(self, edges: int, seed: int) -> tuple[Arrivals, float | None]:
        """The arrivals at so many edges, and the pause of a closed loop (``None``: it is none)."""
        if self.rows:
            return iter([(at_s, edge % edges) for at_s, edge in self.rows]), None
        if self.rate is not None:
            return poisson(self.rate, edges, seed), None
        return closed_loop(edges)


@dataclass(frozen=True, slots=True)
class Policy:
    """Captions of one way to decode: ``mode`` edge, cloud or spec; ``note`` says what of it is modelled."""

    name: str
    mode: str
    scripts: tuple[Script, ...]
    note: str | None = None
    journal: str | None = None

    def self_speculating(self) -> Policy:
        """The cloud alone with a draft of its own: fewer steps, by the published factor."""
        factor, source = SELF_SPECULATION

        def quicker(operation: Operation) -> Operation:
            if not isinstance(operation, Send):
                return operation
            return Send(replace(operation.call, steps=round(operation.call.steps / factor)))

        return replace(
            self,
            name="cloud alone, self-speculating",
            scripts=tuple(tuple(map(quicker, script)) for script in self.scripts),
            note=f"modelled: steps / {factor:g} ({source})",
        )


def policy(
    path: str | Path, *, hardware_profile: str, link: str | None, name: str | None = None
) -> Policy:
    """The captions of a journal, timed anew on that profile and link.

    Raises:
        JournalError: it cannot be timed anew, or holds no caption.
        ConfigError: there is no such profile or link.
    """
    run = recorded_run(*read(path), path=path)
    config = timed_by(run.config, hardware_profile=hardware_profile, link=link)
    try:
        again = retimed(run, config)
        eager = run.mode == "spec" and config.cloud.parallel_prefill
        scripts = tuple(script(record, eager=eager) for record in again.records if record.ok)
    except JournalError as error:
        raise JournalError(f"{path} cannot be timed anew: {error}") from error
    if not scripts:
        raise JournalError(f"{path} holds no caption that was completed")
    known = {"edge": "edge alone", "cloud": "cloud alone"}
    return Policy(
        name or known.get(run.mode, Path(path).stem), run.mode, scripts, journal=Path(path).name
    )


def script(record: Record, *, eager: bool = False) -> Script:
    """The operations of a completed caption whose trace is in modelled time; ``eager``: its cloud prefills at once,
    also where the trace does not show it, since nobody waited.

    Alone on the cloud it takes what its trace says.
    """
    trace = record.trace
    edge = next((event for event in trace.of(Prefill) if event.side == "edge"), None)
    found: list[Operation] = []
    calls = trace.calls
    now_s, unjoined = 0.0, False
    if calls and edge and isinstance(calls[0], Generate) and calls[0].start_s < edge.end_s:
        first = calls.pop(0)
        assert isinstance(first, Generate)
        found.append(Send(_generated([first])))
        if first.tokens:
            found += [Work(edge.end_s), Join()]
            now_s = max(edge.end_s, first.end_s)
        else:
            unjoined = True
    elif eager and not calls:
        found.append(Send(Call(prefill_tokens=record.input_tokens or 0)))
    while calls:
        event = calls.pop(0)
        found.append(Work(max(0.0, event.start_s - now_s)))
        if unjoined:
            found.append(Join())
            unjoined = False
        if isinstance(event, Verify):
            call, now_s = _verified(event), event.end_s
        else:
            chunks = [event]
            while calls and isinstance(calls[0], Generate):
                following = calls.pop(0)
                assert isinstance(following, Generate)
                chunks.append(following)
            call, now_s = _generated(chunks), chunks[-1].end_s
        found += [Send(call), Join()]
    end_s = max((event.end_s for event in trace.of(Finish)), default=now_s)
    return (*found, Work(max(0.0, end_s - now_s)))


def _generated(chunks: Sequence[Generate]) -> Call:
    tokens = sum(len(chunk.tokens) for chunk in chunks)
    prefilled = sum(chunk.cost.prefill_tokens for chunk in chunks)
    return Call(
        bytes_up=chunks[0].cost.bytes_up,
        bytes_down=chunks[-1].cost.bytes_down,
        prefill_tokens=prefilled,
        # A prefill's logits give the first token for nothing.
        steps=max(0, tokens - (1 if prefilled else 0)),
        streamed=tokens,
    )


def _verified(event: Verify) -> Call:
    cost = event.cost
    return Call(
        bytes_up=cost.bytes_up,
        bytes_down=cost.bytes_down,
        prefill_tokens=cost.prefill_tokens,
        verify_tokens=max(1, cost.ingested_tokens + cost.verified_tokens),
        steps=len(event.continuation),
    )


def fleet(
    policies: Sequence[Policy],
    *,
    edges: Sequence[int],
    load: Load,
    objective: Objective,
    hardware_profile: str,
    link: str | None = None,
    max_batch: int = 16,
    captions: int = 100,
    gpu_hour: float = GPU_HOUR[0],
    seed: int = 0,
) -> dict[str, Any]:
    """The content of FLEET.json: each policy at each number of ``edges`` (rising), ``captions`` captions an edge (1,000 at
    least together); and the most edges that one cloud serves within the objective: in a closed loop of all numbers, else of
    those given."""
    hardware = profile(hardware_profile)
    between = link_of(link) if link is not None else Link("the profile's", hardware.link)

    def row(one: Policy, count: int) -> dict[str, Any]:
        arrivals, think_s = load.arrivals(count, seed)
        total = len(load.rows) or max(captions * count, _FEWEST)
        outcome = simulate(
            chooser(one.scripts, seed),
            arrivals,
            edges=count,
            captions=total,
            costs=hardware.cloud,
            link=between,
            max_batch=max_batch,
            think_s=think_s,
            seed=seed,
        )
        return {
            "edges": count,
            **measured(outcome, objective, gpu_hour, uses_cloud=one.mode != "edge"),
        }

    blocks: list[dict[str, Any]] = []
    for one in policies:
        rows = [row(one, count) for count in edges]
        most = None
        if one.mode != "edge" and load.text == "closed":
            most = _most(lambda count, one=one: row(one, count), rows)
        elif one.mode != "edge":
            most = next((found for found in reversed(rows) if found["met"]), None)
        blocks.append(
            {
                "policy": one.name,
                "mode": one.mode,
                "journal": one.journal,
                "note": one.note,
                "captions": len(one.scripts),
                "alone": alone(one.scripts, hardware.cloud),
                "at": rows,
                "most": most,
            }
        )
    _compare(blocks)
    batch = hardware.cloud.batch
    return {
        "schema": SCHEMA,
        "hardware_profile": hardware.name,
        "hardware_source": hardware.source,
        "batch_costs": batch.source,
        "link": between.name,
        "load": load.text,
        "objective": {"share": objective.share, "seconds": objective.seconds},
        "max_batch": max_batch,
        "gpu_hour_dollars": gpu_hour,
        "gpu_hour_source": GPU_HOUR[1] if gpu_hour == GPU_HOUR[0] else "given",
        "seed": seed,
        "policies": blocks,
    }


def alone(scripts: Sequence[Script], costs: CloudCosts) -> dict[str, float]:
    """What a caption asks of a GPU that it has to itself, in the mean: prefills, verifications and steps, and seconds of
    each. Forwards are shared in a fleet and prefills are not, so that ``prefill_s`` is what sharing leaves at least."""
    calls = [step.call for one in scripts for step in one if isinstance(step, Send)]
    prefilled = [call.prefill_tokens for call in calls if call.prefill_tokens]
    verified = [call.verify_tokens for call in calls if call.verify_tokens]
    steps = sum(call.steps for call in calls)
    found = {
        "prefills": len(prefilled),
        "prefill_s": sum(map(costs.prefill, prefilled)),
        "verifications": len(verified),
        "verify_s": sum(map(costs.verify, verified)),
        "steps": steps,
        "step_s": steps * costs.step_s,
    }
    return {name: value / len(scripts) for name, value in found.items()}


def measured(
    found: Simulated, objective: Objective, gpu_hour: float, *, uses_cloud: bool
) -> dict[str, Any]:
    """What came of a simulation, without its first tenth (JSON). ``captions_per_gpu_s``: captions over the time in
    which the one GPU is there, whether or not it works; ``busy_s_per_caption``: only while it does."""
    skipped = int(len(found.ended_s) * _WARM_UP)
    latencies = sorted(found.latencies_s[skipped:])
    began_s = found.ended_s[skipped - 1] if skipped else 0.0
    window_s = found.ended_s[-1] - began_s
    rate = len(latencies) / window_s
    within = sum(latency <= objective.seconds for latency in latencies)
    busy_s = found.busy_s[-1] - (found.busy_s[skipped - 1] if skipped else 0.0)
    forwards = sum(found.batches.values())
    gpus = math.ceil(_MILLION / _DAY_S / rate) if uses_cloud else 0
    return {
        "captions_per_s": rate,
        "goodput_per_s": within / window_s,
        "p50_s": _quantile(latencies, 0.5),
        "p95_s": _quantile(latencies, 0.95),
        "p99_s": _quantile(latencies, 0.99),
        "mean_s": sum(latencies) / len(latencies),
        "met": _quantile(latencies, objective.share) <= objective.seconds,
        "captions_per_gpu_s": rate if uses_cloud else None,
        "busy_s_per_caption": busy_s / len(latencies),
        "utilization": busy_s / window_s,
        "sessions_per_forward": sum(n * times for n, times in found.batches.items()) / forwards
        if forwards
        else None,
        "gpus_for_a_million_a_day": gpus,
        "dollars_a_day": gpus * 24 * gpu_hour,
    }


def _most(row: Any, rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The row of the most edges within the objective, by doubling and halving; ``None``: not even one."""
    known = {found["edges"]: found for found in rows}

    def at(count: int) -> dict[str, Any]:
        if count not in known:
            known[count] = row(count)
        return known[count]

    low = 0
    high = 1
    while high <= _MOST_EDGES and at(high)["met"]:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if at(middle)["met"] else (low, middle)
    return at(low) if low else None


def _compare(blocks: Sequence[dict[str, Any]]) -> None:
    """Give each block ``over_cloud_alone``: its captions a GPU-second at the objective over the cloud's alone."""
    alone = next((block["most"] for block in blocks if block["mode"] == "cloud"), None)
    for block in blocks:
        own = block["most"]
        block["over_cloud_alone"] = (
            own["captions_per_gpu_s"] / alone["captions_per_gpu_s"] if own and alone else None
        )


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


def _number(text: str) -> float | None:
    try:
        found = float(text)
    except ValueError:
        return None
    return found if math.isfinite(found) else None
