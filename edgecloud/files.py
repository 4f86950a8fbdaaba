"""Files that are there whole or not at all, and that one process at a time writes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from edgecloud.errors import OutputError

__all__ = ["held", "put"]


def put(path: Path, content: bytes | Iterable[bytes], rest: BinaryIO | None = None) -> None:
    """Put ``content``, or its parts one after the other, and what is left in ``rest`` in the file's place at once; an
    old file stays until the new one is on disk.

    Raises:
        OSError: the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as handle:
            handle.writelines([content] if isinstance(content, bytes) else content)
            if rest is not None:
                shutil.copyfileobj(rest, handle, 1 << 20)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def held(path: Path, *, flag: str = "--output-name or --output-dir") -> Iterator[None]:
    """Context manager: within it only this process writes ``path``, as far as others ask for it here too.
    The system lets go of it for a process that is killed. ``flag`` is what chose the path.

    Raises:
        OutputError: another process has it, or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        place = path.with_name(f".{path.name}.lock")
        lock = FileLock(place)
        lock.acquire(blocking=False)
    except Timeout:
        raise OutputError(
            f"another run is writing {path}; wait until it has ended, or give this one another {flag}"
        ) from None
    except OSError as error:
        raise OutputError(
            f"cannot write beside {path}: {error.strerror or error}; choose another {flag}"
        ) from error
    try:
        yield
    finally:
        # While it is held: whoever has opened it meanwhile is refused, and begins with a new one.
        with suppress(OSError):
            place.unlink()
        lock.release()
