"""Readings: of the right process, of the right device, and ``None`` with a reason otherwise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pynvml
import pytest

from edgecloud.hardware import gpu
from edgecloud.hardware.energy import RaplMeter
from edgecloud.hardware.gpu import GpuMeter
from edgecloud.hardware.probes import Readings, ResourceProbe, null_readings

BUSY = """
import sys, time
held = bytearray(b"x" * 50_000_000)
print("ready", flush=True)
for line in sys.stdin:
    stop = time.perf_counter() + float(line)
    while time.perf_counter() < stop: pass
    print("done", flush=True)
"""
BUSY_GRANDCHILD = """
import subprocess, sys
print("ready", flush=True)
for line in sys.stdin:
    spin = f"import time\\nstop = time.perf_counter() + {float(line)}\\nwhile time.perf_counter() < stop: pass"
    subprocess.run([sys.executable, "-c", spin])
    print("done", flush=True)
"""


class Child:
    """A process that is busy for as long as it is told."""

    def __init__(self, code: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._expect("ready")

    def _expect(self, word: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == word

    def be_busy(self, seconds: float) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        self._expect("done")

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def child() -> Iterator[Child]:
    busy = Child(BUSY)
    yield busy
    busy.end()


@pytest.mark.alone
def test_cpu_time_and_memory_are_the_childs_and_not_the_harnesss(child: Child) -> None:
    probe = ResourceProbe(child.process.pid, period_s=0.02, memory_cap_gb=0.01)
    probe.start()
    child.be_busy(0.3)
    busy = probe.stop()
    assert busy.cpu_percent is not None
    assert 20 < busy.cpu_percent < 130
    assert busy.ram_gb is not None
    assert busy.ram_gb_peak is not None
    assert 0.05 < busy.ram_gb <= busy.ram_gb_peak < 0.2
    assert busy.memory_over_cap is True
    assert busy.samples >= 3

    probe.start()
    stop = time.perf_counter() + 0.1
    while time.perf_counter() < stop:  # the harness works, the child does not
        pass
    idle = probe.stop()
    assert idle.cpu_percent is not None
    assert idle.cpu_percent < 20


def test_a_request_shorter_than_the_period_has_readings(child: Child) -> None:
    probe = ResourceProbe(child.process.pid, period_s=10.0)
    probe.start()
    child.be_busy(0.02)
    readings = probe.stop()
    assert readings.samples >= 1
    assert readings.ram_gb is not None
    assert readings.cpu_percent is not None
    assert readings.cpu_percent > 10
    assert readings.duration_s is not None
    assert readings.duration_s < 5


def test_processes_that_the_child_started_and_that_ended_count() -> None:
    child = Child(BUSY_GRANDCHILD)
    try:
        probe = ResourceProbe(child.process.pid, period_s=0.02)
        probe.start()
        child.be_busy(0.3)
        readings = probe.stop()
        assert readings.cpu_percent is not None
        assert readings.cpu_percent > 20
    finally:
        child.end()


def test_a_child_that_dies_while_measured_has_null_readings_with_the_reason(child: Child) -> None:
    probe = ResourceProbe(child.process.pid, period_s=0.02)
    probe.start()
    child.end()
    readings = probe.stop()
    for name in ("cpu_percent", "ram_gb", "ram_gb_peak"):
        assert getattr(readings, name) is None
        assert readings.reasons[name] == "the edge process ended while it was measured"


def test_a_child_that_is_dead_but_not_yet_waited_for_has_null_readings(child: Child) -> None:
    probe = ResourceProbe(child.process.pid, period_s=0.02)
    probe.start()
    child.process.kill()
    time.sleep(0.1)
    readings = probe.stop()
    assert readings.cpu_percent is None
    assert readings.ram_gb is None


def test_a_probe_started_twice_or_stopped_unstarted_is_refused(child: Child) -> None:
    probe = ResourceProbe(child.process.pid, period_s=0.02)
    with pytest.raises(RuntimeError, match="not running"):
        probe.stop()
    probe.start()
    with pytest.raises(RuntimeError, match="running"):
        probe.start()
    probe.stop()


def test_every_missing_reading_has_a_reason_and_all_is_json(child: Child) -> None:
    probe = ResourceProbe(child.process.pid, period_s=0.02)
    probe.start()
    row = json.loads(json.dumps(probe.stop().to_json(), allow_nan=False))
    missing = {name for name, value in row.items() if value is None}
    assert set(row["reasons"]) == missing
    assert row["reasons"]["gpu_util"] == "the cloud runs on the CPU"
    assert row["reasons"]["memory_over_cap"] == "memory is uncapped"


def test_null_readings_give_the_reason_for_every_field() -> None:
    row = null_readings("modelled clock").to_json()
    missing = {name for name, value in row.items() if value is None}
    assert row["samples"] == 0
    assert row["reasons"] == dict.fromkeys(missing, "modelled clock")
    assert missing == {name for name in row if name not in ("samples", "reasons")}
    assert Readings().samples == 0


class FakeNvml:
    """One device that uses 10 J, 2 GB and 25 to 75 percent."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.energy_mj = iter((1_000, 11_000))
        self.util = iter((25, 75))

    def install(self, patch: pytest.MonkeyPatch) -> None:
        def by_index(index: int) -> int:
            self.asked.append(index)
            return index

        def by_uuid(uuid: str) -> str:
            self.asked.append(uuid)
            return uuid

        def of(values: Iterator[int]) -> object:
            return lambda _: next(values)

        patch.setattr(pynvml, "nvmlInit", lambda: None)
        patch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", by_index)
        patch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", by_uuid)
        patch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 1)
        patch.setattr(pynvml, "nvmlDeviceGetName", lambda _: b"NVIDIA A100")
        patch.setattr(pynvml, "nvmlSystemGetDriverVersion", lambda: "570.1")
        patch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", of(self.energy_mj))
        patch.setattr(
            pynvml,
            "nvmlDeviceGetUtilizationRates",
            lambda _: SimpleNamespace(gpu=next(self.util)),
        )
        patch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lambda _: SimpleNamespace(used=2 * 10**9))


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNvml]:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    fake = FakeNvml()
    fake.install(monkeypatch)
    gpu._driver.cache_clear()
    yield fake
    gpu._driver.cache_clear()


