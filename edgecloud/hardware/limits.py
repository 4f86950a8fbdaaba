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
from dataclasses import dataclass, replace
from typing import Any

import psutil

__all__ = [
    "BYTES_PER_GB",
    "THREAD_VARIABLES",
    "LimitsReport",
    "apply_in_child",
    "apply_torch_threads",
    "unwatched",
    "with_resident",
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
    memory is read and a sample over the cap is marked, but nothing stops it. ``outer_cores`` and
    ``outer_memory_gb`` are what the cgroups around the edge's leave it (a container's, a batch job's), where
    that is less than was asked for: then they are in force. ``notes`` say in plain sentences what is not
    in force, and why.
    """

    cpu_cores: int
    memory_gb: float
    affinity: tuple[int, ...] | None = None
    threads: int | None = None
    cpu_cgroup: str | None = None
    memory_cgroup: str | None = None
    memory_watched: bool = False
    outer_cores: float | None = None
    outer_memory_gb: float | None = None
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
        notes = [*child.get("notes", ()), *cgroup.get("notes", ())]
        enforced = cgroup.get("memory") or cgroup.get("outer_memory_gb")
        if max_memory_gb > 0 and not enforced:
            notes.append(_not_enforced(watched=watched))
        affinity = child.get("affinity")
        return cls(
            cpu_cores=max_cpu_cores,
            memory_gb=max_memory_gb,
            affinity=None if affinity is None else tuple(affinity),
            threads=child.get("threads"),
            cpu_cgroup=cgroup.get("cpu"),
            memory_cgroup=cgroup.get("memory"),
            memory_watched=watched and max_memory_gb > 0,
            outer_cores=cgroup.get("outer_cores"),
            outer_memory_gb=cgroup.get("outer_memory_gb"),
            notes=tuple(notes),
        )

    def with_resident(self, resident_gb: float) -> LimitsReport:
        """The report once ``resident_gb`` were resident, without a memory cap that this shows not to hold: a
        cgroup counts the pages that were first used in it, not those that are shared with others, nor those
        that were there before."""
        if self.memory_cgroup is None or resident_gb <= self.memory_gb:
            return self
        note = (
            f"The cgroup ({self.memory_cgroup}) does not hold the memory cap: {resident_gb:.2f} GB were "
            "resident, since pages that are shared with other processes, or were read before, are not on "
            "its account."
        )
        told = _not_enforced(watched=self.memory_watched)
        return replace(self, memory_cgroup=None, notes=(*self.notes, note, told))

    def to_json(self) -> dict[str, Any]:
        """The report as in a result, ``requested`` beside ``in_force``."""
        memory = f"cgroup-{self.memory_cgroup}" if self.memory_cgroup else None
        outer_cores, outer_gb = self.outer_cores, self.outer_memory_gb
        return {
            "requested": {"cpu_cores": self.cpu_cores, "memory_gb": self.memory_gb},
            "in_force": {
                "cpu": {
                    "affinity": None if self.affinity is None else list(self.affinity),
                    "threads": self.threads,
                    "cgroup": self.cpu_cgroup,
                    **({} if outer_cores is None else {"outer_cores": outer_cores}),
                },
                "memory": {
                    "enforced_by": memory,
                    "watched": self.memory_watched,
                    **({} if outer_gb is None else {"outer_gb": outer_gb}),
                },
            },
            "notes": list(self.notes),
            "summary": self.summary(),
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
            outer_cores=cpu.get("outer_cores"),
            outer_memory_gb=memory.get("outer_gb"),
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
        count: float = self.cpu_cores
        if self.affinity is not None:
            count = min(count, len(self.affinity))
        if self.outer_cores is not None and self.outer_cores < count:
            count = self.outer_cores
            means.append("outer cgroup")
        if count < self.cpu_cores:
            means.append(f"{self.cpu_cores} were asked for")
        cores = f"{count:g} core{'' if count == 1 else 's'}"
        return f"{cores} ({', '.join(means) or 'not in force'})"

    def _memory_summary(self) -> str:
        if self.memory_gb == 0:
            return "memory uncapped"
        if self.outer_memory_gb is not None:
            return f"{self.outer_memory_gb:.3g} GB (outer cgroup, {self.memory_gb:g} GB were asked for)"
        if self.memory_cgroup:
            means = f"cgroup {self.memory_cgroup}"
        else:
            means = "watched" if self.memory_watched else "not in force"
        return f"{self.memory_gb:g} GB ({means})"


def with_resident(limits: Mapping[str, Any], resident_gb: float) -> dict[str, Any]:
    """The block ``limits`` of a result, once the edge had ``resident_gb`` resident: a cap that did not hold
    is not claimed. Unchanged where it held."""
    if "in_force" not in limits:
        return dict(limits)
    report = LimitsReport.from_json(limits)
    found = report.with_resident(resident_gb)
    return dict(limits) if found is report else found.to_json()


def unwatched(limits: Mapping[str, Any]) -> dict[str, Any]:
    """``limits`` of a result in measured time as they are in modelled time, where no memory is read."""
    if "in_force" not in limits or not limits["in_force"]["memory"]["watched"]:
        return dict(limits)
    report = LimitsReport.from_json(limits)
    before, now = _not_enforced(watched=True), _not_enforced(watched=False)
    notes = tuple(now if note == before else note for note in report.notes)
    return replace(report, memory_watched=False, notes=notes).to_json()


def _not_enforced(*, watched: bool) -> str:
    if watched:
        return "Memory is watched, not enforced: a sample over the cap is marked."
    return "The memory cap is not in force."


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
