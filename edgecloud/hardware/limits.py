"""Cap the edge process's cores and memory, on that process alone, and say what really took effect.

The edge caps itself first thing, before torch is imported (:func:`apply_in_child`: affinity and
threads, which need no rights); the process that started it adds a cgroup where it may
(:class:`CgroupCap`). Memory is enforced by a cgroup or watched by
:mod:`edgecloud.hardware.probes`; never by ``RLIMIT_AS``, which counts mapped files too and would
stop torch long before the cap. :class:`LimitsReport` is what a result says about it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psutil

__all__ = [
    "BYTES_PER_GB",
    "THREAD_VARIABLES",
    "LimitsReport",
    "apply_in_child",
    "apply_torch_threads",
]

BYTES_PER_GB = 10**9
"""A gigabyte, in caps and in readings."""

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "RAYON_NUM_THREADS",
)
"""Variables that the numeric libraries read, once, when they are first imported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsReport:
    """The caps asked for and those in force. Cores and GB (10^9 bytes); 0 asked is uncapped.

    ``affinity`` the cores the process may run on, ``threads`` of the numeric libraries,
    ``cpu_cgroup`` and ``memory_cgroup`` ``"v1"``, ``"v2"`` or ``None``; ``memory_watched``: peak
    memory is read and a sample over the cap is marked, but nothing stops it. ``notes`` say in plain
    sentences what is not in force, and why.
    """

    cpu_cores: int
    memory_gb: float
    affinity: tuple[int, ...] | None = None
    threads: int | None = None
    cpu_cgroup: str | None = None
    memory_cgroup: str | None = None
    memory_watched: bool = False
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        max_cpu_cores: int,
        max_memory_gb: float,
        *,
        child: Mapping[str, Any] | None = None,
        cgroup: Mapping[str, Any] | None = None,
        watched: bool = False,
    ) -> LimitsReport:
        """Put together what :func:`apply_in_child` returned in the edge process and what
        :attr:`edgecloud.hardware.cgroups.CgroupCap.in_force` says; ``watched`` by a probe."""
        child, cgroup = child or {}, cgroup or {}
        memory = f"cgroup-{cgroup['memory']}" if cgroup.get("memory") else None
        notes = [*child.get("notes", ()), *cgroup.get("notes", ())]
        if max_memory_gb > 0 and memory is None:
            notes.append(
                "Memory is watched, not enforced: a sample over the cap is marked."
                if watched
                else "The memory cap is not in force."
            )
        affinity = child.get("affinity")
        return cls(
            cpu_cores=max_cpu_cores,
            memory_gb=max_memory_gb,
            affinity=None if affinity is None else tuple(affinity),
            threads=child.get("threads"),
            cpu_cgroup=cgroup.get("cpu"),
            memory_cgroup=cgroup.get("memory"),
            memory_watched=watched and max_memory_gb > 0,
            notes=tuple(notes),
        )

    def to_json(self) -> dict[str, Any]:
        """The report as in a result, ``requested`` beside ``in_force``."""
        memory = f"cgroup-{self.memory_cgroup}" if self.memory_cgroup else None
        return {
            "requested": {"cpu_cores": self.cpu_cores, "memory_gb": self.memory_gb},
            "in_force": {
                "cpu": {
                    "affinity": None if self.affinity is None else list(self.affinity),
                    "threads": self.threads,
                    "cgroup": self.cpu_cgroup,
                },
                "memory": {"enforced_by": memory, "watched": self.memory_watched},
            },
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LimitsReport:
        """The report that :meth:`to_json` made ``data`` of."""
        cpu, memory = data["in_force"]["cpu"], data["in_force"]["memory"]
        return cls(
            cpu_cores=data["requested"]["cpu_cores"],
            memory_gb=data["requested"]["memory_gb"],
            affinity=None if cpu["affinity"] is None else tuple(cpu["affinity"]),
            threads=cpu["threads"],
            cpu_cgroup=cpu["cgroup"],
            memory_cgroup=memory["enforced_by"] and memory["enforced_by"].removeprefix("cgroup-"),
            memory_watched=memory["watched"],
            notes=tuple(data["notes"]),
        )

    def summary(self) -> str:
        """One line, such as ``2 cores (affinity, threads, cgroup v1), 16 GB (cgroup v1)``."""
        return f"{self._cpu_summary()}, {self._memory_summary()}"

    def _cpu_summary(self) -> str:
        if self.cpu_cores == 0:
            return "cores uncapped"
        means = [
            *(["affinity"] if self.affinity is not None else []),
            *(["threads"] if self.threads is not None else []),
            *([f"cgroup {self.cpu_cgroup}"] if self.cpu_cgroup else []),
        ]
        count = self.cpu_cores
        if self.affinity is not None and len(self.affinity) < count:
            count = len(self.affinity)
            means.append(f"{self.cpu_cores} were asked for")
        cores = f"{count} core{'s' if count > 1 else ''}"
        return f"{cores} ({', '.join(means) or 'not in force'})"

    def _memory_summary(self) -> str:
        if self.memory_gb == 0:
            return "memory uncapped"
        if self.memory_cgroup:
            means = f"cgroup {self.memory_cgroup}"
        else:
            means = "watched" if self.memory_watched else "not in force"
        return f"{self.memory_gb:g} GB ({means})"


def apply_in_child(
    max_cpu_cores: int, max_memory_gb: float, *, first_core: int = 0
) -> dict[str, Any]:
    """Cap the cores of this process: ``max_cpu_cores`` of those it may run on, and as many threads.

    They are the first ones, or begin ``first_core`` further on, going round: several capped
    processes beside each other then have cores of their own, as far as the machine has them.

    Call it before torch and the numeric libraries are imported: they read the thread variables once.
    Processes started later inherit both. 0 leaves everything as it is. A process cannot cap its own
    memory in a way that torch survives; the cap is only compared with what the machine has.

    Returns:
        ``affinity`` (core numbers or ``None``), ``threads`` (or ``None``) and ``notes``, for
        :meth:`LimitsReport.of`; JSON values only.
    """
    notes: list[str] = []
    total_gb = psutil.virtual_memory().total / BYTES_PER_GB
    if max_memory_gb > total_gb:
        notes.append(f"The memory cap is above the machine's {total_gb:.1f} GB.")
    if max_cpu_cores == 0:
        return {"affinity": None, "threads": None, "notes": notes}
    affinity = _set_affinity(max_cpu_cores, notes, first=first_core)
    threads = max_cpu_cores if affinity is None else len(affinity)
    late = [name for name in ("torch", "numba") if name in sys.modules]
    if late:
        notes.append(f"{' and '.join(late)} had been imported before the cap of threads was set.")
    for name in THREAD_VARIABLES:
        # numba refuses to go on when its variable changes after the first import.
        if not (name == "NUMBA_NUM_THREADS" and "numba" in sys.modules):
            os.environ[name] = str(threads)
    return {"affinity": affinity, "threads": threads, "notes": notes}


def _set_affinity(cores: int, notes: list[str], *, first: int = 0) -> list[int] | None:
    if sys.platform != "linux":
        notes.append(f"Core affinity is not in force: {sys.platform} has no call for it.")
        return None
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < cores:
        notes.append(f"This process may use {len(allowed)} cores, fewer than the cap of {cores}.")
    first %= len(allowed)
    try:
        os.sched_setaffinity(0, (allowed[first:] + allowed[:first])[:cores])
    except OSError as error:
        notes.append(f"Core affinity is not in force: {error.strerror}.")
        return None
    return sorted(os.sched_getaffinity(0))


def apply_torch_threads(n: int) -> int:
    """Set torch's threads, within and between operations, after its import; 0 leaves them.

    Returns the threads torch now uses within an operation. Call it before torch's first operation:
    the number between operations can be set only until then, and only once.
    """
    import torch  # not above: this module runs in the edge process before torch may be imported

    if n > 0:
        torch.set_num_threads(n)
        if torch.get_num_interop_threads() != n:
            torch.set_num_interop_threads(n)
    return torch.get_num_threads()
