"""What bench/test_shapes.py runs: how much of a model fits, its timings, their rows and table."""

from __future__ import annotations

import gc
import json
import os
import statistics
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import psutil
import torch
from tabulate import tabulate

if TYPE_CHECKING:
    from edgecloud.hardware.costs import EdgeCosts
    from edgecloud.models.shapes import Shape
    from edgecloud.profiling.measure import ClockName
    from edgecloud.profiling.timing import Timed

__all__ = ["BUDGET_GB", "COUNTS", "ENGINES", "Pair", "Run", "products_s_per_weight"]

ENGINES = ("float32", "bfloat16", "int8", "int4")
COUNTS = (1, 2, 3, 4, 6, 8, 10, 12, 16)
BUDGET_GB = 20.0
BANDWIDTH_AT_LEAST = 0.8
"""Of the memory's bandwidth, measured in the same turns, a step of int8 is meant to reach."""
PRODUCTS_AT_LEAST = 0.6
"""Of the rate of an int8 product of as many rows, measured in the same run, :data:`JUDGED` are meant to reach."""
JUDGED = ("prefill", "ingest-4", "ingest-8", "ingest-16")
_ENGINE_GB = {"float32": 0.0, "bfloat16": 0.0, "int8": 5.5, "int4": 5.0}
"""Room for a quantised engine at full depth; the others are cut with the baseline."""
_SPARE_GB = 2.0


def layers_that_fit(of: Shape, precision: str, available_gb: float) -> int:
    """The layers of the baseline (float32), and of an unquantised engine beside it, that fit into the
    budget or what is free, if less."""
    room_gb = min(BUDGET_GB, available_gb) - _SPARE_GB - _ENGINE_GB[precision]
    bytes_each = {"float32": 4, "bfloat16": 6}.get(precision, 4)
    fixed = (of.head_weights + of.audio_weights) * bytes_each
    layers = int((room_gb * 1e9 - fixed) / (of.layer_weights * bytes_each))
    return max(1, min(of.depth, layers))


@dataclass(frozen=True, slots=True)
class Pair:
    """One engine beside ``transformers`` float32, timed in turns: readings by engine and operation."""

    name: str
    of: Shape
    base_of: Shape
    step_bytes: int
    times: dict[str, dict[str, Timed]]
    bandwidths_gb_s: tuple[float, float]
    """The best before and after, by the wall clock and by processor time."""
    memory_gb: float
    """What was read in each turn of the steps."""
    products: dict[str, tuple[float, float]]
    """Seconds a weight of int8 products with as many rows as :data:`JUDGED` have tokens, by wall and by processor
    time over threads."""
    peak_gb: float
    costs: EdgeCosts
    told: dict[str, Any]

    def full_s(self, name: str, clock: ClockName) -> dict[str, float]:
        """Medians of one of the two engines, by operation, as all layers would take; seconds."""
        from edgecloud.profiling.measure import medians
        from edgecloud.profiling.timing import full_depth_s

        return full_depth_s(
            self.of if name == self.name else self.base_of, medians(self.times[name], clock)
        )

    def ratio(self, operation: str, clock: ClockName) -> float:
        """How many times faster than ``transformers`` the engine is."""
        base = self.full_s("transformers", clock)[operation]
        return base / self.full_s(self.name, clock)[operation]

    def ingest_steps(self, count: int, clock: ClockName) -> float:
        """Steps that a forward over ``count`` tokens takes."""
        found = self.full_s(self.name, clock)
        return found[f"ingest-{count}"] / found["step"]

    def bandwidth_share(self, clock: ClockName) -> float:
        """Bytes of weights that a step reads a second, over what the memory alone gave in its turns."""
        from edgecloud.profiling.measure import medians

        step_s = medians(self.times[self.name], clock)["step"]
        return self.step_bytes / 1e9 / step_s / self.bandwidth_gb_s(clock)

    def bandwidth_gb_s(self, clock: ClockName) -> float:
        """The median of what the memory alone gave in the turns of the steps."""
        from edgecloud.profiling.measure import medians
        from edgecloud.profiling.timing import MEMORY

        return self.memory_gb / medians(self.times[MEMORY], clock)["step"]

    def product_share(self, operation: str, clock: ClockName) -> float:
        """The time of int8 products over as many rows and weights, over that of the operation without its audio
        tower; one of :data:`JUDGED`."""
        of = self.of
        times = self.full_s(self.name, clock)
        taken_s = times[operation] - (times.get("hear", 0.0) if operation == "prefill" else 0.0)
        # A prefill needs the output layer for its last token alone, the others for each.
        weights = of.depth * of.layer_weights + (0 if operation == "prefill" else of.head_weights)
        return self.products[operation][clock == "cpu"] * weights / taken_s

    def info(self, operation: str) -> dict[str, Any]:
        """What a row says besides its readings (JSON)."""
        found: dict[str, Any] = {
            "engine": self.name,
            "runner": self.told["runner"],
            "shape": self.of.name,
            "layers": self.of.layers,
            "layers_of_baseline": self.base_of.layers,
            "depth": self.of.depth,
            "extrapolated": self.of.layers < self.of.depth,
            "baseline_extrapolated": self.base_of.layers < self.base_of.depth,
            "peak_memory_gb": self.peak_gb,
        }
        for clock, suffix in (("wall", ""), ("cpu", "_by_processor_time")):
            found[f"full_depth_ms{suffix}"] = 1e3 * self.full_s(self.name, clock)[operation]
            found[f"times_faster_than_transformers{suffix}"] = self.ratio(operation, clock)
            if operation == "step":
                found[f"bandwidth_gb_s{suffix}"] = self.bandwidth_gb_s(clock)
                found[f"share_of_bandwidth{suffix}"] = self.bandwidth_share(clock)
            if operation in self.products:
                found[f"share_of_int8_product{suffix}"] = self.product_share(operation, clock)
        if operation == "step":
            found["step_bytes"] = self.step_bytes
            found["best_bandwidth_gb_s"] = list(self.bandwidths_gb_s)
        return found

    def missed(self, operation: str, clock: ClockName) -> str | None:
        """How int8 misses its target for an operation; ``None`` when it does not, or there is none."""
        if (self.name, self.of.name) != ("int8", "3b"):
            return None
        if operation == "step" and self.bandwidth_share(clock) < BANDWIDTH_AT_LEAST:
            return (
                f"step: {self.bandwidth_share(clock):.0%} of the memory bandwidth, "
                f"{BANDWIDTH_AT_LEAST:.0%} is the target"
            )
        if operation in JUDGED and self.product_share(operation, clock) < PRODUCTS_AT_LEAST:
            return (
                f"{operation}: {self.product_share(operation, clock):.0%} of the rate of an int8 product, "
                f"{PRODUCTS_AT_LEAST:.0%} is the target"
            )
        return None


