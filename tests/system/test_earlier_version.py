"""Journals and results of an earlier version (tests/earlier) still resume, rescore, compare and are reported."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgecloud.cli.main import main

ROOT = Path(__file__).parents[2]
EARLIER = ROOT / "tests" / "earlier"
NAMES = sorted(path.stem for path in (EARLIER / "journals").glob("*.jsonl"))


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest is named as it was from there."""
    monkeypatch.chdir(ROOT)


def loaded(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def missing(earlier: Any, now: Any, where: str = "") -> list[str]:
    """Keys that were there and are no more."""
    if not (isinstance(earlier, dict) and isinstance(now, dict)):
        return []
    lost = [f"{where}{key}" for key in earlier if key not in now]
    both = [key for key in earlier if key in now]
    return lost + [name for key in both for name in missing(earlier[key], now[key], f"{key}.")]


def measured(result: dict[str, Any]) -> list[Any]:
    """What no scorer has a say in, of each sample."""
    keys = ("file_id", "status", "tokens", "origins", "generated_text", "latency_metrics")
    return [[row[key] for key in keys] for row in result["detailed_results"]]


@pytest.fixture(scope="module")
def rescored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of all journals, made again by this version."""
    folder = tmp_path_factory.mktemp("rescored")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        for name in NAMES:
            journal = str(EARLIER / "journals" / f"{name}.jsonl")
            assert main(["rescore", journal, "-o", str(folder / f"{name}.json")]) == 0
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_journal_is_rescored_to_all_that_its_result_held(name: str, rescored: Path) -> None:
    earlier, now = loaded(EARLIER / "results" / f"{name}.json"), loaded(rescored / f"{name}.json")
    assert measured(now) == measured(earlier)
    assert missing({**earlier, "run": {}}, now) == []
    assert missing(earlier["detailed_results"][0], now["detailed_results"][0]) == []


@pytest.mark.parametrize("name", NAMES)
def test_an_earlier_result_compares_with_what_its_journal_gives_now(
    name: str, rescored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = str(EARLIER / "results" / f"{name}.json")
    # How texts are scored may have been mended since; times, texts and identities have not changed.
    command = ["gate", earlier, str(rescored / f"{name}.json"), "--allow", "scorers"]
    command += ["--policy", str(EARLIER / "times.toml")]
    assert main(command) == 0, capsys.readouterr().out


def test_an_earlier_benchmark_file_compares_with_itself(
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = str(EARLIER / "benchmarks.json")
    assert main(["gate", path, path]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("form", ["html", "markdown", "csv"])
def test_earlier_results_are_reported(form: str, tmp_path: Path) -> None:
    if form == "html":
        pytest.importorskip("jinja2")
        pytest.importorskip("matplotlib")
    output = tmp_path / f"report.{form}"
    results = str(EARLIER / "results")
    assert main(["report", results, "--format", form, "-o", str(output)]) == 0
    assert len(output.read_text("utf-8")) > 500


def test_earlier_results_are_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", str(EARLIER / "results")]) == 0
    assert "spec" in capsys.readouterr().out


def test_an_earlier_unfinished_run_is_gone_on_with(tmp_path: Path) -> None:
    name = "modelled-spec"
    (tmp_path / "journals").mkdir()
    lines = (EARLIER / "journals" / f"{name}.jsonl").read_bytes().splitlines(keepends=True)
    journal = tmp_path / "journals" / f"{name}.jsonl"
    journal.write_bytes(b"".join(lines[:-1]))
    command = [sys.executable, "-m", "pytest", "bench/test_spec.py", "-q", "--resume"]
    command += ["--clock", "modelled", "--dataset-path", "tests/earlier/manifest.json"]
    command += ["--output-name", name, "--output-dir", str(tmp_path), "-p", "no:cacheprovider"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # The samples that were there stay, byte for byte; one is new.
    assert journal.read_bytes().splitlines(keepends=True)[1:-1] == lines[1:-1]
    now = loaded(tmp_path / "results" / f"{name}.json")
    assert measured(now) == measured(loaded(EARLIER / "results" / f"{name}.json"))


def test_every_setting_added_since_counts_as_its_default_when_a_run_is_gone_on_with(
    tmp_path: Path,
) -> None:
    """What resuming compares, for the modes that the test above does not run."""
    from edgecloud.results.journal import Journal
    from edgecloud.settings.config import resolve

    for name, mode in (("modelled-edge", "edge"), ("modelled-cloud", "cloud")):
        source = EARLIER / "journals" / f"{name}.jsonl"
        path = tmp_path / source.name
        shutil.copy(source, path)
        header = json.loads(path.read_bytes().splitlines()[0])
        flags = {"clock": "modelled", "dataset_path": "tests/earlier/manifest.json"}
        identity = {**header["identity"], "settings": resolve(flags).identity()}
        with Journal.open(path, mode=mode, identity=identity, resume=True) as journal:
            assert len(journal.records) == 3
