"""A run that scores nothing says so, with the flag that helps."""

from __future__ import annotations

from typing import Any

import pytest

from bench.recorder import _no_reference


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
