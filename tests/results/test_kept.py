"""Unfinished journals stay when another run takes their name, and a name is one run's at a time."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgecloud.errors import ConfigError, OutputError
from edgecloud.files import held
from edgecloud.results.journal import Journal
from edgecloud.results.kept import MOST_KEPT, keep_unfinished, standing, told
from edgecloud.results.records import Record
from edgecloud.settings.config import check_output_name

FACTS: dict[str, Any] = {
    "config": {},
    "setup": {},
    "environment": {},
    "floors": None,
    "corpus": [],
}


def journal(path: Path, done: int, total: int | None) -> Path:
    with Journal.open(path, mode="edge", identity={"settings": {}}) as found:
        if total is not None:
            found.describe({**FACTS, "samples": [f"s{index}" for index in range(total)]})
        for index in range(done):
            found.append(Record(f"s{index}"))
    return path


@pytest.mark.parametrize(
    "done, total, stays", [(2, 5, True), (0, 5, False), (5, 5, False), (2, None, True)]
)
def test_the_journal_of_a_run_that_did_not_end_is_put_aside(
    tmp_path: Path, done: int, total: int | None, stays: bool
) -> None:
    path = journal(tmp_path / "run.jsonl", done, total)
    content = path.read_bytes()
    result = tmp_path / "result.json"
    result.touch()
    sentence = keep_unfinished(path, result)
    assert path.exists() is not stays
    if not stays:
        assert sentence is None
        return
    (kept,) = (tmp_path / "kept").iterdir()
    assert kept.read_bytes() == content
    assert re.fullmatch(r"run-\d{8}T\d{6}\.\d{6}Z\.jsonl", kept.name)
    many = "2 of 5" if total else "2"
    assert sentence is not None
    assert f"{path} held {many} samples of an unfinished run, now in {kept}" in sentence
    assert "--resume" in sentence


def test_a_whole_journal_stays_where_its_result_was_not_written_or_is_of_another_run(
    tmp_path: Path,
) -> None:
    result = tmp_path / "result.json"
    for there in (False, True):
        if there:
            result.touch()
        path = journal(tmp_path / "run.jsonl", 5, 5)
        if there:
            os.utime(result, ns=(0, 0))
        sentence = keep_unfinished(path, result)
        assert sentence is not None
        assert "5 of 5 samples of an unfinished run" in sentence


def test_the_last_five_of_a_name_stay_and_those_of_other_names(tmp_path: Path) -> None:
    keep_unfinished(journal(tmp_path / "run-2.jsonl", 1, 2), tmp_path / "no result")
    for done in range(1, MOST_KEPT + 3):
        keep_unfinished(journal(tmp_path / "run.jsonl", done, 99), tmp_path / "no result")
    kept = sorted((tmp_path / "kept").glob("run-2???????T*"))
    assert [standing(path) for path in kept] == [(n, 99) for n in range(3, MOST_KEPT + 3)]
    assert len(list((tmp_path / "kept").glob("run-2-*"))) == 1


def test_a_journal_that_cannot_be_read_is_put_aside_too(tmp_path: Path) -> None:
    path = journal(tmp_path / "run.jsonl", 2, 5)
    path.write_bytes(path.read_bytes().replace(b'"s0"', b'"s0'))
    assert "a journal that cannot be read" in (keep_unfinished(path, tmp_path / "no result") or "")


def test_the_last_line_of_a_run_without_a_result_says_how_far_it_came(tmp_path: Path) -> None:
    path = journal(tmp_path / "run.jsonl", 20, 120)
    assert told(path) == f"20 of 120 samples in {path}; go on with --resume"
    # Stopped while it was scored: nothing but that is left to do.
    whole = journal(tmp_path / "whole.jsonl", 3, 3)
    assert told(whole) == f"3 of 3 samples in {whole}; go on with --resume"
    assert told(tmp_path / "none.jsonl") is None


HOLD = """
import sys
from pathlib import Path
from edgecloud.files import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_name_is_one_runs_until_it_ends_or_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "journals" / "run.jsonl"
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    with pytest.raises(OutputError, match=r"another run is writing .*--output-name"), held(path):
        pass
    with held(path.with_name("another.jsonl")):
        pass
    os.kill(other.pid, signal.SIGKILL)
    other.communicate(timeout=20)
    with held(path):
        pass
    assert list(path.parent.iterdir()) == []  # no lock is left lying about


@pytest.mark.parametrize(
    "name", ["a/b", "a\\b", "/abs", "a\nb", "a\x00b", "..", ".hidden", "x" * 300, "\udc80"]
)
def test_an_output_name_is_the_beginning_of_a_files_name(name: str) -> None:
    with pytest.raises(ConfigError, match="--output-name") as caught:
        check_output_name(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [None, "nightly-1", "夜间 2", "a.b"])
def test_plain_output_names_are_taken(name: Any) -> None:
    check_output_name(name)
