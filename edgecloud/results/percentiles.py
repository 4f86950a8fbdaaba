"""Percentiles and summaries of a run's values. Standard library only: whoever reads results needs no more."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

__all__ = ["drift", "percentile", "summarize"]

_SMALLEST_FOR_P99 = 100


def percentile(values: Sequence[float], q: float) -> float:
    """The ``q``-th percentile (0..100), interpolated linearly. ``values`` must not be empty.

    >>> percentile([1.0, 2.0, 3.0, 4.0], 50)
    2.5
    """
    ordered = sorted(values)
    place = (len(ordered) - 1) * q / 100
    below = int(place)
    low, high = ordered[below], ordered[min(below + 1, len(ordered) - 1)]
    part = place - below
    # From the nearer end, so that it is never beyond the other.
    return low + (high - low) * part if part < 0.5 else high - (high - low) * (1 - part)


def summarize(
    values: Sequence[float | None], name: str
) -> tuple[dict[str, float | None], dict[str, str]]:
    """``name_mean``, ``_min``, ``_max``, ``_p50``, ``_p90``, ``_p99`` and why any of them is ``None``.

    Missing values are left out. The 99th percentile needs 100 values.
    """
    known = [float(value) for value in values if value is not None]
    keys = [f"{name}_{statistic}" for statistic in ("mean", "min", "max", "p50", "p90", "p99")]
    if not known:
        return dict.fromkeys(keys), dict.fromkeys(keys, "no sample has a value")
    p99 = percentile(known, 99) if len(known) >= _SMALLEST_FOR_P99 else None
    mean = min(max(fmean(known), min(known)), max(known))
    numbers = (mean, min(known), max(known), percentile(known, 50), percentile(known, 90), p99)
    reasons = {}
    if p99 is None:
        reasons[f"{name}_p99"] = f"needs {_SMALLEST_FOR_P99} samples, there are {len(known)}"
    return dict(zip(keys, numbers, strict=True)), reasons


def drift(values: Sequence[float]) -> dict[str, float | int | None]:
    """Drift of a run's speed: the median of the second half of ``values``
    over that of the first, in the order they were measured; ``None`` under 8 values, or where the first
    half's is 0.

    >>> drift([1.0, 1.0, 1.0, 1.0, 1.5, 1.5, 1.5, 1.5])
    {'second_half_over_first': 1.5, 'n': 8}
    """
    half = len(values) // 2
    if len(values) < 8:
        return {"second_half_over_first": None, "n": len(values)}
    first = percentile(values[:half], 50)
    ratio = percentile(values[half:], 50) / first if first else None
    return {"second_half_over_first": ratio, "n": len(values)}
