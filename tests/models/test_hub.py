"""From a hub's repository to a folder, with a stand-in for the hub: no test leaves this machine."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import httpx2
import huggingface_hub
import pytest
from huggingface_hub import errors

from edgecloud.errors import CheckpointError
from edgecloud.experiments.system import model_of
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.folder import INDEX
from edgecloud.models.hub import Source, locate
from edgecloud.models.verifying import verify_weights

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    locate.cache_clear()
    yield
    locate.cache_clear()


class Hub:
    """A repository, a cache of the hub's own layout, and what was asked for."""

    def __init__(self, repository: Path, cache: Path) -> None:
        self.repository = repository
        self._storage = cache / "models--Org--Omni"
        self.asked: list[tuple[str | None, list[str]]] = []

    def snapshot_download(
        self, repo_id: str, *, revision: str | None = None, allow_patterns: list[str]
    ) -> str:
        assert repo_id == "Org/Omni"
        self.asked.append((revision, allow_patterns))
        snapshot = self._storage / "snapshots" / COMMIT
        snapshot.mkdir(parents=True, exist_ok=True)
        (self._storage / "blobs").mkdir(exist_ok=True)
        for file in self.repository.iterdir():
            if any(fnmatch(file.name, pattern) for pattern in allow_patterns):
                blob = self._storage / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
                shutil.copy(file, blob)
                (snapshot / file.name).unlink(missing_ok=True)
                (snapshot / file.name).symlink_to(blob)
        return str(snapshot)


@pytest.fixture
def hub(omni_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    repository = Path(shutil.copytree(omni_folder, tmp_path / "repository"))
    (repository / "README.md").write_text("a model")
    found = Hub(repository, tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", found.snapshot_download)
    return found


def test_only_what_is_read_is_fetched_and_only_once(hub: Hub) -> None:
    source = locate("Org/Omni")
    assert source == locate("Org/Omni")
    assert source.name == f"Org/Omni@{COMMIT[:12]}"
    small, shards = hub.asked
    assert small[0] is None
    assert shards[0] == COMMIT, (
        "the same commit as the small files, whatever the branch has come to"
    )
    index = json.loads((hub.repository / INDEX).read_text("utf-8"))["weight_map"]
    assert set(shards[1]) < set(index.values()), "not the shards of the talker and the vocoder"
    fetched = {path.name for path in Path(source.path).iterdir()}
    assert "README.md" not in fetched
    checkpoint = Checkpoint.open(source.path)
    assert {shard.name for shard in checkpoint.shards} == set(shards[1])
    verify_weights(checkpoint)


def test_a_revision_is_asked_for(hub: Hub) -> None:
    locate("Org/Omni@v1.0")
    assert hub.asked[0][0] == "v1.0"
    assert model_of("Org/Omni@v1.0", "edge")[0] == f"Org/Omni@{COMMIT[:12]}"


def test_what_is_in_the_cache_already_is_not_fetched_again(hub: Hub) -> None:
    locate("Org/Omni")
    locate.cache_clear()
    locate("Org/Omni")
    assert len(hub.asked) == 3, "small files are looked up, weights are there"


def test_a_folder_comes_first(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(hub.repository.parent)
    (hub.repository.parent / "Org" / "Omni").mkdir(parents=True)
    assert locate("Org/Omni") == Source("Omni", "Org/Omni")
    assert hub.asked == []


@pytest.mark.parametrize("model", ["Omni", "/models/Org/Omni", "./Org/Omni", "../Omni", "a/b/c"])
def test_a_path_is_no_repository(hub: Hub, model: str) -> None:
    assert locate(model).path == model
    assert hub.asked == []


def _lose(name: str) -> Callable[[Path], None]:
    return lambda repository: (repository / name).unlink()


def _lose_a_shard(repository: Path) -> None:
    Checkpoint.open(repository).shards[0].unlink()


def _of_another_family(repository: Path) -> None:
    (repository / "config.json").write_text('{"model_type": "resnet"}')


@pytest.mark.parametrize(
    "harm, says",
    [
        (_lose("config.json"), "holds no config.json"),
        (_of_another_family, "'resnet'; supported"),
        (_lose_a_shard, r"lacks model-0000"),
    ],
)
def test_a_repository_that_is_not_enough_is_one_line(
    hub: Hub, harm: Callable[[Path], None], says: str
) -> None:
    harm(hub.repository)
    with pytest.raises(CheckpointError, match=says) as info:
        locate("Org/Omni")
    assert "\n" not in str(info.value)


def _http(kind: Any, status: int) -> Exception:
    request = httpx2.Request("GET", "https://huggingface.co/api/models/Org/Omni")
    response = httpx2.Response(status, request=request)
    error: Exception = kind("Client Error.\n\nSome\nlines.", response=response)
    return error


@pytest.mark.parametrize(
    "error, says",
    [
        (_http(errors.GatedRepoError, 403), "access is granted on request"),
        (_http(errors.RepositoryNotFoundError, 401), "no such repository on the hub"),
        (_http(errors.RevisionNotFoundError, 404), "no such revision"),
        (errors.LocalEntryNotFoundError("not\nhere"), "hub cannot be reached"),
        (errors.IncompleteSnapshotError("not\nall", "/p"), "hub cannot be reached"),
        (_http(errors.HfHubHTTPError, 503), "does not give it"),
        (httpx2.ConnectError("no route"), "does not give it"),
        (OSError("disk\nfull"), "does not give it"),
        (errors.HFValidationError("too\nlong"), "no name of a repository"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_a_hub_refuses_is_one_line_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, error: Exception, says: str
) -> None:
    def refuse(*args: object, **names: object) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(CheckpointError, match=says) as info:
        locate("Org/Omni@v2")
    assert str(info.value).startswith("model Org/Omni@v2: ")
    assert "\n" not in str(info.value)


def test_offline_a_cache_of_the_hubs_own_layout_is_enough(
    omni_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's real client, kept from the network."""
    storage = tmp_path / "models--Org--Omni"
    shutil.copytree(omni_folder, storage / "snapshots" / COMMIT)
    (storage / "refs").mkdir()
    (storage / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    found = locate("Org/Omni")
    assert found.name == f"Org/Omni@{COMMIT[:12]}"
    assert Checkpoint.open(found.path).family.model_type == "qwen2_5_omni"
    with pytest.raises(CheckpointError, match="not in the cache"):
        locate("Org/Other")
