"""Memory that a process may still take: of the machine, and of the groups that it is in. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil

from edgecloud.hardware.cgroups import CGROUP_ROOT

__all__ = ["free_memory"]

_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = ("memory.max", "memory.current", "inactive_file")


def free_memory(*, root: Path = CGROUP_ROOT, proc: Path = Path("/proc")) -> int:
    """Bytes that this process can still take: the least of what the machine has available and of what
    each cgroup above it has left, its limit minus its usage. Pages of files that the system gives up
    when asked are no usage. A container's or a batch job's limit is such a group's."""
    free = int(psutil.virtual_memory().available)
    for group, (limit, usage, idle) in _groups(root, proc):
        most, used = _number(group / limit), _number(group / usage)
        if most is not None and used is not None:
            free = min(free, max(0, most - used + _counted(group / "memory.stat", idle)))
    return free


def _groups(root: Path, proc: Path) -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """The groups that limit this process's memory, from its own up, with the names of their files."""
    try:
        lines = (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    paths = {tuple(line.split(":", 2)[1].split(",")): line.split(":", 2)[2] for line in lines}
    for controllers, path in paths.items():
        if controllers == ("",):
            hierarchy, names = root, _V2
        elif "memory" in controllers:
            hierarchy, names = root / "memory", _V1
        else:
            continue
        group = hierarchy / path.lstrip("/")
        # In a container the path may be the host's: then the container's own group is the root.
        if not group.is_dir() or hierarchy not in (group, *group.parents):
            group = hierarchy
        while True:
            yield group, names
            if group == hierarchy:
                break
            group = group.parent


def _number(path: Path) -> int | None:
    """None where there is no such file, or no limit ("max")."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def _counted(path: Path, name: str) -> int:
    try:
        found = dict(line.split() for line in path.read_text(encoding="ascii").splitlines())
        return int(found.get(name, 0))
    except (OSError, ValueError):
        return 0
