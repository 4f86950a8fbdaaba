"""Caps: that a capped child really is capped, alone, and that the report says what is in force."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgecloud.hardware import cgroups
from edgecloud.hardware.cgroups import CGROUP_ROOT, CgroupCap
from edgecloud.hardware.limits import LimitsReport

BUSY = """
import hashlib, json, os, sys, threading, time
from edgecloud.hardware.limits import apply_in_child
facts = apply_in_child(int(sys.argv[1]), 0.0)
print("ready", flush=True); sys.stdin.readline()
stop = time.perf_counter() + 0.6
def spin():  # hashing large blocks lets go of the interpreter lock
    while time.perf_counter() < stop:
        hashlib.sha256(bytes(1 << 20)).digest()
start, used = time.perf_counter(), sum(os.times()[:2])
threads = [threading.Thread(target=spin) for _ in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
facts["cores_used"] = (sum(os.times()[:2]) - used) / (time.perf_counter() - start)
facts["variables"] = {k: v for k, v in os.environ.items() if k.endswith("_NUM_THREADS")}
print(json.dumps(facts))
"""

HUNGRY = """
import sys
print("ready", flush=True); sys.stdin.readline()
held = [bytearray(b"x" * 10_000_000) for _ in range(40)]
print("survived")
"""


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def finish(child: subprocess.Popen[str]) -> str:
    return child.communicate("go\n", timeout=20)[0]


def cgroup_permitted(controller: str) -> bool:
    child = start(HUNGRY)
    with CgroupCap(child.pid, max_cpu_cores=1, max_memory_gb=1.0) as cap:
        permitted = cap.in_force[controller] is not None
    child.kill()
    child.communicate()
    return permitted


@pytest.mark.alone
@pytest.mark.skipif(sys.platform != "linux", reason="core affinity is Linux's")
def test_a_capped_child_uses_no_more_than_its_cores() -> None:
    facts = json.loads(finish(start(BUSY, "1")))
    assert len(facts["affinity"]) == 1
    assert facts["cores_used"] <= 1.1


def test_the_thread_variables_of_a_capped_child_hold_the_cap() -> None:
    facts = json.loads(finish(start(BUSY, "1")))
    assert facts["threads"] == 1
    assert facts["variables"]["OMP_NUM_THREADS"] == "1"


def test_zero_cores_leave_the_child_uncapped() -> None:
    facts = json.loads(finish(start(BUSY, "0")))
    assert facts["affinity"] is None
    assert facts["threads"] is None
    assert facts["notes"] == []


@pytest.mark.alone
def test_a_child_in_a_cpu_cgroup_is_held_by_the_quota_alone() -> None:
    if not cgroup_permitted("cpu"):
        pytest.skip("a cpu cgroup is not permitted here")
    child = start(BUSY, "0")
    with CgroupCap(child.pid, max_cpu_cores=1, max_memory_gb=0.0) as cap:
        facts = json.loads(finish(child))
    assert cap.in_force["memory"] is None
    assert facts["cores_used"] <= 1.25  # a quota is dealt out in tenths of a second


def test_a_child_over_its_memory_cgroup_dies_alone() -> None:
    if not cgroup_permitted("memory"):
        pytest.skip("a memory cgroup is not permitted here")
    child = start(HUNGRY)
    with CgroupCap(child.pid, max_cpu_cores=0, max_memory_gb=0.1) as cap:
        assert finish(child) == ""
        groups = list(CGROUP_ROOT.rglob(f"edgecloud-{child.pid}-*"))
        assert groups
    assert child.returncode == -9
    assert not any(group.exists() for group in groups)
    assert cap.in_force["notes"] == []


def test_the_group_is_removed_although_the_child_lives_on() -> None:
    if not cgroup_permitted("memory"):
        pytest.skip("a memory cgroup is not permitted here")
    child = start(HUNGRY)
    with CgroupCap(child.pid, max_cpu_cores=2, max_memory_gb=0.1) as cap:
        pass
    assert list(CGROUP_ROOT.rglob(f"edgecloud-{child.pid}-*")) == []
    assert cap.in_force["notes"] == []
    assert finish(child) == "survived\n"


@pytest.mark.skipif(sys.platform != "linux", reason="cgroups are Linux's")
def test_where_there_is_no_cgroup_the_report_says_so(tmp_path: Path) -> None:
    child = start(HUNGRY)
    with CgroupCap(child.pid, max_cpu_cores=2, max_memory_gb=16.0, root=tmp_path) as cap:
        assert finish(child) == "survived\n"
    report = LimitsReport.of(
        2, 16.0, child={"affinity": [0, 1], "threads": 2}, cgroup=cap.in_force, watched=True
    )
    assert report.summary() == "2 cores (affinity, threads), 16 GB (watched)"
    assert report.to_json()["in_force"]["memory"] == {"enforced_by": None, "watched": True}
    assert [note.split(":")[0] for note in report.notes] == [
        "No cgroup caps the cores",
        "No cgroup caps the memory",
        "Memory is watched, not enforced",
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="cgroups are Linux's")
def test_a_child_that_died_before_it_could_be_capped_is_a_note(tmp_path: Path) -> None:
    child = start(HUNGRY)
    finish(child)
    with CgroupCap(child.pid, max_cpu_cores=2, max_memory_gb=1.0) as cap:
        pass
    assert cap.in_force["cpu"] is None
    assert cap.in_force["memory"] is None
    assert len(cap.in_force["notes"]) >= 1


@pytest.fixture
def unified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cgroup v2 tree of plain files; as in the kernel's, a new group has its control files."""
    proc = tmp_path / "proc" / "7"
    proc.mkdir(parents=True)
    (proc / "cgroup").write_text("0::/user/app\n")
    root = tmp_path / "cgroup"
    mkdir = Path.mkdir

    def make_group(path: Path, *arguments: object, **options: object) -> None:
        mkdir(path)
        for name in ("cpu.max", "memory.max", "memory.swap.max", "cgroup.procs"):
            (path / name).write_text("")

    monkeypatch.setattr(Path, "mkdir", make_group)
    for group, handed_on in ((root, "cpu memory"), (root / "user", "cpu"), (root / "user/app", "")):
        make_group(group)
        (group / "cgroup.controllers").write_text(handed_on)
        if handed_on:
            (group / "cgroup.subtree_control").write_text(handed_on)
    return tmp_path


@pytest.mark.skipif(sys.platform != "linux", reason="cgroups are Linux's")
def test_in_the_unified_hierarchy_one_group_serves_cores_and_memory(
    unified: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: dict[str, str] = {}
    monkeypatch.setattr(
        "edgecloud.hardware.cgroups._write",
        lambda path, value: (
            opened.__setitem__(path.relative_to(unified).as_posix(), str(value)),
            path.write_text(str(value)),
        ),
    )
    root = unified / "cgroup"
    (root / "user" / "cgroup.subtree_control").unlink()
    cap = CgroupCap(7, max_cpu_cores=2, max_memory_gb=16.0, root=root, proc=unified / "proc")
    cap.__enter__()
    (group,) = {Path(name).parent.name for name in opened}
    assert opened == {
        f"cgroup/{group}/cpu.max": "200000 100000",
        f"cgroup/{group}/memory.max": "16000000000",
        f"cgroup/{group}/memory.swap.max": "0",
        f"cgroup/{group}/cgroup.procs": "7",
    }
    assert cap.in_force == {"cpu": "v2", "memory": "v2", "notes": []}


def test_the_report_survives_json() -> None:
    report = LimitsReport.of(
        2,
        16.0,
        child={"affinity": [0, 1], "threads": 2, "notes": ["one"]},
        cgroup={"cpu": "v1", "memory": "v1", "notes": []},
        watched=True,
    )
    assert report.summary() == "2 cores (affinity, threads, cgroup v1), 16 GB (cgroup v1)"
    assert LimitsReport.from_json(json.loads(json.dumps(report.to_json()))) == report


@pytest.mark.parametrize(
    "report, expected",
    [
        (LimitsReport.of(0, 0.0), "cores uncapped, memory uncapped"),
        (LimitsReport.of(1, 0.5), "1 core (not in force), 0.5 GB (not in force)"),
        (
            LimitsReport.of(2, 16.0, child={"threads": 2}, watched=True),
            "2 cores (threads), 16 GB (watched)",
        ),
    ],
)
def test_the_summary_says_only_what_is_in_force(report: LimitsReport, expected: str) -> None:
    assert report.summary() == expected


def test_other_systems_are_told_that_affinity_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgecloud.hardware import limits

    notes: list[str] = []
    monkeypatch.setattr(limits.sys, "platform", "darwin")
    assert limits._set_affinity(2, notes) is None
    assert notes == ["Core affinity is not in force: darwin has no call for it."]


def test_torch_uses_the_threads_of_the_cap() -> None:
    code = (
        "from edgecloud.hardware.limits import apply_torch_threads as a; import torch;"
        "print(a(1), torch.get_num_interop_threads())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1"]


GROUP_FILES = {
    "cgroup.procs": "",
    "memory.limit_in_bytes": "",
    "cpu.cfs_quota_us": "",
    "cpu.cfs_period_us": "",
}


def v1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keeps: str | None = None) -> Path:
    """Hierarchies of version 1 in which a new group has its files; ``keeps`` is what a limit becomes."""
    root = tmp_path / "cgroup"
    for controller in ("cpu", "memory"):
        (root / controller).mkdir(parents=True)
    (tmp_path / "proc" / "7").mkdir(parents=True)
    (tmp_path / "proc" / "7" / "cgroup").write_text("2:memory:/\n1:cpu:/\n")
    make = Path.mkdir

    def mkdir(path: Path, *args: object, **kwargs: object) -> None:
        make(path, *args, **kwargs)  # type: ignore[arg-type]
        if path.name.startswith("edgecloud-"):
            for name, content in GROUP_FILES.items():
                (path / name).write_text(content)

    def write(path: Path, value: object) -> None:
        limit = path.name.startswith(("memory.limit", "cpu.cfs_quota"))
        path.write_text(keeps if keeps is not None and limit else str(value))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setattr(cgroups, "_write", write)
    monkeypatch.setattr(CgroupCap, "_remove", lambda _, group: shutil.rmtree(group))
    return root


def capped(tmp_path: Path, root: Path) -> CgroupCap:
    return CgroupCap(7, max_cpu_cores=2, max_memory_gb=0.4, root=root, proc=tmp_path / "proc")


def test_a_cap_that_resident_memory_exceeds_is_not_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with capped(tmp_path, v1(tmp_path, monkeypatch)) as cap:
        report = LimitsReport.of(2, 0.4, cgroup=cap.in_force, watched=True)
    assert "0.4 GB (cgroup v1)" in report.summary()
    assert report.with_resident(0.399) is report
    report = report.with_resident(0.557)
    assert report.with_resident(0.9) is report  # it is said once
    assert report.to_json()["in_force"]["memory"] == {"enforced_by": None, "watched": True}
    assert "0.4 GB (watched)" in report.summary()
    assert any("0.56 GB were resident" in note for note in report.notes)
    assert any("watched, not enforced" in note for note in report.notes)


@pytest.mark.parametrize("keeps", ["-1", "max", "9223372036854771712", "100000"])
def test_a_limit_that_is_not_kept_is_not_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keeps: str
) -> None:
    with capped(tmp_path, v1(tmp_path, monkeypatch, keeps)) as cap:
        found = cap.in_force
    assert (found["cpu"], found["memory"]) == (None, None)
    assert len([note for note in found["notes"] if f"it keeps {keeps} instead of" in note]) == 2


