"""Readings of one NVIDIA device through NVML: use, memory, energy; ``None`` with a reason."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import pynvml

from edgecloud.hardware.limits import BYTES_PER_GB

__all__ = ["NO_GPU", "GpuMeter", "GpuReadings", "gpu_facts"]

NO_GPU = "the cloud runs on the CPU"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReadings:
    """Of the whole device, between start and stop: mean ``util`` in percent, memory in GB
    (10^9 bytes), energy in joules. ``reasons`` has :class:`edgecloud.hardware.probes.Readings`'
    names."""

    util: float | None = None
    memory_gb: float | None = None
    memory_gb_peak: float | None = None
    energy_j: float | None = None
    samples: int = 0
    reasons: Mapping[str, str] = field(default_factory=dict)


@lru_cache(maxsize=1)
def _driver() -> str | None:
    """Initialise NVML once a process. Returns why it cannot be used, or ``None``."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound:
        return "no NVIDIA driver"
    except pynvml.NVMLError as error:
        return f"the NVIDIA driver cannot be used: {error}"
    return None


def _handle(cuda_index: int) -> Any:
    """The device that CUDA calls ``cuda_index`` under CUDA_VISIBLE_DEVICES.

    Where devices of several kinds share a machine this needs CUDA_DEVICE_ORDER=PCI_BUS_ID, NVML's
    own order.
    """
    visible = [
        name.strip()
        for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        if name.strip()
    ]
    if not visible:
        return pynvml.nvmlDeviceGetHandleByIndex(cuda_index)
    if cuda_index >= len(visible):
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
    name = visible[cuda_index]
    if name.isdigit():
        return pynvml.nvmlDeviceGetHandleByIndex(int(name))
    return pynvml.nvmlDeviceGetHandleByUUID(name)


def gpu_facts() -> tuple[dict[str, Any], dict[str, str]]:
    """The machine's GPUs as a result names them: ``gpus``, the name of each, and the ``driver``'s version;
    and the reasons of what cannot be read, by name.

    A device that is lost or refused is ``None`` in its place; the others are read all the same.
    """
    missing = _driver()
    if missing is not None:
        return {}, {"devices": missing}
    reasons: dict[str, str] = {}
    driver = _asked("devices.driver", reasons, pynvml.nvmlSystemGetDriverVersion)
    count = _asked("devices.gpus", reasons, pynvml.nvmlDeviceGetCount)
    names = [
        _asked(f"devices.gpus.{index}", reasons, _name, index) for index in range(int(count or 0))
    ]
    return {
        "gpus": None if count is None else [_text(name) for name in names],
        "driver": _text(driver),
    }, reasons


def _name(index: int) -> Any:
    return pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(index))


def _asked(name: str, reasons: dict[str, str], call: Callable[..., Any], *arguments: Any) -> Any:
    """The answer of NVML; ``None`` with a reason under ``name`` where it gives none."""
    try:
        return call(*arguments)
    except pynvml.NVMLError as error:
        device = f" of device {arguments[0]}" if arguments else ""
        reasons[name] = f"NVML{device}: {error}"
        return None


def _text(value: Any) -> str | None:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


class GpuMeter:
    """``start()``, any number of ``sample()`` on one thread, ``stop()``; again for the next request.

    ``cuda_index`` ``None``: there is no device to read, and every reading is ``None``.
    """

    def __init__(self, cuda_index: int | None) -> None:
        self._device: Any = None
        self._missing = NO_GPU if cuda_index is None else _driver()
        if cuda_index is not None and self._missing is None:
            try:
                self._device = _handle(cuda_index)
            except pynvml.NVMLError as error:
                self._missing = f"NVML does not show device {cuda_index}: {error}"
        self._reset()

    def _reset(self) -> None:
        self._util: list[float] = []
        self._memory: list[float] = []
        self._energy_start_mj: int | None = None
        self._failed: dict[str, str] = {}

    def start(self) -> None:
        """Forget earlier samples and read the energy counter: the interval begins now."""
        self._reset()
        self._energy_start_mj = self._read("energy_j", pynvml.nvmlDeviceGetTotalEnergyConsumption)

    def sample(self) -> None:
        """Read utilization and memory once."""
        rates = self._read("gpu_util", pynvml.nvmlDeviceGetUtilizationRates)
        if rates is not None:
            self._util.append(float(rates.gpu))
        memory = self._read("gpu_memory_gb", pynvml.nvmlDeviceGetMemoryInfo)
        if memory is not None:
            self._memory.append(float(memory.used) / BYTES_PER_GB)

    def stop(self) -> GpuReadings:
        """Readings since :meth:`start`: means and peaks of the samples, and joules; None with a reason for
        each that could not be taken."""
        end_mj = self._read("energy_j", pynvml.nvmlDeviceGetTotalEnergyConsumption)
        energy_j = None
        if end_mj is not None and self._energy_start_mj is not None:
            energy_j = (end_mj - self._energy_start_mj) / 1e3
        memory_reason = self._why("gpu_memory_gb")
        values: dict[str, tuple[float | None, str]] = {
            "gpu_util": (_mean(self._util), self._why("gpu_util")),
            "gpu_memory_gb": (_mean(self._memory), memory_reason),
            "gpu_memory_gb_peak": (max(self._memory, default=None), memory_reason),
            "energy_j": (energy_j, self._why("energy_j")),
        }
        return GpuReadings(
            util=values["gpu_util"][0],
            memory_gb=values["gpu_memory_gb"][0],
            memory_gb_peak=values["gpu_memory_gb_peak"][0],
            energy_j=energy_j,
            samples=len(self._memory),
            reasons={name: reason for name, (value, reason) in values.items() if value is None},
        )

    def _why(self, name: str) -> str:
        return self._missing or self._failed.get(name, "no reading was taken")

    def _read(self, name: str, call: Any) -> Any:
        if self._device is None:
            return None
        try:
            return call(self._device)
        except pynvml.NVMLError as error:
            self._failed[name] = f"NVML: {error}"
            return None


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
