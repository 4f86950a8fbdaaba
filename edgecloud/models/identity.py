"""The identity of weights: a sha256 of their content, read once and remembered.

What is remembered of a file lies in the cache folder (``XDG_CACHE_HOME``, ``edgecloud/identities``) and
counts as long as the file's path, size, inode and times of change stay what they were. No torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from edgecloud.errors import CheckpointError
from edgecloud.models.folder import family_of, needed_shards, read_json
from edgecloud.stages import stage
from edgecloud.textfiles import cache_folder, parse_json

__all__ = [
    "FORMER_BYTES",
    "Watch",
    "file_sha256",
    "forget_lost",
    "former_identity",
    "identity_at",
    "identity_of",
    "said_while_hashing",
    "weights_sha256",
]

Watch = Callable[[int, int], None]
"""``(done, total)``: called with bytes that have been read."""

FORMER_BYTES: Final = 1 << 30
"""Weights above this were known by their headers alone before they were known by their content."""
_BLOCK_BYTES: Final = 4 << 20
_SHA256: Final = re.compile("[0-9a-f]{64}")
_SILENT_BYTES: Final = 1 << 30
"""Bytes that are hashed in a second or two: no progress is shown."""


def weights_sha256(shards: Sequence[Path], *, watch: Watch | None = None) -> str:
    """The identity, in hex, of the weights in ``shards``: of one file its sha256; of several up to
    1 GiB that of all their bytes in order; of several above it that of their sha256s in order, so that
    each byte is read once for the identity and for what a hub publishes of each file.

    Raises:
        CheckpointError: a file cannot be read, or changes meanwhile.
    """
    total = sum(shard.stat().st_size for shard in shards)
    if len(shards) == 1 or total <= FORMER_BYTES:
        return _sha256(shards, watch or _unwatched)
    found: list[str] = []
    before = 0
    for shard in shards:
        found.append(_sha256([shard], _part(watch or _unwatched, before, total)))
        before += shard.stat().st_size
    return hashlib.sha256("\n".join(found).encode()).hexdigest()


def identity_of(folder: Path, shards: Sequence[Path]) -> dict[str, str]:
    """Facts of a result: ``sha256`` of the content of a checkpoint's weights, and ``headers_sha256``, by which
    results know weights above 1 GiB that were written before content was hashed.

    Raises:
        CheckpointError: a shard cannot be read, or is not the file that a hub published.
    """
    found = weights_sha256(shards, watch=said_while_hashing(folder))
    for shard in shards:
        # A hub's cache names a file after its sha256.
        published = shard.resolve().name
        if _SHA256.fullmatch(published) and file_sha256(shard) != published:
            raise CheckpointError(
                f"model {folder}: {shard.name} is not what the hub published (its sha256 is not "
                f"{published[:12]}…); fetch it again"
            )
    former = former_identity(shards)
    return {"sha256": found, **({"headers_sha256": former} if former else {})}


def identity_at(path: str | Path) -> dict[str, str]:
    """The ``family`` of the checkpoint in a folder, and its :func:`identity_of`; nothing is loaded.

    Raises:
        CheckpointError: it is none, or its weights cannot be read.
    """
    folder = Path(path)
    config = read_json(folder / "config.json")
    family = family_of(folder, config)
    shards = [folder / name for name in needed_shards(folder, family, config)]
    return {"family": family.model_type, **identity_of(folder, shards)}


def former_identity(shards: Sequence[Path]) -> str | None:
    """Identity of weights above 1 GiB in results before this scheme: ``headers:`` and a sha256 of the
    shards' sizes and headers. None for smaller ones, whose identity has always been their content's."""
    sizes = [shard.stat().st_size for shard in shards]
    if sum(sizes) <= FORMER_BYTES:
        return None
    digest = hashlib.sha256()
    for shard, size in zip(shards, sizes, strict=True):
        with shard.open("rb") as file:
            digest.update(str(size).encode())
            digest.update(file.read(int.from_bytes(file.read(8), "little")))
    return f"headers:{digest.hexdigest()}"


def file_sha256(path: Path) -> str:
    """The sha256 of a file, in hex: as remembered, or read now.

    Raises:
        CheckpointError: it cannot be read, or changes meanwhile.
    """
    return _sha256([path], _unwatched)


def forget_lost() -> int:
    """Forget what is remembered of files that are no longer what they were; how many entries it was."""
    forgotten = 0
    for place in _folder().glob("*.json"):
        known = _remembered(place) or {}
        try:
            kept = bool(known) and all(_facts(Path(f["path"])) == f for f in known["files"])
        except (CheckpointError, LookupError, TypeError):
            kept = False
        if not kept:
            place.unlink(missing_ok=True)
            forgotten += 1
    return forgotten


def said_while_hashing(model: str | Path) -> Watch:
    """Says that ``model`` is hashed, where that takes more than a moment, and how far it is."""

    def watch(done: int, total: int) -> None:
        if total > _SILENT_BYTES:
            what = f"hashing the weights of {model} ({total / 1e9:.1f} GB; once, it is remembered)"
            stage(what, done / total)

    return watch


def _sha256(files: Sequence[Path], watch: Watch) -> str:
    """The sha256 of all bytes of ``files``, in order: as remembered, or read now."""
    facts = [_facts(file) for file in files]
    place = _place(facts)
    known = _remembered(place)
    if known is not None and known["files"] == facts:
        return str(known["sha256"])
    digest = hashlib.sha256()
    total = sum(one["size"] for one in facts)
    done = 0

    def take(block: bytes) -> None:
        nonlocal done
        digest.update(block)
        done += len(block)
        watch(done, total)

    for file in files:
        _read(file, take)
    if [_facts(file) for file in files] != facts:
        raise CheckpointError(
            f"model {files[0].parent}: its weights change while they are read; try again"
        )
    _remember(place, {"files": facts, "sha256": digest.hexdigest()})
    return digest.hexdigest()


def _unwatched(done: int, total: int) -> None:
    """Ignore the progress."""


def _part(watch: Watch, before: int, total: int) -> Watch:
    """``watch`` of a file that is read when ``before`` bytes of ``total`` were."""
    return lambda done, _: watch(before + done, total)


def _read(path: Path, take: Callable[[bytes], object]) -> None:
    try:
        with path.open("rb", buffering=0) as file:
            while block := file.read(_BLOCK_BYTES):
                take(block)
    except OSError as error:
        raise CheckpointError(
            f"model {path.parent}: {path.name} cannot be read ({error.strerror or error})"
        ) from error


def _facts(path: Path) -> dict[str, Any]:
    """The facts by which a file is known again. The time of its last change of any kind is among them:
    nobody can set that back, as copying tools do with the time of its content."""
    try:
        real = path.resolve()
        stat = real.stat()
    except OSError as error:
        raise CheckpointError(
            f"model {path.parent}: {path.name} cannot be read ({error.strerror or error})"
        ) from error
    return {
        "path": str(real),
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "ctime_ns": stat.st_ctime_ns,
        "inode": stat.st_ino,
    }


def _folder() -> Path:
    return cache_folder() / "identities"


def _place(facts: Sequence[dict[str, Any]]) -> Path:
    paths = "\n".join(one["path"] for one in facts)
    name = hashlib.sha256(paths.encode(errors="surrogateescape")).hexdigest()
    return _folder() / f"{name[:32]}.json"


def _remembered(place: Path) -> dict[str, Any] | None:
    try:
        found = parse_json(place.read_bytes())
    except (OSError, ValueError):
        return None
    whole = isinstance(found, dict) and {"files", "sha256"} <= set(found)
    return found if whole else None


def _remember(place: Path, facts: dict[str, Any]) -> None:
    """Keep a hash; where the folder cannot be written it is computed again next time."""
    part = place.with_name(f"{place.stem}.{os.getpid()}.part")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(facts, indent=1), encoding="utf-8")
        part.replace(place)
    except OSError:
        with suppress(OSError):
            part.unlink()
