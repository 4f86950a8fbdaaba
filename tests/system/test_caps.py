"""Caps on a real edge: its whole process tree, two cores that mean two, and too much memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from edgecloud.contracts import Sample
from edgecloud.errors import WorkerError
from edgecloud.experiments import system
from edgecloud.experiments.reporting import result_of
from edgecloud.experiments.run import Arm, journal_path
from edgecloud.hardware.cgroups import CGROUP_ROOT, CgroupCap
from edgecloud.hardware.probes import ResourceProbe
from edgecloud.models.memory import RUNTIME_BYTES
from edgecloud.results.journal import read
from edgecloud.settings.config import Config, resolve

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="caps are Linux's")

EDGE = """
import os, subprocess, sys, threading
from edgecloud.hardware.limits import apply_in_child
apply_in_child(int(sys.argv[1]), 0.0)
import torch
torch.set_num_threads(4)  # more than the cap, as a library might
spin = "while True: pass"
children = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(2)]
matrix = torch.rand(256, 256)
def multiply():
    while True: torch.mm(matrix, matrix)
threads = [threading.Thread(target=multiply, daemon=True) for _ in range(2)]
[thread.start() for thread in threads]
if sys.argv[2] == "openvino":
    import numpy, openvino, openvino.opset15 as op
    given = op.parameter([64, 64], numpy.float32)
    graph = openvino.Model([op.matmul(given, given, False, False)], [given], "m")
    request = openvino.Core().compile_model(graph, "CPU").create_infer_request()
    request.infer([numpy.ones((64, 64), numpy.float32)])
print("ready", flush=True); sys.stdin.readline()
[child.kill() for child in children]
os._exit(0)
"""


def tree(pid: int) -> Iterator[int]:
    """All threads of a process and of the processes it started."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        yield int(task.name)
        for child in (task / "children").read_text().split():
            yield from tree(int(child))


@pytest.mark.alone
@pytest.mark.parametrize("cores", [1, 2])
def test_threads_and_children_of_a_busy_edge_get_its_cores_and_no_more(cores: int) -> None:
    if len(os.sched_getaffinity(0)) < cores:
        pytest.skip(f"this machine has fewer than {cores} cores")
    engine = "openvino" if cores == 1 and _has_openvino() else "torch"
    edge = subprocess.Popen(
        [sys.executable, "-c", EDGE, str(cores), engine],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert edge.stdin is not None
    assert edge.stdout is not None
    try:
        assert edge.stdout.readline() == "ready\n"
        probe = ResourceProbe(edge.pid, period_s=0.05)
        probe.start()
        affinities = {frozenset(os.sched_getaffinity(thread)) for thread in tree(edge.pid)}
        threads = len(list(tree(edge.pid)))
        time.sleep(1.0)
        readings = probe.stop()
    finally:
        edge.communicate("end\n", timeout=20)
    assert threads > cores + 3
    assert len(set().union(*affinities)) == cores
    assert readings.cpu_percent is not None
    assert 0 < readings.cpu_percent <= 105 * cores


def _has_openvino() -> bool:
    from importlib.util import find_spec

    return find_spec("openvino") is not None


def test_memory_of_what_the_edge_started_counts() -> None:
    hold = "held = bytearray(b'x' * 80_000_000); print('ready', flush=True); input()"
    start = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}])"
    edge = subprocess.Popen(
        [sys.executable, "-c", start], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert edge.stdout is not None
    assert edge.stdout.readline() == "ready\n"
    probe = ResourceProbe(edge.pid, period_s=0.02, memory_cap_gb=0.08)
    probe.start()
    readings = probe.stop()
    edge.communicate("\n", timeout=20)
    assert readings.ram_gb_peak is not None
    assert readings.ram_gb_peak > 0.08
    assert readings.memory_over_cap is True


def settings(folder: Path, **given: object) -> Config:
    return resolve({"language": "english", "max_samples": 3, "output_dir": str(folder), **given})


def silence(path: Path, seconds: int) -> Path:
    """A recording that takes much memory to decode."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(96_000)
        file.writeframes(bytes(4 * 96_000 * seconds))
    return path


def test_an_edge_over_its_memory_cgroup_ends_the_run_with_its_journal_whole(tmp_path: Path) -> None:
    config = settings(tmp_path, max_memory_gb=3.0, max_audio_s=300.0)
    with Arm("edge", config) as arm:
        limits = arm._setup["limits"]
        if limits["in_force"]["memory"]["enforced_by"] is None:
            pytest.skip("a memory cgroup is not permitted here: " + "; ".join(limits["notes"]))
        arm.step(arm.samples[0])
        _tighten(arm._systems[0].edge_pid)
        big: Sample = replace(arm.samples[1], audio_path=silence(tmp_path / "big.wav", 240))
        with pytest.raises(WorkerError, match="went over its memory cap of 3 GB and was ended"):
            arm.step(big)
    header, records = read(journal_path("edge", config))
    assert header["mode"] == "edge"
    assert [(record.file_id, record.status) for record in records] == [
        (arm.samples[0].file_id, "ok")
    ]


def _tighten(pid: int) -> None:
    """Leave the edge a few megabytes more than it has."""
    for group in CGROUP_ROOT.rglob(f"edgecloud-{pid}-*"):
        for used, limit in (
            ("memory.current", "memory.max"),
            ("memory.usage_in_bytes", "memory.limit_in_bytes"),
        ):
            if (group / limit).exists():
                (group / limit).write_text(str(int((group / used).read_text()) + 30_000_000))


def test_without_a_cgroup_an_edge_over_its_memory_cap_is_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "CgroupCap", partial(CgroupCap, root=tmp_path / "none"))
    cap_gb = RUNTIME_BYTES / 1e9 + 0.05
    config = settings(tmp_path, max_memory_gb=cap_gb, max_samples=1, max_audio_s=300.0)
    with Arm("edge", config) as arm:
        big = replace(arm.samples[0], audio_path=silence(tmp_path / "big.wav", 240))
        record = arm.step(big).to_json()
        result = result_of(arm.outcome(), environment={}, run_block={}).to_json()
    assert record["resources"]["memory_over_cap"] is True
    assert result["metrics"]["latency_metrics"]["memory_over_cap_total"] == 1
    assert result["limits"]["in_force"]["memory"] == {"enforced_by": None, "watched": True}
    assert any("watched, not enforced" in note for note in result["limits"]["notes"])