def products_s_per_weight(
    rows: Sequence[int], *, rounds: int = 3, side: int = 2048, gigabytes: float = 0.25
) -> list[tuple[float, float]]:
    """Seconds a weight of int8 products of so many float32 rows with square matrices of ``side``, which together are
    ``gigabytes``, more than any cache holds: torch's own, whose activations are rounded to 8 bits as they come.
    Medians, by wall and by processor time over threads."""
    count = max(1, int(gigabytes * 1e9 / side**2))
    with warnings.catch_warnings():  # torch means to have these elsewhere one day
        warnings.simplefilter("ignore", UserWarning)
        weight = torch.quantize_per_tensor(torch.randn(side, side), 0.03, 0, torch.qint8)
    matrices = [torch.ops.quantized.linear_prepack(weight, None) for _ in range(count)]
    found = []
    for size in rows:
        given = torch.randn(size, side)
        readings = []
        for _ in range(rounds + 1):
            began_s, began_cpu_s = time.perf_counter(), time.process_time()
            for matrix in matrices:
                torch.ops.quantized.linear_dynamic(given, matrix, reduce_range=True)
            cpu_s = (time.process_time() - began_cpu_s) / torch.get_num_threads()
            readings.append((time.perf_counter() - began_s, cpu_s))
        wall_s, cpu_s = (
            statistics.median(by_clock) for by_clock in zip(*readings[1:], strict=True)
        )
        found.append((wall_s / (count * side**2), cpu_s / (count * side**2)))
    return found


