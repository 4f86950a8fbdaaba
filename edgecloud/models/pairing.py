"""Whether two models can decode together, and what differs when they cannot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["differences"]

_SHOWN = 4
"""Settings of one part that a message names; of the others it says how many."""


def differences(edge: Mapping[str, Any], cloud: Mapping[str, Any]) -> list[str]:
    """What differs between two :meth:`edgecloud.models.processor.Processor.shared`, in words.

    >>> differences({"family": "a", "audio": {"n_fft": 400}}, {"family": "a", "audio": {"n_fft": 512}})
    ['audio: n_fft is 400 on the edge, 512 in the cloud']
    """
    found = []
    for part in {**edge, **cloud}:
        one, other = edge.get(part), cloud.get(part)
        if one == other:
            continue
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found.append(f"{part}: {_entries(one, other)}")
        elif part == "chat template":
            found.append("the chat templates differ")
        else:
            found.append(f"{part}: {_both(one, other)}")
    return found


def _entries(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    told = [name for name in names if name != "sha256"]
    if not told:
        return "as many entries, but other ones"
    said = [f"{name} is {_both(one.get(name), other.get(name))}" for name in told[:_SHOWN]]
    more = len(told) - _SHOWN
    return ", ".join(said) + (f", and {more} more" if more > 0 else "")


def _both(one: Any, other: Any) -> str:
    return f"{_one(one)} on the edge, {_one(other)} in the cloud"


def _one(value: Any) -> str:
    return "absent" if value is None else str(value)