def test_a_result_names_gpus_and_driver(nvml: FakeNvml) -> None:
    assert gpu.gpu_facts() == ({"gpus": ["NVIDIA A100"], "driver": "570.1"}, {})


@pytest.mark.parametrize(
    "call", ["nvmlDeviceGetHandleByIndex", "nvmlDeviceGetName"], ids=["lost", "refused"]
)
def test_a_device_that_is_lost_or_refused_has_a_reason_and_the_others_their_names(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def second_fails(asked: object) -> object:
        if nvml.asked[-1:] == [1] or asked == 1:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return right(asked)

    right = getattr(pynvml, call)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 3)
    monkeypatch.setattr(pynvml, call, second_fails)
    facts, reasons = gpu.gpu_facts()
    assert facts == {"gpus": ["NVIDIA A100", None, "NVIDIA A100"], "driver": "570.1"}
    assert reasons == {"devices.gpus.1": "NVML of device 1: GPU is lost"}


@pytest.mark.parametrize(
    "call, name",
    [
        ("nvmlSystemGetDriverVersion", "devices.driver"),
        ("nvmlDeviceGetCount", "devices.gpus"),
    ],
)
def test_what_nvml_refuses_of_the_machine_is_null_with_its_reason(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, call: str, name: str
) -> None:
    def refuse() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NO_PERMISSION)

    monkeypatch.setattr(pynvml, call, refuse)
    facts, reasons = gpu.gpu_facts()
    assert facts[name.removeprefix("devices.")] is None
    assert list(reasons) == [name]


