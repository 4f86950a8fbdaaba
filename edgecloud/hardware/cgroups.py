"""A cgroup of its own for one process: a quota of cores and a limit of memory, where permitted.

The process keeps its place in every other hierarchy. With the memory limit in force it alone is
killed when it goes over, not the process that started it.
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import psutil

from edgecloud.hardware.limits import BYTES_PER_GB

__all__ = ["CGROUP_ROOT", "CgroupCap"]

CGROUP_ROOT = Path("/sys/fs/cgroup")
_PERIOD_US = 100_000
_PREFIX = "edgecloud-"
_REMOVE_WITHIN_S = 2.0

Controller = Literal["cpu", "memory"]


class CgroupCap:
    """Context manager of the starting process: put ``pid`` into a group with limits, remove it after.

    Enter it right after the start: memory that ``pid`` holds already stays on its old group's
    account, and only processes ``pid`` starts later inherit the group. Nothing is raised when a
    cgroup is not permitted: :attr:`in_force` says what took effect and its ``notes`` what did not.
    0 leaves cores or memory uncapped. Cores and GB (10^9 bytes).
    """

    def __init__(
        self,
        pid: int,
        *,
        max_cpu_cores: int,
        max_memory_gb: float,
        root: Path = CGROUP_ROOT,
        proc: Path = Path("/proc"),
    ) -> None:
        self._pid = pid
        self._cores = max_cpu_cores
        self._memory_bytes = int(max_memory_gb * BYTES_PER_GB)
        self._root = root
        self._proc = proc
        self._name = f"{_PREFIX}{pid}-{uuid.uuid4().hex[:8]}"
        self._groups: list[Path] = []
        self._versions: dict[Controller, str | None] = {"cpu": None, "memory": None}
        self._outer: dict[str, float] = {}
        self._notes: list[str] = []

    @property
    def in_force(self) -> dict[str, Any]:
        """``cpu`` and ``memory``, each ``"v1"``, ``"v2"`` or ``None``, and ``notes``; where the groups around
        the process allow it less than was asked for, also ``outer_cores`` and ``outer_memory_gb``."""
        versions = {str(controller): version for controller, version in self._versions.items()}
        return {**versions, **self._outer, "notes": list(self._notes)}

    @property
    def memory_kills(self) -> int:
        """Number of processes that the kernel has ended in the group for want of memory."""
        version = self._versions["memory"]
        if version is None:
            return 0
        name = "memory.oom_control" if version == "v1" else "memory.events"
        for group in self._groups:
            control = group / name
            if control.is_file():
                found = dict(line.split() for line in control.read_text().splitlines())
                return int(found.get("oom_kill", 0))
        return 0

    def __enter__(self) -> CgroupCap:
        wanted: list[Controller] = []
        if self._cores > 0:
            wanted.append("cpu")
        if self._memory_bytes > 0:
            wanted.append("memory")
        if wanted and sys.platform != "linux":
            self._notes.append(f"No cgroup is in force: {sys.platform} has none.")
            return self
        if self._unified:
            self._attempt(wanted, lambda: self._cap_v2(wanted))
        else:
            for controller in wanted:
                self._attempt([controller], partial(self._cap_v1, controller))
        for controller in wanted:
            self._look_around(controller)
        return self

    @property
    def _unified(self) -> bool:
        return (self._root / "cgroup.controllers").is_file()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove what was made, also when the process lives on (it moves up) or is dead."""
        for group in self._groups:
            self._remove(group)
        self._groups.clear()

    def _attempt(self, controllers: Sequence[Controller], cap: Callable[[], None]) -> None:
        try:
            cap()
        except OSError as error:
            what = " and ".join("cores" if name == "cpu" else name for name in controllers)
            self._notes.append(
                f"No cgroup caps the {what}: {error.strerror or error} ({error.filename})."
            )

    def _look_around(self, controller: Controller) -> None:
        """Find the least that the groups around the process's own allow it; a lower limit than the cap
        is what is in force."""
        top = self._root if self._unified else self._root / controller
        try:
            where = top / self._own("" if self._unified else controller)
        except OSError:
            return  # the process is gone
        limits = {
            group: limit
            for group in self._upwards(where, top)
            if group not in self._groups
            and (limit := _limit(group, controller, unified=self._unified)) is not None
        }
        asked = self._cores if controller == "cpu" else self._memory_bytes
        if not limits or min(limits.values()) >= asked:
            return
        group, least = min(limits.items(), key=lambda found: found[1])
        if controller == "cpu":
            self._outer["outer_cores"] = least
            allowed, cap = f"{least:g} cores", f"{self._cores}"
        else:
            self._outer["outer_memory_gb"] = least / BYTES_PER_GB
            allowed, cap = f"{least / BYTES_PER_GB:.3g} GB", f"{asked / BYTES_PER_GB:g}"
        self._notes.append(
            f"The cgroup {group} around the edge allows {allowed}, less than the cap of {cap}: that is in "
            "force."
        )

    def _own(self, controller: str) -> str:
        """The process's path in the hierarchy of ``controller`` (empty string: the unified one)."""
        for line in (self._proc / str(self._pid) / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controller in controllers.split(","):
                return path.lstrip("/")
        return ""

    def _cap_v1(self, controller: Controller) -> None:
        hierarchy = self._root / controller
        parent = hierarchy / self._own(controller)
        if not parent.is_dir():  # in a container the path may be the host's
            parent = hierarchy
        group = self._make(parent)
        if controller == "cpu":
            _write(group / "cpu.cfs_period_us", _PERIOD_US)
            _set(group / "cpu.cfs_quota_us", str(self._cores * _PERIOD_US))
        else:
            _set(group / "memory.limit_in_bytes", self._memory_bytes)
            if (group / "memory.memsw.limit_in_bytes").exists():
                _write(group / "memory.memsw.limit_in_bytes", self._memory_bytes)
        self._enter(group)
        self._versions[controller] = "v1"

    def _cap_v2(self, wanted: Sequence[Controller]) -> None:
        # One group for all: a process has one place in the unified hierarchy.
        parent, available = self._parent_v2(wanted)
        group = self._make(parent)
        if "cpu" in available:
            _set(group / "cpu.max", f"{self._cores * _PERIOD_US} {_PERIOD_US}")
        if "memory" in available:
            _set(group / "memory.max", self._memory_bytes)
            if (group / "memory.swap.max").exists():
                _write(group / "memory.swap.max", 0)
        self._enter(group)
        for controller in available:
            self._versions[controller] = "v2"
        for controller in set(wanted) - set(available):
            self._notes.append(f"No cgroup caps the {controller}: {parent} does not hand it on.")

    def _parent_v2(self, wanted: Sequence[Controller]) -> tuple[Path, list[Controller]]:
        """The group above the process that hands most controllers on to its children; the nearest.

        A group with processes in it cannot begin to (EBUSY), so the search goes on upwards.
        """
        best: tuple[Path, list[Controller]] | None = None
        failure: OSError = FileNotFoundError(2, "no usable group", str(self._root))
        for parent in self._upwards(self._root / self._own(""), self._root):
            control = parent / "cgroup.subtree_control"
            available: list[Controller] = []
            for controller in wanted:
                try:
                    if controller not in control.read_text().split():
                        _write(control, f"+{controller}")
                    available.append(controller)
                except OSError as error:
                    failure = error
            if available and (best is None or len(available) > len(best[1])):
                best = parent, available
        if best is None:
            raise failure
        return best

    def _upwards(self, path: Path, top: Path) -> Iterator[Path]:
        """The groups from ``path`` to ``top``; ``top`` alone where the path is none here, as in a container
        that is told the host's."""
        if path.is_dir() and ".." not in path.parts:
            while path != top and top in path.parents:
                yield path
                path = path.parent
        yield top

    def _enter(self, group: Path) -> None:
        """Put the process into the group; where the kernel says otherwise afterwards, that is no cap."""
        _write(group / "cgroup.procs", self._pid)
        if str(self._pid) not in (group / "cgroup.procs").read_text().split():
            raise OSError(errno.ENOTSUP, "the process did not go into the group", str(group))

    def _make(self, parent: Path) -> Path:
        _sweep(parent)
        group = parent / self._name
        group.mkdir()
        self._groups.append(group)
        return group

    def _remove(self, group: Path) -> None:
        deadline = time.monotonic() + _REMOVE_WITHIN_S
        while True:
            try:
                # A group with a living process cannot be removed; a dying one leaves by itself.
                for pid in (group / "cgroup.procs").read_text().split():
                    _write(group.parent / "cgroup.procs", pid)
                group.rmdir()
                return
            except FileNotFoundError:
                return
            except OSError as error:
                if time.monotonic() > deadline:
                    self._notes.append(f"The cgroup {group} was left behind: {error.strerror}.")
                    return
                time.sleep(0.02)


def _sweep(parent: Path) -> None:
    """Remove the groups of edges whose parent was killed: they are empty, and their process is gone."""
    for group in parent.glob(f"{_PREFIX}*-*"):
        pid = group.name.removeprefix(_PREFIX).partition("-")[0]
        if not pid.isdigit() or psutil.pid_exists(int(pid)):
            continue
        with suppress(OSError):  # somebody is in it, or it is not ours
            group.rmdir()


def _set(path: Path, value: int | str) -> None:
    """Write a limit and read it back: some systems take any and keep none.

    Raises:
        OSError: what is kept is not what was written; a number of bytes, to a page.
    """
    _write(path, value)
    kept = path.read_text().strip()
    if isinstance(value, int) and kept.isdecimal():
        held = abs(int(kept) - value) < mmap.PAGESIZE
    else:
        held = kept.split() == str(value).split()
    if not held:
        raise OSError(errno.ENOTSUP, f"it keeps {kept} instead of {value}", str(path))


def _limit(group: Path, controller: Controller, *, unified: bool) -> float | None:
    """Cores or bytes that a group allows what is in it; ``None``: it has no limit."""
    try:
        if controller == "memory":
            name = "memory.max" if unified else "memory.limit_in_bytes"
            words = [(group / name).read_text().strip()]
        elif unified:
            words = (group / "cpu.max").read_text().split()
        else:
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            words = [(group / name).read_text().strip() for name in names]
    except OSError:
        return None  # the root of a hierarchy has no limits, nor files for them
    if not words or not all(word.isdecimal() for word in words):
        return None  # "max", or -1
    limit, *period = map(int, words)
    return limit / period[0] if period else float(limit)


def _write(path: Path, value: object) -> None:
    # Without O_CREAT: a control file the kernel does not offer is an error, never a new file.
    handle = os.open(path, os.O_WRONLY)
    try:
        os.write(handle, str(value).encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        os.close(handle)
