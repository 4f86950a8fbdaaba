"""An option of one's own: the recipe of CONTRIBUTING, applied to a copy of the project."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.test_command_line import ROOT, TIMEOUT_S, result

RECIPE = (
    (ROOT / "CONTRIBUTING.md")
    .read_text("utf-8")
    .partition("### An option\n")[2]
    .partition("\n###")[0]
)
FILES = ("edgecloud/settings/subjects.py", "edgecloud/decoding/speculative.py")

WHAT_KNOWS_IT = """
import json
from edgecloud.edge.speculation_policy import speculation
from edgecloud.errors import ConfigError
from edgecloud.regression.result_rows import experiment_settings
from edgecloud.settings.config import resolve

config = resolve({"first-k": "2"})
assert speculation(config).first_k == config.draft.first_k == 2
assert config.identity()["first_k"] == config.to_json()["first_k"] == 2
try:
    resolve({"first_k": 65})
except ConfigError as error:
    assert "first_k: 65 is above 64" in str(error)
older = {k: v for k, v in resolve().to_json().items() if k != "first_k"}
now = {**older, "first_k": 64}
assert experiment_settings({"mode": "spec", **now}).keys() - older.keys() == {"mode", "first_k"}
assert "first_k" not in experiment_settings({"mode": "edge", **now})
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with the recipe's lines in it."""
    made = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("edgecloud", "bench"):
        shutil.copytree(ROOT / name, made / name, ignore=ignored)
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, made / name)
    changes = re.findall(r"```diff\n(.*?)```", RECIPE, re.DOTALL)
    changed = {path for change in changes for path in FILES if apply(made / path, change)}
    assert changed == {*FILES}, "the recipe names two files, and lines that are in them"
    assert all(path in RECIPE for path in FILES)
    return made


def apply(path: Path, change: str) -> bool:
    """Make a change where its context is. Returns whether it is there."""
    lines = [line[3:] for line in change.splitlines() if line.strip()]
    before = "\n".join(line[1:] for line in lines if line[0] != "+")
    after = "\n".join(line[1:] for line in lines if line[0] != "-")
    text = path.read_text("utf-8")
    if f"\n{before}\n" not in text:
        return False
    path.write_text(text.replace(f"\n{before}\n", f"\n{after}\n"), "utf-8")
    return True


def run(copy: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_whoever_lists_settings_knows_it(copy: Path) -> None:
    run(copy, "-c", WHAT_KNOWS_IT)
    assert re.search(
        r"^first_k: 64 +# most draft tokens", run(copy, "-m", "edgecloud", "settings"), re.M
    )
    assert "--first-k" in run(copy, "-m", "edgecloud", "caption", "--help")


def test_a_run_uses_it_and_says_so(copy: Path, tmp_path: Path) -> None:
    arguments = ("-q", "-p", "no:cacheprovider", f"--output-dir={tmp_path}", "--max-samples=1")
    run(copy, "-m", "pytest", "bench/test_spec.py", *arguments, "--clock=modelled", "--first_k=1")
    found = result(tmp_path, "spec_results")
    assert found["experiment_config"]["first_k"] == 1
    journal = (tmp_path / "journals" / "spec_results.jsonl").read_text("utf-8").splitlines()
    drafts = [event for event in json.loads(journal[1])["trace"] if event["kind"] == "draft"]
    assert len(drafts[0]["tokens"]) == 1 < len(drafts[1]["tokens"])
