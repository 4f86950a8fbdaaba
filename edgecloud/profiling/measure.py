"""From the machine at hand to a hardware profile: what ``edgecloud profile measure`` does."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from typing import Any, Literal

import torch

from edgecloud.hardware.costs import ASSUMED, BatchCosts, Caps, CloudCosts, EdgeCosts
from edgecloud.hardware.profile_files import ProfileFile
from edgecloud.hardware.profiles import profile
from edgecloud.models.audio_lm import pick_device
from edgecloud.models.shapes import shape
from edgecloud.profiling.batches import batch_costs
from edgecloud.profiling.engines import Engine, build, loaded, prompt_of
from edgecloud.profiling.timing import (
    Plan,
    Timed,
    edge_costs,
    full_depth_s,
    memory_bandwidth_gb_s,
    peak_memory_gb,
    reset_peak_memory,
    time_engines,
)
from edgecloud.results.environment import environment

__all__ = ["Request", "cloud_costs", "measure", "medians", "profile_of", "provenance_of"]

ClockName = Literal["wall", "cpu"]
_VERSIONS = ("python", "edgecloud", "torch", "transformers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The request of a measurement. ``model`` is a checkpoint folder; without it, ``shape`` with
    ``layers`` of its layers (all when ``None``) and random weights."""

    name: str
    precisions: tuple[str, ...]
    side: Literal["edge", "cloud"]
    device: str
    clock: ClockName
    rounds: int
    model: str | None
    shape: str
    layers: int | None
    max_cpu_cores: int
    max_memory_gb: float
    sessions: tuple[int, ...] = ()
    """Sessions that share a forward, from 1 on, at which a cloud is measured; empty: none."""
    affinity: list[int] | None = None


def measure(request: Request, say: Callable[[str], None]) -> ProfileFile:
    """Measure one precision after the other; ``say`` is told how it goes.

    Raises:
        EdgeCloudError: a model or device cannot be used.
    """
    device = pick_device(request.device)
    shape(request.shape)  # an unknown one is said at once
    bandwidths = memory_bandwidth_gb_s(device=device)
    plan = Plan(rounds=request.rounds, captions=0)
    measured: dict[str, Any] = {}
    costs: dict[str, EdgeCosts] = {}
    batch = ASSUMED
    for precision in request.precisions:
        say(f"{precision}: building")
        reset_peak_memory()
        engine = _engine(request, precision, device)
        say(f"{precision}: timing")
        times = time_engines([engine], plan)[precision]
        costs[precision], measured[precision] = summary(engine, times, plan, clock=request.clock)
        if request.sessions and precision == request.precisions[0]:
            say(f"{precision}: timing {', '.join(map(str, request.sessions))} sessions")
            batch, measured[precision]["batch_ms"] = batch_costs(
                engine,
                audio_s=plan.audio_s[0],
                sessions=request.sessions,
                rounds=request.rounds,
            )
        del engine
        gc.collect()
    return profile_of(
        request.name,
        costs,
        provenance_of(
            measured,
            what=request.model or f"the {request.shape} shape, random weights",
            clock=request.clock,
            device=device,
            affinity=request.affinity,
            bandwidths=bandwidths,
        ),
        side=request.side,
        caps=Caps(request.max_cpu_cores, request.max_memory_gb) if device == "cpu" else None,
        batch=batch,
    )


def _engine(request: Request, precision: str, device: str) -> Engine:
    if request.model is not None:
        return loaded(request.model, precision, device=device)
    return build(precision, shape(request.shape).cut(request.layers), device=device)


def medians(times: Mapping[str, Timed], clock: ClockName) -> dict[str, float]:
    """The median of each operation by that clock, seconds."""
    return {
        name: timed.median_s if clock == "wall" else timed.median_cpu_s
        for name, timed in times.items()
    }


