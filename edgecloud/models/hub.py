"""From what a user calls a model to a folder with its files: the folder itself, or a hub's repository.

``ORG/NAME`` or ``ORG/NAME@REVISION`` names a repository; a folder of that name comes first. Of a
repository only the files that are read are fetched, into the cache that all tools of the hub share
(``HF_HOME``); a gated one needs the hub's own login or ``HF_TOKEN``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from edgecloud.errors import CheckpointError
from edgecloud.models.folder import INDEX, SMALL_FILES, family_of, needed_shards, read_json

__all__ = ["Source", "locate"]

_REPOSITORY = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>[\w./-]+))?"
)


@dataclass(frozen=True, slots=True)
class Source:
    """A model's name for results, and the folder with its files."""

    name: str
    path: str


@lru_cache(maxsize=16)
def locate(model: str) -> Source:
    """The folder that ``model`` names, fetched first where it is a repository: once per process.

    Raises:
        CheckpointError: the repository, its revision or a file cannot be had, or is not supported.
    """
    found = _REPOSITORY.fullmatch(model)
    if found is None or Path(model).exists():
        return Source(Path(model).name or model, model)
    name, revision = found["name"], found["revision"]
    folder = _fetch(name, revision, list(SMALL_FILES))
    commit = folder.name
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"model {model}: the repository holds no config.json")
    config = read_json(folder / "config.json")
    shards = needed_shards(folder, family_of(folder, config), config)
    if any(not (folder / shard).is_file() for shard in shards):
        # The same commit, whatever the branch has come to since.
        folder = _fetch(name, commit, shards)
    missing = [shard for shard in shards if not (folder / shard).is_file()]
    if missing or not shards:
        raise CheckpointError(
            f"model {model}: the repository lacks {', '.join(missing) or f'weights in its {INDEX}'}"
        )
    return Source(f"{name}@{commit[:12]}", str(folder))


def _fetch(name: str, revision: str | None, files: list[str]) -> Path:
    """Those of ``files`` that the repository has, as a folder called by its commit.

    Raises:
        CheckpointError: they cannot be had; says in one line what to do.
    """
    import httpx2  # what the hub's client speaks through; seconds to import, with it
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    where = f"model {name}" + (f"@{revision}" if revision else "")
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=files))
    except GatedRepoError as error:
        raise CheckpointError(
            f"{where}: access is granted on request; ask for it at https://huggingface.co/{name}, then "
            "`hf auth login` or set HF_TOKEN"
        ) from error
    except RevisionNotFoundError as error:
        raise CheckpointError(f"{where}: the repository has no such revision") from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{where}: there is no such folder, and no such repository on the hub (a private one needs "
            "HF_TOKEN)"
        ) from error
    except LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"{where}: not in the cache, and the hub cannot be reached (or HF_HUB_OFFLINE is set); "
            "fetch it where there is a connection, or give its folder"
        ) from error
    except HFValidationError as error:
        raise CheckpointError(f"{where}: no name of a repository ({_line(error)})") from error
    except (HfHubHTTPError, httpx2.HTTPError, OSError) as error:
        raise CheckpointError(
            f"{where}: the hub does not give it ({_line(error)}); try again, or give its folder"
        ) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
