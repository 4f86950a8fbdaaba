"""Summaries over samples, and comparisons of two runs of the same samples.

Every interval is a percentile bootstrap over samples: pairs are drawn together, so what makes one
sample slow or hard in both runs cancels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "RESAMPLES",
    "Interval",
    "gap_closed",
    "mean_difference",
    "mean_ratio",
    "median_log_ratio",
]

RESAMPLES = 2000
_ROWS_AT_ONCE = 64
"""Resamples drawn at once: what they take stays in the processor's caches."""
_MOST_SHARED = 1 << 14
"""Of up to so many samples the resamples drawn last are kept, in 64 MB at most: drawing them takes twice as long as what
is done with them, and intervals over as many samples draw the same ones."""
_MOST_KEPT = 4096
"""Intervals that are remembered, by what they are of: a report asks for each about three times."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its bootstrap interval at ``level``, over ``n`` paired samples.

    ``estimate`` is ``None`` when it is not defined, and ``reason`` says why; ``low`` and ``high`` are
    ``None`` too when there is no interval.
    """

    estimate: float | None
    low: float | None
    high: float | None
    n: int
    level: float = 0.95
    reason: str | None = None

    @property
    def detectable(self) -> float | None:
        """Half the interval's width: about the least difference that is told from none when as many samples are drawn
        anew. ``None`` without an interval, or where all samples differ alike but for rounding."""
        if self.low is None or self.high is None or self.high - self.low < 1e-9:
            return None
        return (self.high - self.low) / 2

    @property
    def includes_zero(self) -> bool:
        """True when a difference of nothing is inside; ``True`` when there is no interval."""
        return self.low is None or self.high is None or self.low <= 0.0 <= self.high


def mean_difference(
    values: Sequence[float], baseline: Sequence[float], *, seed: int = 0, level: float = 0.95
) -> Interval:
    """Mean of ``values[i] - baseline[i]``, in their unit."""
    first, second = _paired(values, baseline)
    return _bootstrap([first - second], _mean, seed, level)


def median_log_ratio(
    values: Sequence[float], baseline: Sequence[float], *, seed: int = 0, level: float = 0.95
) -> Interval:
    """Median of ``log(values[i] / baseline[i])``; ``exp`` of it is the typical factor.

    Of the tests tried on noisy times, this one raises no false alarms and misses no +20%.
    """
    a, b = _paired(values, baseline)
    usable = (a > 0) & (b > 0)
    if not usable.any():
        return Interval(None, None, None, 0, level, "no pair of times above zero")
    ratio = np.log(a[usable] / b[usable])
    return _bootstrap([ratio], _median, seed, level)


def mean_ratio(
    values: Sequence[float], baseline: Sequence[float], *, seed: int = 0, level: float = 0.95
) -> Interval:
    """``mean(values) / mean(baseline)``, the two drawn together by sample; 0.5 is half.

    For exact times (the modelled clock's): measured ones have outliers, see :func:`median_log_ratio`.
    """
    a, b = _paired(values, baseline)
    if a.size and not np.mean(b):
        return Interval(None, None, None, int(a.size), level, "the baseline's mean is 0")
    return _bootstrap([a, b], _ratio, seed, level)


