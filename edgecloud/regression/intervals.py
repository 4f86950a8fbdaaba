"""Bootstrap intervals of many rows at once.

The location is the median: with rare outliers of 4× the mean of log ratios misses a 20% slowdown in
nearly every second run, the median in none of thousands.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["mean_interval", "median_interval", "two_medians_interval"]

Floats = NDArray[np.float64]
_SEED = 0
_NUMBERS_AT_ONCE = 2_000_000


def median_interval(rows: Floats, *, level: float, resamples: int) -> tuple[Floats, Floats]:
    """Ends of the interval of the median over the last axis: two arrays ``rows.shape[:-1]``."""
    return _interval((rows,), _median, level=level, resamples=resamples)


def mean_interval(rows: Floats, *, level: float, resamples: int) -> tuple[Floats, Floats]:
    """Ends of the interval of the mean over the last axis."""
    return _interval((rows,), _mean, level=level, resamples=resamples)


def two_medians_interval(
    new: Floats, old: Floats, *, level: float, resamples: int
) -> tuple[Floats, Floats]:
    """Ends of the interval of ``median(new) - median(old)``, whose samples do not pair."""

    def difference(a: Floats, b: Floats, axis: int = -1) -> Floats:
        return _median(a, axis) - _median(b, axis)

    return _interval((new, old), difference, level=level, resamples=resamples)


def _interval(
    data: tuple[Floats, ...], statistic: Callable[..., Floats], *, level: float, resamples: int
) -> tuple[Floats, Floats]:
    """The percentile interval of ``statistic`` over samples drawn anew, of each of ``data`` on its own."""
    rng = np.random.default_rng(_SEED)
    at_once = max(1, _NUMBERS_AT_ONCE // max(column.size for column in data))
    found = []
    for begin in range(0, resamples, at_once):
        count = min(at_once, resamples - begin)
        drawn = []
        for column in data:
            n = column.shape[-1]
            drawn.append(column[..., rng.integers(0, n, size=(count, n))])
        found.append(statistic(*drawn, axis=-1))
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(np.concatenate(found, axis=-1), [tail, 100.0 - tail], axis=-1)
    return low, high


def _median(rows: Floats, axis: int = -1) -> Floats:
    """As ``np.median``, and three times as fast: sorting short rows is vectorised."""
    ordered = np.moveaxis(np.sort(rows, axis=axis), axis, -1)
    n = ordered.shape[-1]
    middle: Floats = (ordered[..., (n - 1) // 2] + ordered[..., n // 2]) / 2
    return middle


def _mean(rows: Floats, axis: int = -1) -> Floats:
    return np.asarray(np.mean(rows, axis=axis))
