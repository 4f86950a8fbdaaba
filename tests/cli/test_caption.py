"""``edgecloud caption``: which recordings it takes, and what it says of the embedded models."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecloud.cli import caption
from edgecloud.cli.main import main
from edgecloud.settings.config import resolve


def test_without_a_recording_it_says_which_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["caption"]) == 2
    assert "--example" in capsys.readouterr().err


@pytest.mark.parametrize("language", ["chinese", "english"])
def test_the_example_is_a_recording_that_is_there(language: str) -> None:
    config = resolve({"language": language, "dataset_path": "absent.json", "dataset_type": "text"})
    assert Path(caption._example(config)).suffix == ".flac"
    assert Path(caption._example(config)).is_file()


@pytest.mark.parametrize(
    "mode, flags, guesses",
    [
        ("spec", {}, True),
        ("edge", {"edge_model": "own"}, False),
        ("edge", {"cloud_model": "own"}, True),
        ("cloud", {"cloud_model": "own"}, False),
        ("cloud", {"cloud_url": "http://server:8000"}, False),
        ("spec", {"edge_model": "own"}, True),
        ("spec", {"edge_model": "own", "cloud_url": "http://server:8000"}, False),
    ],
)
def test_who_guesses_at_real_speech_is_known(
    mode: str, flags: dict[str, str], guesses: bool
) -> None:
    assert caption._miniature(mode, resolve(flags)) is guesses