@pytest.mark.parametrize("keeps", ["max 100000", "100000 100000", "200000 50000", ""])
def test_a_quota_that_the_unified_hierarchy_does_not_keep_is_not_claimed(
    unified: Path, monkeypatch: pytest.MonkeyPatch, keeps: str
) -> None:
    def write(path: Path, value: object) -> None:
        path.write_text(keeps if path.name == "cpu.max" else str(value))

    monkeypatch.setattr(cgroups, "_write", write)
    root = unified / "cgroup"
    cap = CgroupCap(7, max_cpu_cores=2, max_memory_gb=0.0, root=root, proc=unified / "proc")
    found = cap.__enter__().in_force
    assert found["cpu"] is None
    assert [note for note in found["notes"] if f"it keeps {keeps} instead of 200000 100000" in note]


def outer_limits(group: Path, version: str, *, cores: float, memory_gb: float) -> None:
    """What a container's runtime writes into the group around everything in it."""
    memory, quota_us = str(int(memory_gb * 1e9)), int(cores * 100_000)
    if version == "v2":
        (group / "cpu.max").write_text(f"{quota_us} 100000\n")
        (group / "memory.max").write_text(f"{memory}\n")
        return
    (group / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota_us}\n")
    (group / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    (group / "memory" / "memory.limit_in_bytes").write_text(f"{memory}\n")


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("permitted", [True, False])
def test_what_an_outer_group_allows_is_what_is_in_force_where_it_is_less(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    version: str,
    permitted: bool,
) -> None:
    if version == "v2":
        request.getfixturevalue("unified")
        root = tmp_path / "cgroup"
        monkeypatch.setattr(cgroups, "_write", lambda path, value: path.write_text(str(value)))
    else:
        root = v1(tmp_path, monkeypatch)
    outer_limits(root, version, cores=1.5, memory_gb=8)
    if not permitted:

        def refused(path: Path, value: object) -> None:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(cgroups, "_write", refused)
    cap = CgroupCap(7, max_cpu_cores=2, max_memory_gb=16.0, root=root, proc=tmp_path / "proc")
    in_force = cap.__enter__().in_force
    assert (in_force["cpu"], in_force["memory"]) == (
        (version, version) if permitted else (None,) * 2
    )
    child = {"affinity": [0, 1], "threads": 2}
    report = LimitsReport.of(2, 16.0, child=child, cgroup=in_force, watched=True)
    own = f", cgroup {version}" if permitted else ""
    assert report.summary() == (
        f"1.5 cores (affinity, threads{own}, outer cgroup, 2 were asked for), "
        "8 GB (outer cgroup, 16 GB were asked for)"
    )
    found = report.to_json()
    assert found["in_force"]["cpu"]["outer_cores"] == 1.5
    assert found["in_force"]["memory"]["outer_gb"] == 8.0
    assert any("allows 1.5 cores, less than the cap of 2" in note for note in found["notes"])
    assert any("allows 8 GB, less than the cap of 16" in note for note in found["notes"])
    assert not any("not in force" in note or "not enforced" in note for note in found["notes"])
    assert LimitsReport.from_json(json.loads(json.dumps(found))) == report


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_an_outer_group_that_allows_as_much_is_not_spoken_of(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str
) -> None:
    if version == "v2":
        request.getfixturevalue("unified")
        root = tmp_path / "cgroup"
        monkeypatch.setattr(cgroups, "_write", lambda path, value: path.write_text(str(value)))
    else:
        root = v1(tmp_path, monkeypatch)
    outer_limits(root, version, cores=2, memory_gb=16)
    cap = CgroupCap(7, max_cpu_cores=2, max_memory_gb=16.0, root=root, proc=tmp_path / "proc")
    assert cap.__enter__().in_force == {"cpu": version, "memory": version, "notes": []}


def test_groups_of_harnesses_that_were_killed_go_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = v1(tmp_path, monkeypatch)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for name in (
        f"edgecloud-{gone.pid}-0a1b2c3d",
        f"edgecloud-{os.getpid()}-0a1b2c3d",
        "edgecloud-x",
    ):
        (root / "cpu" / name).mkdir()
        for file in (root / "cpu" / name).iterdir():
            file.unlink()  # the kernel's own files do not stand in rmdir's way
    with capped(tmp_path, root):
        left = sorted(path.name for path in (root / "cpu").iterdir())
    assert f"edgecloud-{gone.pid}-0a1b2c3d" not in left
    assert {f"edgecloud-{os.getpid()}-0a1b2c3d", "edgecloud-x"} <= set(left)


def test_fewer_cores_than_the_cap_are_what_the_summary_counts() -> None:
    report = LimitsReport.of(2, 0.0, child={"affinity": [1], "threads": 1}, cgroup={"cpu": "v1"})
    assert (
        report.summary()
        == "1 core (affinity, threads, cgroup v1, 2 were asked for), memory uncapped"
    )
