"""The cache of converted weights: what is in it, and what may go. No torch."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from edgecloud.errors import OutputError
from edgecloud.models.folder import QUANTIZED_KEY
from edgecloud.textfiles import cache_folder, parse_json

__all__ = ["WEIGHTS", "Kept", "kept", "prune", "root", "sweep", "sweep_folder", "use"]

WEIGHTS = "model.safetensors"
_DAY_S = 86_400
_USED = "used.json"
"""File beside the weights: the checkpoint they were last used for; the file's time is that of the use."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One folder of the cache. ``bits`` and ``source_sha256`` are None where a conversion never ended,
    ``source`` (the checkpoint's folder) where that is not known; ``used_s`` is a time since the epoch."""

    folder: Path
    bits: int | None
    nbytes: int
    source: str | None
    source_sha256: str | None
    used_s: float

    @property
    def whole(self) -> bool:
        """True when the conversion was completed."""
        return (self.folder / WEIGHTS).is_file()

    @property
    def being_made(self) -> bool:
        """True when a process that lives is converting into it."""
        return any(map(_being_written, _parts(self.folder)))

    @property
    def unused_days(self) -> float:
        """Days since it was last used."""
        return max(0.0, time.time() - self.used_s) / _DAY_S


def root() -> Path:
    """The folder with a folder for each conversion."""
    return cache_folder() / "quantized"


def use(folder: Path, source: Path) -> None:
    """Remember that the conversion in ``folder`` was asked for now, of the checkpoint ``source``."""
    try:
        text = json.dumps({"source": str(source.resolve())})
        (folder / _USED).write_text(text + "\n", encoding="utf-8")
    except OSError:
        # A cache that others own and that can only be read is as good.
        return


def kept() -> list[Kept]:
    """The folders of the cache, the least recently used first."""
    folders = [folder for folder in root().glob("*") if folder.is_dir()]
    return sorted(map(_kept, folders), key=lambda found: found.used_s)


def prune(
    *, unused_days: float | None = None, current: Callable[[Kept], bool]
) -> list[tuple[Kept, str]]:
    """Remove what no run can use any more, and with ``unused_days`` what none has used for so long.

    ``current`` says whether a conversion's checkpoint is still there with the same weights.

    Returns what was removed, each with the reason.

    Raises:
        OutputError: a folder cannot be removed.
    """
    removed = []
    for found in kept():
        reason = _reason(found, unused_days, current)
        if reason is None:
            continue
        try:
            shutil.rmtree(found.folder)
        except OSError as error:
            raise OutputError(
                f"cannot remove {found.folder}: {error.strerror or error}; remove it by hand"
            ) from error
        removed.append((found, reason))
    return removed


def sweep() -> None:
    """Remove what conversions into the cache left half written when they were killed. What cannot be
    removed stays."""
    for folder in root().glob("*"):
        if sweep_folder(folder) and not (folder / WEIGHTS).exists() and not _parts(folder):
            shutil.rmtree(folder, ignore_errors=True)


def sweep_folder(folder: Path) -> bool:
    """Remove what killed conversions into ``folder`` left half written; returns true if there was any."""
    left = [part for part in _parts(folder) if not _being_written(part)]
    for part in left:
        with suppress(OSError):
            part.unlink()
    return bool(left)


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{WEIGHTS}.*.part"))


def _being_written(part: Path) -> bool:
    """True when the process whose number is in the file's name lives, and began before the file."""
    owner = part.name.split(".")[-2]
    try:
        return (
            owner.isdigit() and psutil.Process(int(owner)).create_time() <= part.stat().st_mtime + 1
        )
    except (psutil.NoSuchProcess, FileNotFoundError):
        return False
    except psutil.AccessDenied:
        return True


def _reason(found: Kept, unused_days: float | None, current: Callable[[Kept], bool]) -> str | None:
    if found.being_made:
        return None
    if not found.whole:
        return "its conversion never ended"
    if (found.source_sha256 or "headers:").startswith("headers:"):
        return "it was made when weights were known by their headers alone"
    if unused_days is not None and found.unused_days >= unused_days:
        return f"not used for {found.unused_days:.0f} days"
    if found.source is not None and not current(found):
        return f"{found.source} is gone or holds other weights"
    return None


def _kept(folder: Path) -> Kept:
    about = _read(folder / "config.json").get(QUANTIZED_KEY)
    about = about if isinstance(about, dict) else {}
    used = folder / _USED
    newest = [path for path in (used, folder / WEIGHTS, folder) if path.exists()]
    source = _read(used).get("source")
    return Kept(
        folder=folder,
        bits=about.get("bits"),
        nbytes=sum(file.stat().st_size for file in folder.iterdir() if file.is_file()),
        source=source if isinstance(source, str) else None,
        source_sha256=about.get("source_sha256"),
        used_s=newest[0].stat().st_mtime if newest else 0.0,
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        found = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
