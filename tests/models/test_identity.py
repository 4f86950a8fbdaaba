"""Weights are known by their content: hashed once, remembered, and told apart when it changes."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
from pathlib import Path

import pytest

from edgecloud.errors import CheckpointError
from edgecloud.models import identity
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.identity import (
    FORMER_BYTES,
    file_sha256,
    forget_lost,
    former_identity,
    said_while_hashing,
    weights_sha256,
)
from edgecloud.stages import listening
from tests.told import Told


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files whose content is read."""
    found: list[str] = []
    own = identity._read

    def read(path: Path, take: object) -> None:
        found.append(path.name)
        own(path, take)  # type: ignore[arg-type]

    monkeypatch.setattr(identity, "_read", read)
    return found


def shard(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def huge(path: Path, mark: bytes, *, at: int = FORMER_BYTES + 100) -> Path:
    """A sparse file above 1 GiB with an empty header of safetensors."""
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 2) + b"{}")
        file.seek(at)
        file.write(mark)
    return path


def test_one_files_identity_is_its_sha256_and_is_read_once(
    tmp_path: Path, reads: list[str]
) -> None:
    path = shard(tmp_path / "a", b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert weights_sha256([path]) == weights_sha256([path]) == expected
    assert reads == ["a"]


def test_bytes_changed_in_place_are_another_identity_though_the_time_is_set_back(
    tmp_path: Path,
) -> None:
    path = shard(tmp_path / "a", b"abc")
    before, stat = file_sha256(path), path.stat()
    with path.open("r+b") as file:
        file.write(b"\0\0")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_mtime_ns == stat.st_mtime_ns
    assert file_sha256(path) != before


def test_another_file_in_the_same_place_is_read(tmp_path: Path) -> None:
    path = shard(tmp_path / "a", b"abc")
    before = file_sha256(path)
    shard(tmp_path / "b", b"abd").replace(path)
    assert file_sha256(path) != before


def test_a_link_is_known_as_the_file_that_it_leads_to(tmp_path: Path, reads: list[str]) -> None:
    path = shard(tmp_path / "a", b"abc")
    (tmp_path / "link").symlink_to(path)
    assert file_sha256(tmp_path / "link") == file_sha256(path)
    assert len(reads) == 1


def test_a_damaged_memory_is_no_memory(tmp_path: Path, cache: Path, reads: list[str]) -> None:
    path = shard(tmp_path / "a", b"abc")
    expected = file_sha256(path)
    for content in ("", "[]", "{}", '{"sha256": "x"}', "\udcff"):
        (place,) = (cache / "edgecloud" / "identities").iterdir()
        place.write_text(content, errors="surrogateescape")
        assert file_sha256(path) == expected
    assert len(reads) == 6


def test_a_cache_that_cannot_be_written_costs_reading_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: list[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(shard(tmp_path / "file", b"")))
    path = shard(tmp_path / "a", b"abc")
    assert file_sha256(path) == file_sha256(path) == hashlib.sha256(b"abc").hexdigest()
    assert len(reads) == 2


def test_several_small_shards_keep_the_identity_of_all_their_bytes(tmp_path: Path) -> None:
    shards = [shard(tmp_path / "a", b"ab"), shard(tmp_path / "b", b"c")]
    assert weights_sha256(shards) == hashlib.sha256(b"abc").hexdigest()
    assert former_identity(shards) is None


def test_large_weights_of_equal_headers_have_identities_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "FORMER_BYTES", 100)
    one, other = [], []
    for number in range(2):
        one.append(huge(tmp_path / f"a{number}", b"1", at=200))
        other.append(huge(tmp_path / f"b{number}", b"1" if number else b"2", at=200))
    assert former_identity(one) == former_identity(other)
    assert str(former_identity(one)).startswith("headers:")
    assert weights_sha256(one) != weights_sha256(other)


def test_the_identity_of_large_shards_is_that_of_their_sha256s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: list[str]
) -> None:
    monkeypatch.setattr(identity, "FORMER_BYTES", 2)
    shards = [shard(tmp_path / "a", b"ab"), shard(tmp_path / "b", b"c")]
    listed = "\n".join(hashlib.sha256(content).hexdigest() for content in (b"ab", b"c"))
    told: list[tuple[int, int]] = []
    for _ in range(2):
        found = weights_sha256(shards, watch=lambda done, total: told.append((done, total)))
        assert found == hashlib.sha256(listed.encode()).hexdigest()
    assert reads == ["a", "b"]
    assert told == [(2, 3), (3, 3)]


def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shard(tmp_path / "a", b"abc")
    monkeypatch.setattr(identity, "_read", lambda path, _: path.write_bytes(b"longer"))
    with pytest.raises(CheckpointError, match="change while they are read"):
        file_sha256(path)


def test_hashing_large_weights_is_a_stage_with_its_share() -> None:
    told = Told()
    with listening(told):
        watch = said_while_hashing("m")
        watch(10, 1000)
        assert told.stages == []
        watch(1 << 30, 4 << 30)
        watch(4 << 30, 4 << 30)
    assert [share for _, share in told.stages] == [0.25, 1.0]
    assert "hashing the weights of m (4.3 GB; once, it is remembered)" in told.stages[0][0]


def test_what_is_remembered_of_lost_files_is_forgotten(tmp_path: Path, reads: list[str]) -> None:
    kept, lost = shard(tmp_path / "a", b"a"), shard(tmp_path / "b", b"b")
    file_sha256(kept)
    file_sha256(lost)
    lost.unlink()
    assert forget_lost() == 1
    file_sha256(kept)
    assert reads == ["a", "b"]


def test_a_hubs_file_that_is_not_what_was_published_is_refused(
    omni_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(omni_folder, tmp_path / "m"))
    (tmp_path / "blobs").mkdir()
    for path in Checkpoint.open(folder).shards:
        blob = tmp_path / "blobs" / file_sha256(path)
        path.rename(blob)
        path.symlink_to(blob)
    checkpoint = Checkpoint.open(folder)
    assert checkpoint.identity() == {"sha256": checkpoint.fingerprint()}
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"is not what the hub published .*fetch it again"):
        checkpoint.fingerprint()
