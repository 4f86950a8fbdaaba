"""The examples of docs/cluster.md: their commands are those that the suites take."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgecloud.settings.options import OPTIONS

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"


def flags(words: list[str]) -> set[str]:
    return {word for word in words if word.startswith("--")}


KNOWN = {flag for option in OPTIONS for flag in option.flags}


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_the_slurm_array_runs_its_shard(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    done = subprocess.run(
        ["bash", EXAMPLES / "slurm_array.sh", "--language", "english"],
        env={
            "PATH": f"{tmp_path}:/usr/bin:/bin",
            "SLURM_ARRAY_TASK_ID": "3",
            "SLURM_ARRAY_TASK_COUNT": "8",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    words = done.stdout.splitlines()
    assert words[words.index("--shard") + 1] == "3/8"
    assert words[-2:] == ["--language", "english"]
    assert flags(words) <= KNOWN


def test_the_example_of_ray_runs_its_shards_and_merges_them(tmp_path: Path) -> None:
    """With stand-ins for Ray and for the two programs it starts."""
    (tmp_path / "ray.py").write_text(
        "class _Task:\n"
        "    def __init__(self, task): self.task = task\n"
        "    def options(self, **_): return self\n"
        "    def remote(self, *given): return self.task(*given)\n"
        "def remote(**_): return _Task\n"
        "def init(): pass\n"
        "def get(values): return values\n"
    )
    code = (
        "import subprocess, runpy, sys\n"
        "class Done: returncode = 0\n"
        "def run(command, **_):\n"
        "    print(*command[-6:] if 'pytest' in command else command)\n"
        "    return Done\n"
        "subprocess.run = run\n"
        f"sys.argv = ['x', '--shards', '2', '--output-dir', {str(tmp_path)!r}, '--', '--k', '5']\n"
        f"runpy.run_path({str(EXAMPLES / 'ray_shards.py')!r}, run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second, merge = done.stdout.splitlines()
    assert first.endswith("--shard 1/2 --k 5")
    assert second.endswith("--shard 2/2 --k 5")
    assert "ray-1of2.jsonl" in merge
    assert merge.endswith("ray.json")
