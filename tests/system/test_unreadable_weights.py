"""What is wrong with models, and needs no weights to be seen, is one line and exit 2 of every command that
loads models, although no file with weights can be read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from edgecloud.cli.main import main
from edgecloud.datasets.manifest import embedded_manifest
from edgecloud.embedded.pair import CLOUD_CHECKPOINT
from edgecloud.experiments import checking
from edgecloud.experiments.preflight import Arm, Side, examine

RECORDING = embedded_manifest("chinese").parent / "audio" / "test-00000.flac"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The embedded cloud with features of its own, whose weights are not to be opened."""
    folder = Path(shutil.copytree(CLOUD_CHECKPOINT, tmp_path / "cloud"))
    for shard in folder.glob("*.safetensors"):
        shard.write_bytes(b"not to be opened")
    path = folder / "preprocessor_config.json"
    settings = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**settings, "hop_length": 128}), "utf-8")
    return folder


@pytest.fixture
def other(asr_folder: Path, tmp_path: Path) -> Path:
    """A model with a tower that cannot be quantised, whose weights are not to be opened."""
    folder = Path(shutil.copytree(asr_folder, tmp_path / "audio"))
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["audio_config"]["scale_embedding"] = True
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    for shard in folder.glob("*.safetensors"):
        shard.write_bytes(b"not to be opened")
    return folder


def refused(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    told = [line for line in capfd.readouterr().err.splitlines() if line]
    assert not any("Traceback" in line for line in told)
    (line,) = [line for line in told if line.startswith("edgecloud: error: ")]
    assert told[-1] == line
    return line


def test_caption_refuses_a_pair_that_does_not_fit(
    model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    line = refused(["caption", "--cloud-model", str(model), str(RECORDING)], capfd)
    assert "edge and cloud do not fit together: audio" in line


GRID = """
[where]
language = "english"
max_samples = 2
cloud_model = "{model}"

[[policy]]
name = "a"
"""


def test_sweep_refuses_a_pair_that_does_not_fit(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "grid.toml"
    path.write_text(GRID.format(model=model), encoding="utf-8")
    line = refused(["sweep", str(path), "-o", str(tmp_path / "out")], capfd)
    assert "edge and cloud do not fit together: audio" in line
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check without a process of its own, which takes seconds to start."""

    def examined(arms: list[dict[str, Any]], *, together: bool, timeout_s: float) -> None:
        made = [Arm(**{**arm, "sides": [Side(**side) for side in arm["sides"]]}) for arm in arms]
        examine(made, together=together, say=lambda _: None)

    monkeypatch.setattr(checking, "_examined", examined)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["serve", "--port", "0", "--model", "{}", "--device", "cuda:7"],
            "cuda:7 is not available",
        ),
        (["serve", "--port", "0", "--model", "{}", "--max-context", "99999999"], "--max-context"),
        (["quantize", "{}", "--evaluate"], "can be quantised"),
        (["quantize", "{}"], "can be quantised"),
    ],
)
def test_serve_and_quantize_refuse_what_needs_no_weights_to_be_seen(
    in_this_process: None,
    other: Path,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert message in refused([word.format(other) for word in arguments], capfd)
