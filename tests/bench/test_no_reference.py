"""A run that scores nothing says so, with the flag that helps."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from bench.recorder import _no_reference
from edgecloud.datasets.manifest import embedded_manifest
from tests.system.test_command_line import bench


def result(language: str, *references: tuple[str, str], **config: str) -> dict[str, Any]:
    settings = {"language": language, "caption_type": "original", "dataset_type": "unified"}
    entries = [
        {"reference_language": its, "reference_captions": [text] if text else []}
        for its, text in references
    ]
    return {"experiment_config": {**settings, **config}, "detailed_results": entries}


@pytest.mark.parametrize(
    "found, said",
    [
        (result("chinese", ("english", "a calm man")), "--language english?"),
        (result("english", ("english", "")), "the manifest has no captions"),
        (result("english", ("english", ""), caption_type="audio_only"), "--caption-type original?"),
    ],
)
def test_no_reference_in_the_generated_language_is_said_with_the_flag(
    found: dict[str, Any], said: str
) -> None:
    line = _no_reference(found)
    assert line is not None
    assert said in line
    assert f"no reference in {found['experiment_config']['language']}" in line


def test_one_reference_in_the_language_is_enough() -> None:
    assert _no_reference(result("english", ("chinese", "你好"), ("english", "a man"))) is None


def test_prompts_of_text_are_scored_in_their_own_language() -> None:
    assert _no_reference(result("chinese", ("english", "a man"), dataset_type="text")) is None
    line = _no_reference(result("chinese", ("chinese", ""), dataset_type="text"))
    assert line is not None
    assert "the manifest has no captions" in line


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
