"""A manifest is read once for all that ask, and again when it has changed."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import Mock

import pytest

from edgecloud.datasets import corpus
from edgecloud.datasets.corpus import hash_once, load_corpus
from edgecloud.errors import ManifestError
from edgecloud.settings.config import resolve


def written(folder: Path, *ids: str) -> Path:
    (folder / "a.wav").write_bytes(b"x")
    path = folder / "manifest.json"
    entries = [{"file_id": name, "audio_path": "a.wav", "caption": "A voice."} for name in ids]
    path.write_text(json.dumps(entries), encoding="utf-8")
    return path


def test_a_manifest_is_read_once_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Mock(wraps=corpus.load_manifest)
    monkeypatch.setattr(corpus, "load_manifest", read)
    config = resolve({"dataset_path": str(written(tmp_path, "a")), "language": "english"})
    found = {load_corpus(config)[0] for _ in range(3)}
    assert len(found) == read.call_count == 1
    load_corpus(resolve({"dataset_path": str(tmp_path / "manifest.json"), "language": "chinese"}))
    assert read.call_count == 2
    written(tmp_path, "a", "b")
    assert len(load_corpus(config)[0]) == 2
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(ManifestError, match="does not exist"):
        load_corpus(config)


def test_recordings_are_hashed_once_until_one_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = Mock(wraps=corpus.data_hash)
    monkeypatch.setattr(corpus, "data_hash", hashed)
    config = resolve({"dataset_path": str(written(tmp_path, "a")), "language": "english"})
    samples, _ = load_corpus(config)
    first = {hash_once(samples) for _ in range(3)}
    assert len(first) == hashed.call_count == 1
    (tmp_path / "a.wav").write_bytes(b"another recording")
    assert hash_once(samples) not in first
