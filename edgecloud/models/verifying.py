"""Comparison of a checkpoint's bytes with those that were published, where these are known.

Two things tell: the cache of a hub, which names a file after its sha256, and a ``SHA256SUMS`` in the
checkpoint's folder, as the command sha256sum writes it.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from edgecloud.errors import CheckpointError
from edgecloud.models.checkpoint import Checkpoint

__all__ = ["SUMS", "known_hashes", "verify_weights"]

SUMS = "SHA256SUMS"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def known_hashes(checkpoint: Checkpoint) -> dict[Path, str]:
    """The sha256, in hex, of each shard for which it is known.

    Raises:
        CheckpointError: the folder's SHA256SUMS cannot be read.
    """
    listed = _listed(checkpoint.path / SUMS)
    known = {}
    for shard in checkpoint.shards:
        blob = shard.resolve().name
        sha256 = listed.get(shard.name) or (blob if _SHA256.fullmatch(blob) else None)
        if sha256 is not None:
            known[shard] = sha256
    return known


def verify_weights(checkpoint: Checkpoint) -> None:
    """Read every shard once and compare.

    Raises:
        CheckpointError: a shard is not what was published, or that is not known of one.
    """
    known = known_hashes(checkpoint)
    for shard in checkpoint.shards:
        if shard not in known:
            raise CheckpointError(
                f"model {checkpoint.path}: nothing tells the sha256 of {shard.name}; put a {SUMS} "
                "beside it, or leave out --verify-weights"
            )
        try:
            with shard.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise CheckpointError(
                f"model {checkpoint.path}: {shard.name}: {error.strerror}"
            ) from error
        if found != known[shard]:
            raise CheckpointError(
                f"model {checkpoint.path}: {shard.name} is not what was published (its sha256 is "
                f"{found[:12]}…, it should be {known[shard][:12]}…); fetch it again"
            )


def _listed(sums: Path) -> dict[str, str]:
    try:
        lines = sums.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"model {sums.parent}: {SUMS} cannot be read ({error})") from error
    found = [_LINE.fullmatch(line) for line in lines]
    return {match[2]: match[1] for match in found if match}
