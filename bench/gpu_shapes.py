"""What bench/test_shapes.py runs where there is a GPU: the cloud's side at its shape."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from edgecloud.hardware.profile_files import ProfileFile
    from edgecloud.profiling.gpu import Capture

__all__ = ["Gpu"]

_BATCHES = (1, 2, 4, 8, 16)


@dataclass(frozen=True, slots=True)
class Gpu:
    """Readings by ``ENGINE/OPERATION``, seconds, and the profile that they make."""

    step_bytes: int
    bandwidth_gb_s: float
    profile: ProfileFile
    readings_s: dict[str, list[float]] = field(default_factory=dict)

    @classmethod
    def timed(
        cls,
        name: str,
        *,
        device: str,
        precision: str = "float16",
        capture: Capture | None = None,
        rounds: int = 20,
    ) -> Self:
        """Time everything on ``device``; ``capture`` stands in for CUDA graphs where there are none."""
        from edgecloud.models.shapes import shape
        from edgecloud.profiling import gpu as gpu_profiling
        from edgecloud.profiling import measure as measuring
        from edgecloud.profiling import timing as profiling
        from edgecloud.profiling.engines import baseline, build, prompt_of

        bandwidths = profiling.memory_bandwidth_gb_s(device=device)
        own = build(precision, shape(name), device=device)
        base = baseline(own)
        plan = profiling.Plan(
            rounds=rounds, prefills=max(1, rounds // 2), captions=max(1, rounds // 6)
        )
        prompt = prompt_of(own.shape, plan.audio_s[0])
        times = profiling.time_engines([base, own], plan)
        readings = {
            f"{engine}/{operation}": timed.wall_s
            for engine, found in ((base.name, times[base.name]), ("float16", times[own.name]))
            for operation, timed in found.items()
        }
        step = gpu_profiling.captured_step(own, prompt, capture or gpu_profiling.cuda_graph)
        readings["float16/step-graph"] = gpu_profiling.time_calls(
            step, rounds=rounds, device=device
        )
        batches = gpu_profiling.time_batches(own, prompt, _BATCHES, rounds=rounds)
        readings.update({f"float16/batch-{size}": found for size, found in batches.items()})
        costs, told = measuring.summary(own, times[own.name], plan, clock="wall")
        provenance = measuring.provenance_of(
            {precision: told},
            what=f"the {name} shape, random weights",
            clock="wall",
            device=device,
            affinity=None,
            bandwidths=bandwidths,
        )
        found = measuring.profile_of("gpu", {precision: costs}, provenance, side="cloud", caps=None)
        return cls(own.step_bytes, bandwidths[0], found, readings)

    def info(self, operation: str) -> dict[str, Any]:
        """What a row says besides its readings (JSON)."""
        from edgecloud.profiling.gpu import roofline_s

        found_s = statistics.median(self.readings_s[operation])
        base = self.readings_s.get(f"transformers/{operation.partition('/')[2]}")
        return {
            "engine": operation.partition("/")[0],
            "times_faster_than_transformers": base and statistics.median(base) / found_s,
            "roofline_ms": 1e3 * roofline_s(self.step_bytes, self.bandwidth_gb_s),
            "bandwidth_gb_s": self.bandwidth_gb_s,
        }

    def save(self, folder: Path) -> Path:
        """Write the profile, named after the device."""
        from edgecloud.hardware.profile_files import write_profile

        device = str(self.profile.provenance["machine"]["device"])
        path = folder / f"profile-{device.replace(' ', '-').lower()}.json"
        write_profile(path, self.profile)
        return path
