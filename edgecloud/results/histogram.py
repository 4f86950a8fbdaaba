"""Histograms of seconds over fixed bins, so that any two of them compare bin by bin."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from edgecloud.results.numbers import Amount, Count

__all__ = ["EDGES_S", "Histogram", "histogram"]

_DECADES = range(-4, 3)
_PER_DECADE = 10

EDGES_S: tuple[float, ...] = (
    *(
        float(f"{10 ** (decade + step / _PER_DECADE):.4g}")
        for decade in _DECADES
        for step in range(_PER_DECADE)
    ),
    1000.0,
)
"""Edges in seconds: ten to a decade from 0.1 ms to 1000 s. Frozen: changing them makes earlier
histograms incomparable."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of seconds by bin: ``counts[i]`` values lie in ``edges_s[i] <= value < edges_s[i + 1]``; ``below``
    and ``above`` hold the rest."""

    edges_s: tuple[Amount, ...]
    counts: tuple[Count, ...]
    below: Count
    above: Count


def histogram(values_s: Iterable[float | None]) -> Histogram:
    """Counts of ``values_s`` over :data:`EDGES_S`; missing values are left out."""
    counts = [0] * (len(EDGES_S) + 1)
    for value in values_s:
        if value is not None:
            counts[bisect_right(EDGES_S, value)] += 1
    return Histogram(EDGES_S, tuple(counts[1:-1]), below=counts[0], above=counts[-1])
