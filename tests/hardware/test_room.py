"""What memory is free: the machine's, or what the process's own groups have left."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecloud.hardware.room import free_memory

GB = 10**9


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    class Reading:
        available = 50 * GB

    monkeypatch.setattr("psutil.virtual_memory", Reading)


def group(path: Path, **files: object) -> None:
    path.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (path / name.replace("__", ".")).write_text(f"{content}\n")


def free(tmp_path: Path, *lines: str) -> int:
    (tmp_path / "proc" / "self").mkdir(parents=True, exist_ok=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text("\n".join(lines) + "\n")
    return free_memory(root=tmp_path / "fs", proc=tmp_path / "proc")


def test_without_groups_it_is_the_machines(tmp_path: Path) -> None:
    assert free_memory(root=tmp_path, proc=tmp_path) == 50 * GB
    assert free(tmp_path, "0::/") == 50 * GB


@pytest.mark.parametrize("usage, left", [(0, 8), (3, 5), (9, 0)])
def test_it_is_the_limit_minus_the_usage_of_the_own_group(
    tmp_path: Path, usage: int, left: int
) -> None:
    group(tmp_path / "fs" / "job", memory__max=8 * GB, memory__current=usage * GB)
    group(tmp_path / "fs", memory__max="max", memory__current=30 * GB)
    assert free(tmp_path, "0::/job") == left * GB


def test_a_group_above_may_leave_less(tmp_path: Path) -> None:
    group(tmp_path / "fs" / "user" / "job", memory__max=40 * GB, memory__current=0)
    group(tmp_path / "fs" / "user", memory__max=20 * GB, memory__current=19 * GB)
    assert free(tmp_path, "0::/user/job") == 1 * GB


def test_in_a_container_the_own_group_is_the_root(tmp_path: Path) -> None:
    group(tmp_path / "fs", memory__max=6 * GB, memory__current=2 * GB)
    assert free(tmp_path, "0::/docker/abc") == 4 * GB
    assert free(tmp_path, "0::/../../x") == 4 * GB


def test_pages_of_files_that_can_be_given_up_are_free(tmp_path: Path) -> None:
    group(
        tmp_path / "fs",
        memory__max=6 * GB,
        memory__current=5 * GB,
        memory__stat=f"anon 1\ninactive_file {4 * GB}",
    )
    assert free(tmp_path, "0::/") == 5 * GB


def test_the_first_version_has_other_names_and_a_hierarchy_for_memory(tmp_path: Path) -> None:
    group(
        tmp_path / "fs" / "memory" / "job",
        memory__limit_in_bytes=8 * GB,
        memory__usage_in_bytes=6 * GB,
        memory__stat=f"inactive_file 1\ntotal_inactive_file {GB}",
    )
    group(
        tmp_path / "fs" / "memory",
        memory__limit_in_bytes=9223372036854771712,
        memory__usage_in_bytes=12 * GB,
    )
    lines = ("4:cpu,cpuacct:/job", "3:memory:/job", "0::/")
    assert free(tmp_path, *lines) == 3 * GB


def test_a_limit_without_a_usage_tells_nothing(tmp_path: Path) -> None:
    group(tmp_path / "fs", memory__max=6 * GB)
    assert free(tmp_path, "0::/") == 50 * GB
