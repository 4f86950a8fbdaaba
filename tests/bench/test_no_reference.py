"""A run that scores nothing says so, with the flag that helps."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.recorder import no_reference
from edgecloud.datasets.corpus import load_corpus
from edgecloud.datasets.manifest import embedded_manifest
from edgecloud.results.result import Result
from edgecloud.results.result_file import build_result
from edgecloud.settings.config import Config, resolve
from tests.results.synthetic import FakeOutcome, FakeScores
from tests.system.test_command_line import bench


def config(folder: Path, entries: list[dict[str, Any]], **settings: str) -> Config:
    """Settings of a run over a manifest of these entries, each with a recording of its own."""
    recordings = sorted((embedded_manifest("english").parent / "audio").glob("*.flac"))
    for number, (entry, recording) in enumerate(zip(entries, recordings, strict=False)):
        entry |= {"file_id": f"r{number}", "audio_path": str(recording), "prompt": "say it"}
    path = folder / "manifest.json"
    path.write_text(json.dumps(entries), encoding="utf-8")
    return resolve({"dataset_path": str(path), **settings})


def result(language: Any, *references: tuple[Any, str]) -> Result:
    """A result whose samples have these references, each in its language."""
    outcome = FakeOutcome("edge", len(references), language=language)
    outcome.records = tuple(
        replace(record, reference_language=its, references=(text,) if text else ())
        for record, (its, text) in zip(outcome.records, references, strict=True)
    )
    return build_result(outcome, FakeScores(outcome), environment={}, run_block={})


_AUDIO_ONLY = {"language": "english", "caption_type": "audio_only"}


@pytest.mark.parametrize(
    "entry, settings, said",
    [
        ({"caption": "a man"}, {"language": "chinese"}, "--language english?"),
        ({}, {"language": "english"}, "the manifest has no captions"),
        ({"caption": "a man"}, _AUDIO_ONLY, "--caption-type original?"),
        ({"chinese_caption": "你好"}, _AUDIO_ONLY, "--language chinese?"),
        ({"caption": "你好", "chinese_caption": "你好"}, _AUDIO_ONLY, "; --language chinese?"),
        ({"caption": "你好"}, _AUDIO_ONLY, "--caption-type original --language chinese?"),
        ({}, _AUDIO_ONLY, "the manifest has no captions"),
    ],
)
def test_no_reference_in_the_generated_language_is_said_with_the_flag_that_helps(
    tmp_path: Path, entry: dict[str, Any], settings: dict[str, str], said: str
) -> None:
    own = config(tmp_path, [entry], **settings)
    (sample,) = load_corpus(own)[0]
    references = (sample.reference_language, "".join(sample.references))
    line = no_reference(result(own.data.language, references), own)
    assert line is not None
    assert line.endswith(said)
    assert f"no reference in {own.data.language}, so nothing was scored" in line


def test_one_reference_in_the_language_is_enough(tmp_path: Path) -> None:
    own = config(tmp_path, [], language="english")
    found = result("english", ("chinese", "你好"), ("english", "a man"))
    assert no_reference(found, own) is None


def test_prompts_of_text_are_scored_in_their_own_language_and_the_last_line_says_so(
    tmp_path: Path,
) -> None:
    english = ("english", "a man")
    own = config(tmp_path, [{"references": "a man"}], dataset_type="text")
    line = no_reference(result("chinese", english), own)
    assert line == (
        "no reference in chinese, so answers were scored in english, as their references are; "
        "--language english?"
    )
    # What a run leaves out is no reason to choose another language for all.
    entries = [{"references": "a man"}, {"references": "你好"}]
    own = config(tmp_path, entries, dataset_type="text")
    assert no_reference(result("chinese", english), own) is None
    line = no_reference(
        result("chinese", ("chinese", "")), config(tmp_path, [{}], dataset_type="text")
    )
    assert line is not None
    assert "nothing was scored; the manifest has no captions" in line


@pytest.mark.system
def test_the_last_line_of_a_run_that_scored_nothing_is_the_flag_that_helps(tmp_path: Path) -> None:
    shared = os.environ.get("EDGECLOUD_TEST_DATA", "")
    case = Path(shared, "cases", "manifests", "en_in_zh.json")
    if not shared or not case.is_file():
        pytest.skip("EDGECLOUD_TEST_DATA has no cases/manifests/en_in_zh.json")
    recordings = sorted((embedded_manifest("english").parent / "audio").glob("*.flac"))
    entries = json.loads(case.read_text(encoding="utf-8"))
    for entry, recording in zip(entries, recordings, strict=False):
        entry["audio_path"] = str(recording)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(entries), encoding="utf-8")
    done = bench("edge", tmp_path, f"--dataset-path={path}", "--clock=modelled")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        done.stdout.rstrip()
        .splitlines()[-1]
        .endswith("no reference in chinese, so nothing was scored; --language english?")
    )
