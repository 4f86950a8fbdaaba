"""Shards and workers with the embedded pair: the texts and times of the plain run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgecloud.cli.main import main
from tests.system.test_command_line import bench


def still(path: Path) -> dict[str, Any]:
    """A result without what may vary."""
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    del found["run"]
    return found


@pytest.mark.parametrize("suite", ["spec"])
def test_shards_with_workers_merge_to_the_plain_run(tmp_path: Path, suite: str) -> None:
    options = ("--clock", "modelled", "--max-samples", "5")
    for name, more in (
        ("whole", ()),
        ("part", ("--shard", "1/2")),
        ("part", ("--shard", "2/2", "--workers", "2")),
    ):
        done = bench(suite, tmp_path, *options, "--output-name", name, *more)
        assert done.returncode == 0, done.stdout + done.stderr
    journals = sorted(map(str, (tmp_path / "journals").glob("part-*of2.jsonl")))
    merged = tmp_path / "merged.json"
    assert main(["merge", *journals, "-o", str(merged)]) == 0
    assert json.dumps(still(merged)) == json.dumps(still(tmp_path / "results" / "whole.json"))
    rescored = tmp_path / "rescored.json"
    assert main(["rescore", str(tmp_path / "journals" / "whole.jsonl"), "-o", str(rescored)]) == 0
    assert json.dumps(still(rescored)) == json.dumps(still(merged))


def test_workers_in_wall_time_are_refused_in_one_line(tmp_path: Path) -> None:
    done = bench("edge", tmp_path, "--workers", "2", "--max-samples", "2")
    assert done.returncode == 1
    assert "--workers 2 needs --clock modelled" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
