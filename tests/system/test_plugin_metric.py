"""A metric of one's own: the recipe of CONTRIBUTING, in a module that lies in some folder."""

from __future__ import annotations

import json
import os
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.system.test_command_line import ROOT, result, run

LABELS = ("word overlap", "词重合率")


def recipe() -> str:
    """The example of CONTRIBUTING, as another package writes it."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    found = re.search(r"### A metric\n.*?```python\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found[1].replace(
        "from edgecloud.quality.metric import metric", "from edgecloud import metric"
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the module and a run by which it was scored."""
    made = tmp_path_factory.mktemp("own")
    more = "headline=5, paired=True, tolerance=0.02)"
    text = recipe()
    assert "tolerance=0.02)" in text
    (made / "own_metric.py").write_text(text.replace("tolerance=0.02)", more), "utf-8")
    for suite in ("edge", "cloud"):
        done = own(
            made,
            "pytest",
            f"bench/test_{suite}.py",
            f"--output-dir={made}",
            f"--benchmark-json={made}/{suite}-rows.json",
            "-p",
            "no:cacheprovider",
            "--max-samples=2",
            "--clock=modelled",
            "--language=chinese",
            "--plugin=own_metric",
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return made


def own(folder: Path, *arguments: str) -> Any:
    """A command with the folder on its path."""
    path = os.pathsep.join([str(folder), str(ROOT)])
    return run(*arguments, env={**os.environ, "PYTHONPATH": path})


def test_the_result_has_its_values_and_what_they_are(folder: Path) -> None:
    found = result(folder, "edge_results")
    assert found["metrics"]["overlap"] == found["metrics"]["zh.jieba.overlap"]
    assert 0 < found["metrics"]["overlap"] < 1
    for entry in found["detailed_results"]:
        assert entry["overlap"] == entry["zh.jieba.overlap"]
        assert entry["zh.char.overlap"] is not None
    about = found["quality_info"]["zh.jieba.overlap"]
    assert about["range"] == "0..1"
    assert about["library"].startswith("--plugin own_metric (")
    (plugin,) = found["plugins"]
    assert (plugin["kind"], plugin["name"]) == ("metric", "overlap")
    assert plugin["origin"] == "--plugin own_metric"
    assert plugin["sha256"] == sha256((folder / "own_metric.py").read_bytes()).hexdigest()


def test_the_reports_show_it_in_both_languages(folder: Path) -> None:
    results = str(folder / "results")
    for code, label in zip(("en", "zh"), LABELS, strict=True):
        options = ("--plugin=own_metric", "--format=markdown", f"--language={code}")
        done = own(folder, "edgecloud", "report", results, *options)
        assert done.returncode == 0, done.stderr
        rows = [line for line in done.stdout.splitlines() if line.startswith(f"| {label}")]
        # Among the headlines, thrice among the paired rows, and among all.
        assert len(rows) == 5, done.stdout
    page = folder / "page.html"
    done = own(folder, "edgecloud", "report", results, "--plugin=own_metric", f"-o{page}")
    assert done.returncode == 0, done.stderr
    assert LABELS[0] in page.read_text("utf-8")


def test_the_gate_compares_it(folder: Path) -> None:
    before = folder / "results" / "edge_results.json"
    found = json.loads(before.read_text("utf-8"))
    for entry in found["detailed_results"]:
        entry["overlap"] -= 0.05
    worse = folder / "worse.json"
    worse.write_text(json.dumps(found), "utf-8")
    done = own(folder, "edgecloud", "gate", str(before), str(worse), "--plugin=own_metric")
    text = done.stdout + done.stderr
    assert done.returncode == 1, text
    assert any("overlap" in line and "regression" in line for line in text.lower().splitlines()), (
        text
    )
    assert "lost at least 0.05, tolerance 0.02" in text


def test_score_has_it(folder: Path) -> None:
    pairs = folder / "pairs.json"
    row = {"id": "a", "reference": "语气平静", "hypothesis": "语气平静", "language": "zh"}
    pairs.write_text(json.dumps({"pairs": [row]}), "utf-8")
    done = own(folder, "edgecloud", "score", str(pairs), "-o-", "--plugin=own_metric")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["corpus"]["zh.jieba.overlap"] == found["per_pair"]["a"]["zh.char.overlap"] == 1.0
