"""Weights compared with the hashes that are known of them."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from edgecloud.errors import CheckpointError
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.loading import load
from edgecloud.models.verifying import SUMS, known_hashes, verify_weights


@pytest.fixture
def folder(omni_folder: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(omni_folder, tmp_path / "copy"))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def list_sums(folder: Path) -> None:
    lines = [f"{sha256(shard)}  {shard.name}" for shard in Checkpoint.open(folder).shards]
    (folder / SUMS).write_text("\n".join(lines) + "\n", encoding="utf-8")


def flip_a_bit(path: Path) -> None:
    """In the last weight, so that the file still loads."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_listed_weights_are_what_they_should_be(folder: Path) -> None:
    list_sums(folder)
    load("m", str(folder), device="cpu", dtype="float32", verify=True)


def test_a_changed_bit_is_found_though_the_file_loads(folder: Path) -> None:
    list_sums(folder)
    last = Checkpoint.open(folder).shards[-1]
    flip_a_bit(last)
    load("m", str(folder), device="cpu", dtype="float32")
    with pytest.raises(CheckpointError, match=rf"{last.name} is not what was published") as info:
        load("m", str(folder), device="cpu", dtype="float32", verify=True)
    assert "\n" not in str(info.value)


def test_a_hubs_cache_names_files_after_their_sha256(folder: Path) -> None:
    blobs = folder.parent / "blobs"
    blobs.mkdir()
    for shard in Checkpoint.open(folder).shards:
        blob = blobs / sha256(shard)
        shard.rename(blob)
        shard.symlink_to(blob)
    checkpoint = Checkpoint.open(folder)
    assert set(known_hashes(checkpoint)) == set(checkpoint.shards)
    verify_weights(checkpoint)
    flip_a_bit(checkpoint.shards[0].resolve())
    with pytest.raises(CheckpointError, match="is not what was published"):
        verify_weights(checkpoint)


def test_weights_of_which_nothing_is_known_cannot_be_verified(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=f"put a {SUMS} beside it"):
        verify_weights(Checkpoint.open(folder))


def test_sums_that_cannot_be_read_are_one_line(folder: Path) -> None:
    (folder / SUMS).mkdir()
    with pytest.raises(CheckpointError, match=f"{SUMS} cannot be read"):
        verify_weights(Checkpoint.open(folder))