def summary(
    engine: Engine, times: Mapping[str, Timed], plan: Plan, *, clock: ClockName
) -> tuple[EdgeCosts, dict[str, Any]]:
    """The costs of an engine at full depth, and what a profile's provenance says of it (JSON)."""
    of = engine.shape
    seen = medians(times, clock)
    whole = full_depth_s(of, seen)
    longer, shorter = (prompt_of(of, seconds) for seconds in plan.audio_s)
    told = {
        "runner": engine.runner,
        "layers": of.layers,
        "depth": of.depth,
        "extrapolated": of.layers < of.depth,
        "audio_s": list(plan.audio_s),
        "prompt_tokens": [longer.length, shorter.length],
        "rounds": {name: len(timed.wall_s) for name, timed in times.items()},
        "measured_ms": {name: 1e3 * seconds for name, seconds in seen.items()},
        "full_ms": {name: 1e3 * seconds for name, seconds in whole.items()},
        "step_bytes": engine.step_bytes,
        "peak_memory_gb": peak_memory_gb(),
    }
    return edge_costs(whole, (longer, shorter)), told


def provenance_of(
    measured: Mapping[str, Any],
    *,
    what: str,
    clock: ClockName,
    device: str,
    affinity: list[int] | None,
    bandwidths: tuple[float, float],
) -> dict[str, Any]:
    """The provenance of a measured profile (JSON)."""
    here = environment()
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "what": what,
        "clock": "wall" if clock == "wall" else "processor time over threads",
        "bandwidth_gb_s": bandwidths[clock == "cpu"],
        "machine": {
            "cpu": here["cpu"],
            "memory_total_gb": here["memory_total_gb"],
            "platform": here["platform"],
            "device": torch.cuda.get_device_name(device) if device != "cpu" else "cpu",
            "cores_used": None if affinity is None else len(affinity),
            "threads": torch.get_num_threads(),
        },
        "versions": {
            **{name: here["versions"][name] for name in _VERSIONS},
            "openvino": _openvino_version(),
        },
        "measured": dict(measured),
    }


def _openvino_version() -> str | None:
    try:
        return metadata.version("openvino")
    except metadata.PackageNotFoundError:
        return None


def profile_of(
    name: str,
    costs: Mapping[str, EdgeCosts],
    provenance: Mapping[str, Any],
    *,
    side: Literal["edge", "cloud"],
    caps: Caps | None,
    batch: BatchCosts = ASSUMED,
) -> ProfileFile:
    """A profile with the measured side, and the other side and the link from ``paper``; ``batch`` is the
    measured cloud's."""
    paper = profile("paper")
    first = next(iter(costs))
    modelled = (
        "edge, link: from the profile paper"
        if side == "cloud"
        else "cloud, link: from the profile paper"
    )
    cut = [key for key, told in provenance["measured"].items() if told["extrapolated"]]
    notes = [modelled, *([f"depth of {', '.join(cut)}: extrapolated"] if cut else [])]
    machine = provenance["machine"]
    where = machine["device"] if machine["device"] != "cpu" else (
        f"{machine['threads']} threads of {machine['cpu']['model']}"
    )  # fmt: skip
    source = f"measured on {where}, {provenance['date']}: {provenance['what']}"
    return ProfileFile(
        name=name,
        source=f"{source}; {'; '.join(notes)}",
        edges=costs if side == "edge" else {},
        default_edge=first if side == "edge" else None,
        cloud=paper.cloud if side == "edge" else replace(cloud_costs(costs[first]), batch=batch),
        link=paper.link,
        caps=caps,
        provenance={**provenance, "modelled": notes},
    )


def cloud_costs(costs: EdgeCosts) -> CloudCosts:
    """The same costs as a cloud's: a verification is a forward over its tokens."""
    return CloudCosts(
        prefill_s=costs.prefill_s,
        step_s=costs.step_s,
        verify_s=costs.step_s,
        prefill_per_token_s=costs.prefill_per_token_s,
        verify_factors=costs.ingest_steps,
    )
