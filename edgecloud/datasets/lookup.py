"""Search for the recordings that a manifest names, and for files beside those that are missing."""

from __future__ import annotations

import os
import stat
import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Final

__all__ = ["Recordings"]

_APPLE_DOUBLE: Final = b"\x00\x05\x16\x07"


class Recordings:
    """Searches for recordings below a manifest's folder. Each folder is listed at most once, for hints."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._base = os.path.join(folder, "")  # noqa: PTH118 - with a separator at its end
        self._listed: dict[Path, dict[str, str]] = {}

    def problem(self, audio_path: str) -> str | None:
        """The problem with a path of a manifest, with a hint where one helps; ``None``: a file is there."""
        try:
            # No Path for each of 200,000 entries: only the names of what is wrong are put together so.
            mode = os.stat(  # noqa: PTH116
                f"{self._base}{audio_path}" if audio_path[0] != "/" else audio_path
            ).st_mode
        except FileNotFoundError:
            full = self._folder / audio_path
            return f"{full} does not exist{self._hint(audio_path)}"
        except NotADirectoryError:
            return f"{self._folder / audio_path} does not exist"
        except (OSError, ValueError) as error:  # too long, a NUL inside, or no right to look
            return f"{audio_path!r} cannot be used: {error}"
        if not stat.S_ISREG(mode):
            return f"{self._folder / audio_path} is not a file"
        if "._" in audio_path:
            full = self._folder / audio_path
            if full.name.startswith("._") and _is_apple_double(full):
                return f"{full} is no recording{_apple_hint(audio_path)}"
        return None

    def _hint(self, audio_path: str) -> str:
        windows = PureWindowsPath(audio_path)
        backslashes = "\\" in audio_path
        if windows.drive.endswith(":") or (backslashes and windows.anchor):
            why = "backslashes make" if backslashes else "drive letter makes"
            return f": its {why} it a path of Windows; write it relative to the manifest's folder, with /"
        if backslashes:
            plain = windows.as_posix()
            return f": it has backslashes; write {self._alike(plain) or plain}"
        if PurePosixPath(audio_path).name.startswith("._"):
            return _apple_hint(audio_path)
        alike = self._alike(audio_path)
        if alike is None:
            return ""
        return f", but a file of other case or composition of letters lies there: {alike}"

    def _alike(self, audio_path: str) -> str | None:
        """The path of a file that differs from ``audio_path`` in case or composition of letters alone."""
        found = PurePosixPath()
        for part in PurePosixPath(audio_path).parts:
            if part in ("..", "/"):
                name: str | None = part
            else:
                name = self._names(self._folder / found).get(_folded(part))
            if name is None:
                return None
            found /= name
        return str(found)

    def _names(self, folder: Path) -> dict[str, str]:
        if folder not in self._listed:
            try:
                names = [path.name for path in folder.iterdir()]
            except OSError:
                names = []
            self._listed[folder] = {_folded(name): name for name in names}
        return self._listed[folder]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _apple_hint(audio_path: str) -> str:
    path = PurePosixPath(audio_path)
    return (
        ": files that begin with ._ are macOS's notes on another file; name "
        f"{path.with_name(path.name[2:] or path.name)}, or leave the entry out"
    )


def _is_apple_double(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(4) == _APPLE_DOUBLE
    except OSError:
        return False
