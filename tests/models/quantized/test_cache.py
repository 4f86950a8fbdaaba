"""The cache of converted weights follows content, can be listed, and shrinks when asked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgecloud.cli.main import main
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.quantized.cache import kept, root, sweep
from edgecloud.models.quantized.convert import KEY, cached

DAY_S = 86_400


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))


def change(folder: Path) -> None:
    """Other weights of the same shapes, in the same file, at the time of the old ones."""
    path = folder / "model.safetensors"
    stat = path.stat()
    tensors = load_file(path)
    tensors["thinker.model.norm.weight"] = torch.zeros_like(tensors["thinker.model.norm.weight"])
    save_file(tensors, path, metadata={"format": "pt"})
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def prune(*days: str) -> None:
    assert main(["quantize", "--prune", *days]) == 0


def test_a_copy_is_not_converted_again_and_other_weights_in_its_place_are(
    folder: Path, tmp_path: Path
) -> None:
    first = cached(Checkpoint.open(folder), 8)
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    os.utime(copy / "model.safetensors", (1, 1))
    assert cached(Checkpoint.open(copy), 8) == first
    change(folder)
    assert cached(Checkpoint.open(folder), 8) != first


def test_the_cache_is_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quantize", "--list"]) == 0
    assert capsys.readouterr().out == f"{root()}: 0 conversions, 0.00 GB\n"
    entry = cached(Checkpoint.open(folder), 4)
    assert main(["quantize", "--list"]) == 0
    said = capsys.readouterr().out
    for part in ("int4", "0.0 ", str(folder), entry.name, "1 conversion, 0.00 GB"):
        assert part in said


def test_what_is_in_use_stays(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = cached(Checkpoint.open(folder), 8)
    prune()
    prune("1")
    assert entry.is_dir()
    assert "0 removed, 0.00 GB" in capsys.readouterr().out


@pytest.mark.parametrize("harm", ["gone", "changed"])
def test_a_conversion_whose_checkpoint_is_no_more_goes(
    folder: Path, harm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = cached(Checkpoint.open(folder), 8)
    if harm == "gone":
        shutil.rmtree(folder)
    else:
        change(folder)
    prune()
    assert not entry.exists()
    said = capsys.readouterr().out
    assert f"removed {entry.name}" in said
    assert "is gone or holds other weights" in said


def test_a_conversion_stays_while_a_copy_of_its_checkpoint_asked_for_it(
    folder: Path, tmp_path: Path
) -> None:
    entry = cached(Checkpoint.open(folder), 8)
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    assert cached(Checkpoint.open(copy), 8) == entry
    shutil.rmtree(folder)
    prune()
    assert entry.is_dir()


def test_what_was_not_used_for_so_many_days_goes(folder: Path) -> None:
    entry = cached(Checkpoint.open(folder), 8)
    past = time.time() - 3.5 * DAY_S
    os.utime(entry / "used.json", (past, past))
    assert kept()[0].unused_days == pytest.approx(3.5, abs=0.01)
    prune("4")
    assert entry.is_dir()
    prune("3")
    assert not entry.exists()


def test_using_a_conversion_makes_it_recent_again(folder: Path) -> None:
    entry = cached(Checkpoint.open(folder), 8)
    os.utime(entry / "used.json", (1, 1))
    cached(Checkpoint.open(folder), 8)
    prune("1")
    assert entry.is_dir()


def test_an_unfinished_conversion_goes_unless_its_process_lives(folder: Path) -> None:
    entry = cached(Checkpoint.open(folder), 8)
    part = entry / f"model.safetensors.{os.getpid()}.part"
    (entry / "model.safetensors").rename(part)
    prune()
    assert part.is_file()
    part.rename(entry / "model.safetensors.999999999.part")
    prune()
    assert not entry.exists()


def test_a_conversion_of_weights_known_by_headers_goes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = cached(Checkpoint.open(folder), 8)
    config = json.loads((entry / "config.json").read_text("utf-8"))
    config[KEY]["source_sha256"] = "headers:12"
    (entry / "config.json").write_text(json.dumps(config), "utf-8")
    prune()
    assert not entry.exists()
    assert "known by their headers alone" in capsys.readouterr().out


@pytest.mark.parametrize("days", ["-1", "nan", "inf", "x"])
def test_days_are_a_number(days: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["quantize", f"--prune={days}"])
    assert "--prune" in capsys.readouterr().err


def test_what_a_killed_conversion_left_goes_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left, whole, made = (root() / name for name in ("left", "whole", "made"))
    for folder, owner in ((left, gone.pid), (whole, gone.pid), (made, os.getpid())):
        folder.mkdir(parents=True)
        (folder / f"model.safetensors.{owner}.part").write_bytes(b"half")
    (whole / "model.safetensors").write_bytes(b"all")
    sweep()
    assert not left.exists()
    assert [path.name for path in whole.iterdir()] == ["model.safetensors"]
    assert len(list(made.iterdir())) == 1


@pytest.mark.parametrize("options", [["--list"], ["--prune"]])
def test_any_start_of_quantize_clears_what_a_killed_conversion_left(options: list[str]) -> None:
    part = root() / "whole" / "model.safetensors.999999999.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"half")
    (part.parent / "model.safetensors").write_bytes(b"all")
    assert main(["quantize", *options]) == 0
    assert not part.exists()


def test_a_conversion_into_a_folder_of_its_own_clears_what_one_before_left(
    folder: Path, tmp_path: Path
) -> None:
    part = tmp_path / "mine" / "model.safetensors.999999999.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"half")
    assert main(["quantize", str(folder), "-o", str(part.parent)]) == 0
    assert not part.exists()
    assert (part.parent / "model.safetensors").is_file()