def gap_closed(
    edge: Sequence[float],
    spec: Sequence[float],
    cloud: Sequence[float],
    *,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """``(mean spec - mean edge) / (mean cloud - mean edge)`` of a quality, paired by sample.

    1 is the cloud's quality, 0 the edge's. ``None`` with a reason when the denominator's own interval
    includes 0: then there is no gap to close.
    """
    e, s = _paired(edge, spec)
    c = np.asarray(cloud, dtype=np.float64)
    _check_paired(e, c)
    gap = mean_difference(list(c), list(e), seed=seed, level=level)
    if gap.includes_zero:
        reason = "cloud and edge do not differ beyond the paired interval"
        return Interval(None, None, None, len(e), level, reason)
    return _bootstrap([s - e, c - e], _share, seed, level)


def _mean(rows: Sequence[Floats]) -> Floats:
    return np.asarray(np.mean(rows[0], axis=-1))


def _median(rows: Sequence[Floats]) -> Floats:
    return np.asarray(np.median(rows[0], axis=-1))


def _ratio(rows: Sequence[Floats]) -> Floats:
    found: Floats = np.mean(rows[0], axis=-1) / np.mean(rows[1], axis=-1)
    return found


def _share(rows: Sequence[Floats]) -> Floats:
    """As :func:`_ratio`; NaN where the denominator is 0."""
    above, below = np.mean(rows[0], axis=-1), np.mean(rows[1], axis=-1)
    result: Floats = np.full_like(above, np.nan)
    np.divide(above, below, out=result, where=below != 0)
    return result


def _paired(a: Sequence[float], b: Sequence[float]) -> tuple[Floats, Floats]:
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    _check_paired(first, second)
    return first, second


def _check_paired(a: Floats, b: Floats) -> None:
    if a.shape != b.shape:
        raise ValueError(f"paired values differ in number: {a.size} and {b.size}")


_KEPT: dict[bytes, Interval] = {}


def _bootstrap(
    columns: Sequence[Floats],
    statistic: Callable[[Sequence[Floats]], Floats],
    seed: int,
    level: float,
) -> Interval:
    """Percentile interval of ``statistic`` over columns ``(n,)`` whose rows are drawn together; that of the same
    columns is computed once."""
    about = hashlib.sha256(f"{statistic.__name__} {seed} {level!r} {len(columns)}".encode())
    for column in columns:
        about.update(column.tobytes())
    key = about.digest()
    if (found := _KEPT.get(key)) is None:
        if len(_KEPT) >= _MOST_KEPT:
            _KEPT.clear()
        found = _KEPT[key] = _interval(columns, statistic, seed, level)
    return found


def _interval(
    columns: Sequence[Floats],
    statistic: Callable[[Sequence[Floats]], Floats],
    seed: int,
    level: float,
) -> Interval:
    n = columns[0].size
    if n == 0:
        return Interval(None, None, None, 0, level, "no paired samples")
    estimate = float(statistic([column[np.newaxis] for column in columns])[0])
    if n == 1:
        return Interval(estimate, None, None, 1, level, "one sample gives no interval")
    blocks: Iterable[NDArray[Any]] = _shared(n, seed) if n <= _MOST_SHARED else _drawn(n, seed)
    if statistic is _median:
        found = [_medians(columns[0], blocks)]
    else:
        found = [statistic(rows) for rows in _taken(columns, blocks)]
    tail = (1.0 - level) / 2.0
    low, high = np.nanquantile(np.concatenate(found), [tail, 1.0 - tail])
    return Interval(estimate, float(low), float(high), n, level)


def _taken(columns: Sequence[Floats], blocks: Iterable[NDArray[Any]]) -> Iterator[list[Floats]]:
    """The values of each column in the resamples of each block; the arrays are the same ones each time."""
    room = [np.empty((_ROWS_AT_ONCE, column.size)) for column in columns]
    for drawn in blocks:
        rows = [own[: len(drawn)] for own in room]
        for column, into in zip(columns, rows, strict=True):
            # No index is beyond the column; "clip" alone writes into the array without another one between.
            np.take(column, drawn, mode="clip", out=into)
        yield rows


def _medians(column: Floats, blocks: Iterable[NDArray[Any]]) -> Floats:
    """The median of each resample, as ``np.median`` gives it: by the ranks of the values drawn, which are counted
    in a fifth of the time that partitioning the values takes."""
    n = column.size
    order = np.argsort(column, kind="stable")
    ranks = np.empty(n, np.intp)
    ranks[order] = np.arange(n)
    middle = [(n - 1) // 2, n // 2]
    places = [
        np.bincount(row, minlength=n).cumsum().searchsorted(middle, side="right")
        for drawn in blocks
        for row in np.take(ranks, drawn, mode="clip")
    ]
    found: Floats = np.mean(column[order][np.array(places)], axis=-1)
    return found


def _drawn(n: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """The samples in each resample of ``n``, some resamples at a time."""
    draw = np.random.default_rng(seed)
    for begin in range(0, RESAMPLES, _ROWS_AT_ONCE):
        yield draw.integers(0, n, size=(min(_ROWS_AT_ONCE, RESAMPLES - begin), n))


@lru_cache(maxsize=1)
def _shared(n: int, seed: int) -> tuple[NDArray[np.uint16], ...]:
    return tuple(block.astype(np.uint16) for block in _drawn(n, seed))
