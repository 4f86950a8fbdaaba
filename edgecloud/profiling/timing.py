"""Engines timed beside each other, operation by operation, and what that makes of a hardware profile.

All engines do an operation before any does it again, in an order that turns, so that what slows the
machine for a while slows all of them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import torch
from torch import Tensor

from edgecloud.contracts import Prompt
from edgecloud.hardware.costs import EdgeCosts, Points
from edgecloud.models.shapes import Shape
from edgecloud.profiling.engines import Engine, prompt_of

__all__ = [
    "COUNTS",
    "MEMORY",
    "RUN",
    "Memory",
    "Plan",
    "Timed",
    "edge_costs",
    "full_depth_s",
    "ingest",
    "memory_bandwidth_gb_s",
    "peak_memory_gb",
    "reset_peak_memory",
    "time_engines",
]

COUNTS = (1, 2, 3, 4, 6, 8, 10, 12, 16)
"""Tokens of the forwards that are timed."""
RUN = 5
"""Steps in a row that make one reading: decoding takes them so."""
MEMORY = "memory"
"""Name of the readings of the memory alone, where others have the engine's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The plan of a timing: forwards over ``counts`` tokens ``rounds`` times each, runs of steps ``steps``
    times when it is given; prefills of ``audio_s`` and the audio tower alone ``prefills`` times; whole
    captions of ``caption_tokens`` ``captions`` times. Seconds of audio; the first is the long prompt,
    which all but prefills build on."""

    counts: tuple[int, ...] = COUNTS
    rounds: int = 7
    steps: int | None = None
    audio_s: tuple[float, float] = (10.0, 3.0)
    prefills: int = 3
    caption_tokens: int = 70
    captions: int = 1


@dataclass(slots=True)
class Timed:
    """Every reading of one operation on one engine, seconds: by the wall clock, and of processor time
    over the number of threads."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    def add(self, reading: tuple[float, float]) -> None:
        """One more, by both clocks."""
        self.wall_s.append(reading[0])
        self.cpu_s.append(reading[1])

    @property
    def median_s(self) -> float:
        """Median of the readings by the wall clock, seconds."""
        return statistics.median(self.wall_s)

    @property
    def median_cpu_s(self) -> float:
        """Median of the readings of processor time, seconds a thread."""
        return statistics.median(self.cpu_s)


def ingest(count: int) -> str:
    """The name of a forward over ``count`` known tokens."""
    return "step" if count == 1 else f"ingest-{count}"


class Memory:
    """More memory than any cache holds, to be read beside the engines; ``gigabytes`` of 10^9 bytes."""

    def __init__(self, *, gigabytes: float = 1.0, device: str = "cpu") -> None:
        side = int((gigabytes * 1e9 / 4) ** 0.5)
        self._matrix = torch.ones(side, side, device=device)
        self._vector = torch.ones(side, device=device)
        self.gigabytes = self._matrix.nbytes / 1e9
        self.reads: tuple[Callable[[], object], ...] = (self.sum, self._product)
        """Two ways to read all of it, with the threads that torch has."""

    def sum(self) -> None:
        """Read all of it once."""
        self._done(self._matrix.sum())

    def _product(self) -> None:
        self._done(self._matrix.mv(self._vector))

    def _done(self, found: Tensor) -> None:
        if found.is_cuda:
            torch.cuda.synchronize()


def time_engines(
    engines: Sequence[Engine], plan: Plan, *, memory: Memory | None = None
) -> dict[str, dict[str, Timed]]:
    """Time every operation of ``plan`` on all ``engines``, interleaved: ``{engine: {operation: …}}``.

    Operations are ``hear`` (where there is an audio tower), ``prefill``, ``prefill-short``, ``step``, ``ingest-N`` and ``caption``.
    Each is done once before without a reading. With ``memory``, its sum is taken in each turn of the
    steps, too: ``{MEMORY: {"step": …}}``.
    """
    found: dict[str, dict[str, Timed]] = {engine.name: {} for engine in engines}
    if memory is not None:
        found[MEMORY] = {"step": Timed()}
    longer, shorter = (prompt_of(engines[0].shape, seconds) for seconds in plan.audio_s)
    for name, act, rounds in _operations(plan, longer, shorter):
        for turn in range(rounds + 1 if rounds and name != "caption" else rounds):
            first = turn % len(engines)
            for engine in (*engines[first:], *engines[:first]):
                reading = _timed(engine, act, longer, RUN if name == "step" else 1)
                if turn or name == "caption":  # a caption repeats what is warm by now
                    found[engine.name].setdefault(name, Timed()).add(reading)
            if memory is not None and turn and name == "step":
                found[MEMORY][name].add(_clocked(memory.sum))
    return found


Act = Callable[[Engine], object]