def test_a_run_goes_on_with_a_lost_device(tmp_path: Path) -> None:
    shared = os.environ.get("EDGECLOUD_TEST_DATA", "")
    fake = Path(shared, "cases", "fake_pynvml_gpu_lost.py")
    if not shared or not fake.is_file():
        pytest.skip("EDGECLOUD_TEST_DATA has no cases/fake_pynvml_gpu_lost.py")
    (tmp_path / "pynvml.py").write_bytes(fake.read_bytes())
    code = (
        "from edgecloud.experiments.reporting import machine; import json;"
        "found = machine(); print(json.dumps([found['devices'], found['reasons']]))"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    devices, reasons = json.loads(done.stdout)
    assert devices == {"gpus": ["NVIDIA A100", None], "driver": "595.0"}
    assert reasons["devices.gpus.1"] == "NVML of device 1: GPU is lost"


def test_gpu_readings_are_means_and_a_difference_of_energy(nvml: FakeNvml) -> None:
    meter = GpuMeter(0)
    meter.start()
    meter.sample()
    meter.sample()
    readings = meter.stop()
    assert readings.util == 50.0
    assert readings.memory_gb == readings.memory_gb_peak == 2.0
    assert readings.energy_j == 10.0
    assert readings.samples == 2
    assert readings.reasons == {}


@pytest.mark.parametrize(
    "visible, cuda_index, asked",
    [("", 1, 1), ("3,5", 1, 5), ("GPU-aa, GPU-bb", 0, "GPU-aa")],
)
def test_the_device_read_is_the_one_cuda_means(
    nvml: FakeNvml,
    monkeypatch: pytest.MonkeyPatch,
    visible: str,
    cuda_index: int,
    asked: object,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    GpuMeter(cuda_index)
    assert nvml.asked == [asked]


def test_a_reading_the_device_does_not_offer_is_null_alone(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handle: object) -> int:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", refuse)
    meter = GpuMeter(0)
    meter.start()
    meter.sample()
    readings = meter.stop()
    assert readings.energy_j is None
    assert readings.reasons == {"energy_j": "NVML: Not Supported"}
    assert readings.util == 25.0


def test_without_a_driver_the_reason_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    gpu._driver.cache_clear()
    try:
        meter = GpuMeter(0)
        assert gpu.gpu_facts() == ({}, {"devices": "no NVIDIA driver"})
    finally:
        gpu._driver.cache_clear()
    meter.start()
    meter.sample()
    assert set(meter.stop().reasons.values()) == {"no NVIDIA driver"}


def rapl_zone(root: Path, name: str, energy_uj: int) -> Path:
    zone = root / name
    zone.mkdir(exist_ok=True)
    (zone / "energy_uj").write_text(f"{energy_uj}\n")
    (zone / "max_energy_range_uj").write_text("10000000\n")
    return zone


def test_processor_energy_is_summed_over_packages_and_counters_may_wrap(tmp_path: Path) -> None:
    rapl_zone(tmp_path, "intel-rapl:0", 1_000_000)
    rapl_zone(tmp_path, "intel-rapl:0:0", 0)  # a part of package 0
    rapl_zone(tmp_path, "intel-rapl:1", 9_000_000)
    meter = RaplMeter(tmp_path)
    meter.start()
    rapl_zone(tmp_path, "intel-rapl:0", 3_000_000)
    rapl_zone(tmp_path, "intel-rapl:0:0", 2_000_000)
    rapl_zone(tmp_path, "intel-rapl:1", 1_000_000)
    assert meter.stop() == pytest.approx(2.0 + 2.0)


def test_a_machine_without_energy_counters_says_so(tmp_path: Path) -> None:
    meter = RaplMeter(tmp_path)
    meter.start()
    assert meter.stop() is None
    assert meter.reason == "this machine shows no RAPL energy counters"