@dataclass(slots=True)
class Run:
    """The pairs of one run, one in memory at a time. From the environment: ``EDGECLOUD_SHAPES``, the
    shape (``tiny`` tries the file out); ``EDGECLOUD_SHAPES_LAYERS``, of the unquantised
    engines, in place of as many as fit; and ``EDGECLOUD_SHAPES_CLOCK``, ``cpu`` where others use the machine meanwhile."""

    shape: str = field(default_factory=lambda: os.environ.get("EDGECLOUD_SHAPES", "3b"))
    layers: int = field(default_factory=lambda: int(os.environ.get("EDGECLOUD_SHAPES_LAYERS", "0")))
    clock: ClockName = field(
        default_factory=lambda: cast("ClockName", os.environ.get("EDGECLOUD_SHAPES_CLOCK", "wall"))
    )
    done: list[Pair] = field(default_factory=list)

    def pair(self, precision: str) -> Pair:
        """Build both engines, time them in turns, and let go of their weights."""
        from edgecloud.models.shapes import shape
        from edgecloud.profiling import engines
        from edgecloud.profiling import measure as measuring
        from edgecloud.profiling import timing as profiling

        whole = shape(self.shape)
        free_gb = psutil.virtual_memory().available / 1e9
        layers = self.layers or layers_that_fit(whole, precision, free_gb)
        plan = profiling.Plan(counts=COUNTS, rounds=5, steps=10)
        before = profiling.memory_bandwidth_gb_s()
        gc.collect()
        profiling.reset_peak_memory()
        own = engines.build("float32", whole.cut(layers))
        base = engines.baseline(own)
        engine = (
            own
            if precision == "float32"
            else engines.build(
                precision, whole if precision in engines.QUANTIZED else whole.cut(layers)
            )
        )
        memory = profiling.Memory()
        times = profiling.time_engines([base, engine], plan, memory=memory)
        costs, told = measuring.summary(engine, times[precision], plan, clock=self.clock)
        after = profiling.memory_bandwidth_gb_s()
        length = engines.prompt_of(whole, plan.audio_s[0]).length
        rows = [
            length if operation == "prefill" else int(operation.partition("-")[2])
            for operation in JUDGED
        ]
        products = dict(zip(JUDGED, products_s_per_weight(rows), strict=True))
        best = (max(before[0], after[0]), max(before[1], after[1]))
        told["bandwidth_gb_s"] = best[self.clock == "cpu"]
        found = Pair(
            name=precision,
            of=engine.shape,
            base_of=base.shape,
            step_bytes=engine.step_bytes,
            times=times,
            bandwidths_gb_s=best,
            memory_gb=memory.gigabytes,
            products=products,
            peak_gb=told["peak_memory_gb"],
            costs=costs,
            told=told,
        )
        self.done.append(found)
        return found

    def table(self) -> str:
        """Full-depth milliseconds, and in brackets how many times faster than ``transformers``."""
        shown = ("hear", "prefill", "step", "ingest-4", "ingest-8", "ingest-16", "caption")
        rows: list[list[object]] = []
        for pair in self.done:
            for name, of in (("transformers", pair.base_of), (pair.name, pair.of)):
                times = pair.full_s(name, self.clock)
                marks = [
                    f"{1e3 * times[operation]:.0f}"
                    + (f" ({pair.ratio(operation, self.clock):.1f})" if name == pair.name else "")
                    for operation in shown
                ]
                rows.append([name, f"{of.layers}/{of.depth}", *marks, f"{pair.peak_gb:.1f}"])
        return tabulate(rows, headers=["engine", "layers", *(f"{s} ms" for s in shown), "peak GB"])

    def save(self, folder: Path) -> list[Path]:
        """Write every reading, and the hardware profile that the medians make."""
        from edgecloud.hardware.costs import Caps
        from edgecloud.hardware.profile_files import write_profile
        from edgecloud.profiling import measure as measuring

        readings = {
            pair.name: {
                "info": {operation: pair.info(operation) for operation in pair.times[pair.name]},
                "readings_s": {
                    name: {op: {"wall": t.wall_s, "cpu": t.cpu_s} for op, t in timed.items()}
                    for name, timed in pair.times.items()
                },
            }
            for pair in self.done
        }
        folder.mkdir(parents=True, exist_ok=True)
        raw = folder / f"shapes-{self.shape}.json"
        raw.write_text(json.dumps(readings, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        provenance = measuring.provenance_of(
            {pair.name: pair.told for pair in self.done},
            what=f"the {self.shape} shape, random weights",
            clock=self.clock,
            device="cpu",
            affinity=None,
            bandwidths=self.done[-1].bandwidths_gb_s,
        )
        path = folder / f"profile-{self.shape}.json"
        costs = {pair.name: pair.costs for pair in self.done}
        write_profile(
            path,
            measuring.profile_of(path.stem, costs, provenance, side="edge", caps=Caps(2, 16.0)),
        )
        return [raw, path]
