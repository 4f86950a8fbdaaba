"""Read what a request used: CPU and memory of the edge process, the cloud's GPU, energy.

A reading that cannot be taken is ``None`` with its reason; nothing is estimated. The probe's thread
runs in the process of the experiment, so that it costs the measured process nothing.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import psutil

from edgecloud.hardware.energy import RaplMeter
from edgecloud.hardware.gpu import GpuMeter, GpuReadings
from edgecloud.hardware.limits import BYTES_PER_GB

__all__ = ["Readings", "ResourceProbe", "null_readings", "resident_bytes"]

_JOIN_EXTRA_S = 5.0
_LINUX = sys.platform == "linux"
_ENDED = "the edge process ended while it was measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """Resources that one request used, from ``start()`` to ``stop()``; ``reasons`` says why a field is
    ``None``.

    ``cpu_percent`` CPU time of the edge process and the processes it started, over wall time;
    100 is one core. ``ram_gb`` mean and ``ram_gb_peak`` largest sampled RSS of the same processes,
    10^9 bytes (memory that they share counts for each). ``memory_over_cap`` whether that peak is above the cap. ``gpu_util`` percent and
    ``gpu_memory_gb`` of the whole device the cloud runs on. ``energy_j`` joules of that device,
    ``cpu_energy_j`` of the processor packages of this machine. ``samples`` readings were taken,
    ``period_s`` apart.
    """

    cpu_percent: float | None = None
    ram_gb: float | None = None
    ram_gb_peak: float | None = None
    memory_over_cap: bool | None = None
    gpu_util: float | None = None
    gpu_memory_gb: float | None = None
    gpu_memory_gb_peak: float | None = None
    energy_j: float | None = None
    cpu_energy_j: float | None = None
    samples: int = 0
    period_s: float | None = None
    duration_s: float | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The fields as in a journal's record."""
        row = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**row, "reasons": dict(self.reasons)}


def null_readings(reason: str) -> Readings:
    """No readings at all, for ``reason``: under the modelled clock, of a failed sample."""
    counted = ("samples", "reasons")
    return Readings(reasons={f.name: reason for f in fields(Readings) if f.name not in counted})


