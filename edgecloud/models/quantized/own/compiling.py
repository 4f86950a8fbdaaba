"""numba's compiler, with a cache that follows all sources of this folder.

numba keeps machine code beside the file of a function until that very file changes. A kernel's code holds
the functions it calls in other files too, so a change of those would leave it stale.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit

__all__ = ["compiled", "releasing", "summing"]


def _sources() -> str:
    """SHA-256 of the names and contents of all sources of this folder."""
    found = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        found.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


_SOURCES = _sources()


def _compiler(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """A decorator: ``njit`` with these ``options``, its cache keyed by the sources as well."""

    def compile_lazily(function: Callable[..., Any]) -> Any:
        made = njit(error_model="numpy", cache=True, **options)(function)
        # numba has no public way to add to the stamp that says whether what it kept still holds.
        kept = made._cache._cache_file
        kept._source_stamp = (kept._source_stamp, _SOURCES)
        return made

    return compile_lazily


compiled = _compiler()
"""Compiled once and kept; a division by zero gives infinity, as in numpy."""
releasing = _compiler(nogil=True)
"""The same without the global interpreter lock, for functions that several threads run at once."""
summing = _compiler(fastmath={"reassoc", "contract", "nsz"})
"""The same for sums that a vector may take in an order of its own."""
