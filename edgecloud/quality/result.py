"""The value that every metric returns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

__all__ = ["MetricResult", "finite", "mean", "of_samples", "undefined"]


@dataclass(frozen=True, slots=True)
class MetricResult:
    """One or more named values of the corpus, and of each sample in the order given.

    ``None`` means that the value is not defined; ``notes`` holds the reason under the value's name.
    ``info`` is of the metric as a whole: what a reader needs to know which numbers compare.
    """

    corpus: Mapping[str, float | None]
    per_sample: tuple[Mapping[str, float | None], ...]
    notes: Mapping[str, str] = field(default_factory=dict)
    info: Mapping[str, str] = field(default_factory=dict)


def finite(value: float) -> float | None:
    """A plain ``float`` for JSON: numpy's scalars are converted, what is not finite is ``None``."""
    plain = float(value)
    return plain if math.isfinite(plain) else None


def mean(values: Sequence[float | None]) -> float | None:
    """The mean of the values there are; ``None`` when there is none."""
    present = [value for value in values if value is not None]
    return fmean(present) if present else None


def undefined(names: Sequence[str], count: int, reason: str) -> MetricResult:
    """Nothing but ``None`` for ``count`` samples, with the reason under every name."""
    nothing: Mapping[str, float | None] = dict.fromkeys(names)
    return MetricResult(nothing, (nothing,) * count, dict.fromkeys(names, reason))


def of_samples(
    name: str, values: Sequence[float | None], *, notes: Mapping[str, str] | None = None
) -> MetricResult:
    """A metric of one value that each sample has; that of the corpus is their mean."""
    return MetricResult(
        {name: mean(values)}, tuple({name: value} for value in values), dict(notes or {})
    )