def _operations(plan: Plan, longer: Prompt, shorter: Prompt) -> list[tuple[str, Act, int]]:
    def forward(count: int) -> Act:
        return lambda engine: engine.model.extend([7] * count)

    features = longer.features
    hear: list[tuple[str, Act, int]] = (
        []
        if features is None
        else [("hear", lambda engine: engine.encode_audio(features), plan.prefills)]
    )
    return [
        *hear,
        ("prefill-short", lambda engine: engine.model.prefill(shorter), plan.prefills),
        ("prefill", lambda engine: engine.model.prefill(longer), plan.prefills),
        *[
            (ingest(count), forward(count), (plan.steps if count == 1 else None) or plan.rounds)
            for count in plan.counts
        ],
        ("caption", lambda engine: engine.caption(longer, plan.caption_tokens), plan.captions),
    ]


def _timed(engine: Engine, act: Act, longer: Prompt, times: int) -> tuple[float, float]:
    """Wall and processor seconds of one of so many ``act`` in a row; afterwards the model holds the long
    prompt, or less."""
    model = engine.model
    if model.length > longer.length:
        model.rollback(longer.length)
    _synchronize(engine)

    def done() -> None:
        for _ in range(times):
            act(engine)
        _synchronize(engine)

    wall_s, cpu_s = _clocked(done)
    return wall_s / times, cpu_s / times


def _clocked(act: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds of ``act``, these over the number of threads."""
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    act()
    took_s, took_cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    return took_s, took_cpu_s / torch.get_num_threads()


def _synchronize(engine: Engine) -> None:
    if engine.thinker is not None and engine.thinker.lm_head.weight.is_cuda:
        torch.cuda.synchronize()


def full_depth_s(of: Shape, times: Mapping[str, float]) -> dict[str, float]:
    """``times`` of a shape that was cut, as all of its layers would take; unchanged of a whole one.

    Forwards over a few tokens grow with the weights they read, prefills less the audio tower (which
    is never cut) with the layers.
    """
    whole = of.whole
    weights, layers = whole.step_weights / of.step_weights, whole.layers / of.layers
    encode_s = times.get("hear", 0.0)
    found = {}
    for name, seconds in times.items():
        if name == "hear":
            found[name] = seconds
        elif name == "prefill":
            found[name] = encode_s + max(0.0, seconds - encode_s) * layers
        elif name == "prefill-short":
            encoded_s = encode_s * min(1.0, seconds / times["prefill"])
            found[name] = encoded_s + (seconds - encoded_s) * layers
        elif name != "caption":
            found[name] = seconds * weights
    if "caption" in times:
        steps_s = (times["caption"] - times["prefill"]) * weights
        found["caption"] = found["prefill"] + steps_s
    return found


def edge_costs(times: Mapping[str, float], prompts: tuple[Prompt, Prompt]) -> EdgeCosts:
    """The costs that a modelled clock reckons with, from times by operation, seconds.

    A prefill is the line through the two that were timed; ingestion is in steps and never falls.
    """
    longer, shorter = (prompt.length for prompt in prompts)
    per_token_s = max(0.0, (times["prefill"] - times["prefill-short"]) / (longer - shorter))
    fixed_s = times["prefill"] - per_token_s * longer
    if fixed_s < 0:
        fixed_s, per_token_s = 0.0, times["prefill"] / longer
    points: Points = ((1, 1.0),)
    counts = sorted(int(name.partition("-")[2]) for name in times if name.startswith("ingest-"))
    for count in counts:
        steps = times[ingest(count)] / times["step"]
        points = (*points, (count, max(points[-1][1], steps)))
    return EdgeCosts(
        prefill_s=fixed_s,
        step_s=times["step"],
        prefill_per_token_s=per_token_s,
        ingest_steps=points,
    )


def memory_bandwidth_gb_s(
    *, gigabytes: float = 1.0, rounds: int = 9, device: str = "cpu"
) -> tuple[float, float]:
    """Bandwidth of reading memory here, 10^9 bytes a second: by the wall clock, and by processor time.

    The best of a sum and of a product of matrix and vector over more than any cache holds, with the
    threads that torch has.
    """
    memory = Memory(gigabytes=gigabytes, device=device)
    readings = [_clocked(read) for read in memory.reads for _ in range(rounds + 1)]
    best_s, best_cpu_s = (min(by_clock) for by_clock in zip(*readings, strict=True))
    return memory.gigabytes / best_s, memory.gigabytes / best_cpu_s


def reset_peak_memory() -> None:
    """Begin a new peak, where the system can (Linux); elsewhere the old one stays."""
    control = Path("/proc/self/clear_refs")
    if control.exists():
        control.write_text("5")


def peak_memory_gb() -> float:
    """The largest resident memory of this process so far, 10^9 bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e9
    return psutil.Process().memory_info().rss / 1e9