class ResourceProbe:
    """Samples one process, and the cloud's GPU, at a fixed period on a thread of its own.

    ``start()`` before a request and ``stop()`` after it, as often as there are requests. ``pid`` is
    the edge process; ``gpu_index`` the CUDA device of the cloud, ``None`` when it has none;
    ``memory_cap_gb`` 0 for no cap.
    """

    def __init__(
        self,
        pid: int,
        *,
        period_s: float,
        gpu_index: int | None = None,
        memory_cap_gb: float = 0.0,
    ) -> None:
        self._pid = pid
        self._period_s = period_s
        self._memory_cap_gb = memory_cap_gb
        self._gpu = GpuMeter(gpu_index)
        self._rapl = RaplMeter()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin. Raises ``RuntimeError`` when it has been started already."""
        if self._thread is not None:
            raise RuntimeError("the probe is running; stop() it first")
        self._stop = threading.Event()
        self._rss: list[int] = []
        self._gpu.start()
        self._rapl.start()
        self._process: psutil.Process | None = None
        self._cpu_start_s: float | None = None
        try:
            self._process = psutil.Process(self._pid)
            self._cpu_start_s = _tree_cpu_s(self._process)
        except psutil.Error:
            self._process = None
        self._start_s = time.perf_counter()
        self._thread = threading.Thread(
            target=self._sample, args=(self._stop, self._rss), name="resource-probe", daemon=True
        )
        self._thread.start()

    def stop(self) -> Readings:
        """End and sum up. Raises ``RuntimeError`` when it was not started."""
        if self._thread is None:
            raise RuntimeError("the probe is not running; start() it first")
        thread, self._thread = self._thread, None
        duration_s = time.perf_counter() - self._start_s
        reasons: dict[str, str] = {}
        cpu_percent = self._cpu_percent(duration_s, reasons)
        cpu_energy_j = self._rapl.stop()
        if cpu_energy_j is None:
            reasons["cpu_energy_j"] = self._rapl.reason
        self._stop.set()
        thread.join(self._period_s + _JOIN_EXTRA_S)
        if thread.is_alive():
            return null_readings("the sampling thread hung and was given up")
        gpu = self._gpu.stop()
        reasons.update(gpu.reasons)
        return self._readings(cpu_percent, cpu_energy_j, gpu, duration_s, reasons)

    def _readings(
        self,
        cpu_percent: float | None,
        cpu_energy_j: float | None,
        gpu: GpuReadings,
        duration_s: float,
        reasons: dict[str, str],
    ) -> Readings:
        mean, peak, over = None, None, None
        if cpu_percent is None or not self._rss:
            reasons.update(dict.fromkeys(("ram_gb", "ram_gb_peak", "memory_over_cap"), _ENDED))
        else:
            mean = sum(self._rss) / len(self._rss) / BYTES_PER_GB
            peak = max(self._rss) / BYTES_PER_GB
            if self._memory_cap_gb > 0:
                over = peak > self._memory_cap_gb
            else:
                reasons["memory_over_cap"] = "memory is uncapped"
        return Readings(
            cpu_percent=cpu_percent,
            ram_gb=mean,
            ram_gb_peak=peak,
            memory_over_cap=over,
            gpu_util=gpu.util,
            gpu_memory_gb=gpu.memory_gb,
            gpu_memory_gb_peak=gpu.memory_gb_peak,
            energy_j=gpu.energy_j,
            cpu_energy_j=cpu_energy_j,
            samples=max(len(self._rss), gpu.samples),
            period_s=self._period_s,
            duration_s=duration_s,
            reasons=reasons,
        )

    def _cpu_percent(self, duration_s: float, reasons: dict[str, str]) -> float | None:
        try:
            if (
                self._process is not None
                and self._cpu_start_s is not None
                and self._process.is_running()
                and self._process.status() != psutil.STATUS_ZOMBIE
                and duration_s > 0
            ):
                used_s = _tree_cpu_s(self._process) - self._cpu_start_s
                return max(0.0, 100.0 * used_s / duration_s)
        except psutil.AccessDenied:
            reasons["cpu_percent"] = "no right to read the edge process"
            return None
        except psutil.NoSuchProcess:
            pass
        reasons["cpu_percent"] = _ENDED
        return None

    def _sample(self, stop: threading.Event, rss: list[int]) -> None:
        """The thread: once at the start, once a period, once at the end."""
        readable = self._process is not None
        next_s = time.perf_counter()
        while True:
            last = stop.is_set()
            if readable and self._process is not None:
                try:
                    rss.append(_tree_rss(self._process))
                except psutil.Error:
                    readable = False
            self._gpu.sample()
            if last:
                return
            next_s = max(next_s + self._period_s, time.perf_counter())
            stop.wait(next_s - time.perf_counter())


def resident_bytes(pid: int) -> int:
    """Resident bytes of a process and everything it started; 0 where that cannot be read."""
    try:
        return _tree_rss(psutil.Process(pid))
    except psutil.Error:
        return 0


def _tree_rss(root: psutil.Process) -> int:
    """Resident bytes of ``root`` and everything it started."""
    total = int(root.memory_info().rss)
    for child in _descendants(root):
        try:
            total += child.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def _descendants(root: psutil.Process) -> list[psutil.Process]:
    """Everything ``root`` started that lives. On Linux the kernel lists them; elsewhere, and where it
    does not, every process of the machine is asked for its parent, which takes milliseconds."""
    tasks = Path(f"/proc/{root.pid}/task")
    try:
        lists = [(task / "children").read_text() for task in tasks.iterdir()]
    except OSError:
        return root.children(recursive=True)
    found: list[psutil.Process] = []
    for pid in (int(word) for text in lists for word in text.split()):
        try:
            child = psutil.Process(pid)
        except psutil.NoSuchProcess:
            continue
        found += [child, *_descendants(child)]
    return found


def _tree_cpu_s(root: psutil.Process) -> float:
    """CPU seconds used so far by ``root`` and everything it started, the ended ones included."""
    times = root.cpu_times()
    total = _cpu_s(root) + _ended_children_s(times)
    for child in _descendants(root):
        try:
            total += _cpu_s(child) + _ended_children_s(child.cpu_times())
        except psutil.NoSuchProcess:
            continue  # it ended between the two calls; its parent's sum holds it now
    return total


def _ended_children_s(times: Any) -> float:
    return float(getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0))


def _cpu_s(process: psutil.Process) -> float:
    """CPU seconds of one process, all threads: to the nanosecond on Linux, where psutil's are
    rounded to 10 ms, too coarse for a caption of 30 ms."""
    if _LINUX:
        try:
            # The clock id of a process's CPU time, as clock_getcpuclockid(3) makes it.
            return time.clock_gettime((~process.pid << 3) | 2)
        except OSError as error:
            raise psutil.NoSuchProcess(process.pid) from error
    times = process.cpu_times()
    return float(times.user + times.system)
