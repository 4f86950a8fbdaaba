"""The facts of a result: what stays, what varies, and the name all parts of one run share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgecloud.results.environment import environment, run_block, run_id

PRINT_RUN_ID = "from edgecloud.results.environment import run_id; print(run_id())"


def run_id_of_a_child(*command: str, **variables: str) -> str:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ("EDGECLOUD_RUN_ID", "TOX_ENV_NAME")
    }
    done = subprocess.run(
        command or (sys.executable, "-c", PRINT_RUN_ID),
        capture_output=True,
        text=True,
        check=True,
        env={**inherited, **variables},
    )
    return done.stdout.strip()


def test_the_stable_facts_are_the_same_twice_and_are_json() -> None:
    facts = environment(devices={"gpu": "a"})
    assert facts == environment(devices={"gpu": "a"})
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["versions"]["torch"]
    assert facts["devices"] == {"gpu": "a"}
    assert facts["cpu"]["logical_cores"] >= 1
    sets = facts["cpu"]["instruction_sets"]
    assert (sets is None) == ("cpu.instruction_sets" in facts["reasons"])


def test_every_version_that_is_missing_has_a_reason() -> None:
    facts = environment()
    missing = {f"versions.{name}" for name, value in facts["versions"].items() if value is None}
    assert missing == {name for name in facts["reasons"] if name.startswith("versions.")}


def test_what_may_vary_is_json_and_its_missing_readings_have_reasons() -> None:
    block = run_block()
    assert json.loads(json.dumps(block, allow_nan=False)) == block
    assert {name for name, value in block.items() if value is None} == set(block["reasons"])
    assert block["started_at"].endswith("+00:00")


def git(repo: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=A Name", "-c", "user.email=a.name@example.org")
    subprocess.run(["git", "-C", str(repo), *identity, *arguments], check=True, capture_output=True)


def test_the_commit_is_named_and_a_changed_file_makes_it_dirty(tmp_path: Path) -> None:
    git(tmp_path, "init")
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "one")
    clean = run_block(repo=tmp_path)
    assert len(clean["commit"]) == 40
    assert clean["dirty"] is False
    (tmp_path / "file").write_text("two")
    assert run_block(repo=tmp_path)["dirty"] is True


def test_outside_a_checkout_the_commit_is_null_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    block = run_block(repo=tmp_path)
    assert block["commit"] is None
    assert block["dirty"] is None
    assert "not a git repository" in block["reasons"]["commit"]


def test_without_git_the_commit_is_null_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run_block(repo=tmp_path)["reasons"]["commit"] == "git is not installed"


def test_a_given_run_id_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECLOUD_RUN_ID", "mine")
    assert run_id() == "mine"


def test_what_one_process_starts_shares_a_run_id_and_others_do_not() -> None:
    first, second = run_id_of_a_child(), run_id_of_a_child()
    assert first == second
    assert first.startswith(f"{os.getpid()}-")
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {PRINT_RUN_ID!r}])"
    assert run_id_of_a_child(sys.executable, "-c", program) != first


def test_under_tox_what_stands_between_is_looked_through(tmp_path: Path) -> None:
    tox = tmp_path / "tox"  # named as tox is; starts a process that starts the process that asks
    between = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {PRINT_RUN_ID!r}])"
    tox.write_text(
        "import os, subprocess, sys\n"
        "print(os.getpid(), flush=True)\n"
        f"subprocess.run([sys.executable, '-c', {PRINT_RUN_ID!r}])\n"
        f"subprocess.run([sys.executable, '-c', {between!r}])\n"
    )
    printed = run_id_of_a_child(sys.executable, str(tox), TOX_ENV_NAME="edge").split()
    pid, direct, through = printed
    assert direct == through
    assert direct.startswith(f"{pid}-")
