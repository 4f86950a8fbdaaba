"""What is installed in another version than a file of constraints pins, a line each: ``python -m bench.newer FILE``."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["differing"]


def differing(constraints: str) -> list[str]:
    """``name pinned -> installed`` for each pin ``name==version`` that another version stands in for. Packages that
    are not installed are left out, and so are local parts of versions (``+cpu``).

    >>> differing("pytest==0.1\\n# a remark\\nnobody-has-this==1.0")[0].startswith("pytest 0.1 -> ")
    True
    """
    found = []
    for line in constraints.splitlines():
        name, pinned, wanted = line.partition("==")
        if not pinned or name.startswith("#"):
            continue
        try:
            installed = version(name)
        except PackageNotFoundError:
            continue
        if installed.partition("+")[0] != wanted:
            found.append(f"{name} {wanted} -> {installed}")
    return found


if __name__ == "__main__":
    for told in differing(Path(sys.argv[1]).read_text(encoding="utf-8")):
        print(told)  # noqa: T201 - its job
