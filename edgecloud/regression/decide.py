"""One quantity of one benchmark on both sides: is it worse?

Modelled times are exact, so their totals are compared as they are. Wall times are compared by the
interval of the median ratio: paired by sample where both sides name their samples. A row is worse when
its whole interval is beyond the tolerance, the same when its whole interval is within, else undecided.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist, fmean, median
from typing import Literal

from edgecloud.regression.model import Benchmark, Check, Series, Summary, Verdict
from edgecloud.regression.tolerances import Policy
from edgecloud.results.percentiles import percentile

__all__ = ["Comparison", "decide", "pair", "row_level"]

Way = Literal["exact", "paired", "unpaired", "summary", "corpus"]
"""``corpus``: one value of all samples on each side, where texts differ by chance."""

_ROUNDING = 1e-9
"""Relative error of baselines that are kept to ten digits."""
_DECIDED = 0.95
"""Of runs with as many more rounds as a verdict names, the share that would be decided."""
_MOST_ROUNDS = 100_000
"""More are never asked for; of a row that has more, this many, evenly spread, are looked at."""
_SE_OF_MEDIAN = math.sqrt(math.pi / 2) / 1.349
"""Standard error of a median, of normal noise, in interquartile ranges over the root of n."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Values of both sides; in the same order of samples when ``way`` is exact or paired.

    ``alike`` marks, for an exact comparison, the samples whose tokens are the same on both sides.
    """

    benchmark: Benchmark
    what: str
    is_score: bool
    way: Way
    old: Sequence[float]
    new: Sequence[float]
    alike: Sequence[bool] | None = None
    summaries: tuple[Summary, Summary] | None = None

    @property
    def may_alarm(self) -> bool:
        """True when chance could make it worse: not where values are exact, or equal."""
        return self.way not in ("exact", "corpus") and list(self.old) != list(self.new)


def pair(
    what: str,
    old: Series | Summary,
    new: Series | Summary,
    *,
    benchmark: Benchmark,
    is_score: bool,
    way: Literal["exact", "paired", "corpus"],
    leave_out: frozenset[str],
    alike: frozenset[str],
) -> Comparison | None:
    """Both sides of a quantity put together; ``None`` when no sample has it on both sides."""
    if isinstance(old, Summary) or isinstance(new, Summary):
        both = (_summary(old), _summary(new))
        return Comparison(
            benchmark, what, is_score, "summary", [both[0].median], [both[1].median], summaries=both
        )
    before, after = old.by_id(), new.by_id()
    if not before or not after:
        return Comparison(benchmark, what, is_score, "unpaired", old.values, new.values)
    shared = [name for name in before if name in after and name not in leave_out]
    if not shared:
        return None
    return Comparison(
        benchmark,
        what,
        is_score,
        way,
        [before[name] for name in shared],
        [after[name] for name in shared],
        [name in alike for name in shared],
    )


def row_level(level: float, rows: int) -> float:
    """The level of each of ``rows`` intervals so that all hold together at ``level`` (Bonferroni).

    >>> round(row_level(0.95, 5), 4)
    0.99
    """
    return 1.0 - (1.0 - level) / max(rows, 1)


def decide(comparison: Comparison, policy: Policy, *, level: float) -> Check:
    """The verdict, with interval at ``level``."""
    if comparison.is_score:
        return _score(comparison, policy, level)
    if comparison.way == "exact":
        return _exact_time(comparison, policy)
    return _wall_time(comparison, policy, level)


def _exact_time(found: Comparison, policy: Policy) -> Check:
    tolerance = policy.modelled_tolerance
    old, new = math.fsum(found.old), math.fsum(found.new)
    change = _relative(old, new)
    # A sample with the same tokens on both sides has no excuse to be slower.
    slower = [
        (before, after)
        for before, after, alike in zip(
            found.old, found.new, found.alike or [True] * len(found.old), strict=True
        )
        if alike and after > before * (1.0 + tolerance + _ROUNDING) + _ROUNDING
    ]
    message, verdict = "", _exact_verdict(change, tolerance)
    if verdict == "regression":
        message = f"{_percent(change)} in total, tolerance {tolerance:.2%}"
    elif slower:
        verdict = "regression"
        worst = max(_relative(*both) for both in slower)
        message = (
            f"{len(slower)} of {len(found.new)} samples with the same tokens are slower, "
            f"the worst by {_percent(worst)}, tolerance {tolerance:.2%}"
        )
    return Check(
        found.benchmark.name,
        found.what,
        verdict,
        message,
        baseline=old / len(found.old),
        new=new / len(found.new),
        change=_percent(change),
        interval="exact",
        n=len(found.new),
        source=found.benchmark.source,
    )


def _exact_verdict(change: float, tolerance: float) -> Verdict:
    if change > tolerance + _ROUNDING:
        return "regression"
    return "better" if change < -tolerance - _ROUNDING else "same"


def _wall_time(found: Comparison, policy: Policy, level: float) -> Check:
    estimate, interval, n = _log_ratio(found, policy, level)
    check = Check(
        found.benchmark.name,
        found.what,
        "undecided",
        baseline=median(found.old),
        new=median(found.new),
        n=n,
        source=found.benchmark.source,
    )
    if estimate is None and n >= policy.wall_min_samples:
        return replace(check, message="a time of 0 s has no ratio")
    if estimate is None or interval is None:
        return _too_few(check, policy, policy.wall_min_samples - n)
    low, high = interval
    allowed = policy.wall_tolerance_of(found.benchmark.name)
    limit = math.log1p(allowed)
    more = _more(n, estimate, interval, limit, level=level, least=policy.wall_min_samples)
    if n < policy.wall_min_samples:
        check = replace(check, change=_percent(math.expm1(estimate)))
        return _too_few(check, policy, more or policy.wall_min_samples - n)
    tolerance = f"tolerance {allowed:.1%}"
    verdict: Verdict = "same"
    message = "noise" if low <= 0.0 <= high and low < high else ""
    if low > limit:
        verdict, message = "regression", f"at least {_percent(math.expm1(low))}, {tolerance}"
    elif high < -limit:
        verdict, message = "better", ""
    elif high > limit:
        verdict = "undecided"
        message = f"{_percent(math.expm1(high))} is not excluded, {tolerance}; {_would(more)}"
    return replace(
        check,
        verdict=verdict,
        message=message,
        change=_percent(math.expm1(estimate)),
        interval=f"{_percent(math.expm1(low))} … {_percent(math.expm1(high))}",
        more=more if verdict == "undecided" else None,
    )


def _too_few(check: Check, policy: Policy, more: int | None) -> Check:
    message = f"{check.n} are too few to tell (min_samples is {policy.wall_min_samples})"
    return replace(check, message=f"{message}; {_would(more)}", more=more)


def _would(more: int | None) -> str:
    if more is None:
        return "no number of rounds would decide: it lies at the tolerance itself"
    return f"about {more} more round{'' if more == 1 else 's'} on each side would decide"


def _more(
    n: int,
    estimate: float,
    interval: tuple[float, float],
    limit: float,
    *,
    level: float,
    least: int,
) -> int | None:
    """Number of further rounds that would leave the limit outside the interval; ``None`` for no sane number.

    An interval is as wide as one over the root of its rounds. Were the estimate the truth, then of the
    runs of that many rounds nineteen in twenty would be decided; so much room is left for their own chance.
    A few noisy rounds may lie at the limit by chance: as long as their interval could not tell no change from the
    limit, it is taken to lie as far from it as no change does. ``least`` rounds are needed in any case.
    """
    low, high = interval
    half = estimate - low if estimate > limit else high - estimate
    room = 1.0 + NormalDist().inv_cdf(_DECIDED) / NormalDist().inv_cdf(0.5 + level / 2)
    distance = abs(estimate - limit)
    if room * half > limit:
        distance = max(distance, limit)
    if room * half * math.sqrt(n) >= distance * math.sqrt(_MOST_ROUNDS):
        return None
    return max(math.ceil(n * (room * half / distance) ** 2), least, n + 1) - n


def _log_ratio(
    found: Comparison, policy: Policy, level: float
) -> tuple[float | None, tuple[float, float] | None, int]:
    """Estimate and interval of the log of the typical ratio, and the number of samples behind it."""
    if found.summaries is not None:
        return _summary_ratio(*found.summaries, level)
    if found.way == "paired":
        both = zip(found.old, found.new, strict=True)
        ratios = [math.log(new / old) for old, new in both if old > 0 and new > 0]
        if len(ratios) < 2:
            return None, None, len(ratios)
        return median(ratios), _interval("median", ratios, policy, level), len(ratios)
    old, new = (
        _thin([math.log(time) for time in side if time > 0]) for side in (found.old, found.new)
    )
    n = min(len(old), len(new))
    if n < 2:
        return None, None, n
    ends = _interval("two medians", new, policy, level, old)
    return median(new) - median(old), ends, n


def _interval(
    of: Literal["median", "mean", "two medians"],
    values: Sequence[float],
    policy: Policy,
    level: float,
    others: Sequence[float] = (),
) -> tuple[float, float]:
    """Ends of a bootstrap interval. Only here numpy is needed, and it is loaded here."""
    import numpy as np

    from edgecloud.regression import intervals

    rows, resamples = np.array(values), policy.wall_resamples
    if of == "two medians":
        low, high = intervals.two_medians_interval(
            rows, np.array(others), level=level, resamples=resamples
        )
    else:
        interval = intervals.median_interval if of == "median" else intervals.mean_interval
        low, high = interval(rows, level=level, resamples=resamples)
    return float(low), float(high)


def _summary_ratio(
    old: Summary, new: Summary, level: float
) -> tuple[float | None, tuple[float, float] | None, int]:
    n = min(old.n, new.n)
    if old.median <= 0 or new.median <= 0:
        return None, None, n
    estimate = math.log(new.median / old.median)
    errors = (_SE_OF_MEDIAN * side.iqr / side.median / math.sqrt(side.n) for side in (old, new))
    half = NormalDist().inv_cdf(0.5 + level / 2) * math.hypot(*errors)
    return estimate, (estimate - half, estimate + half), n


def _score(found: Comparison, policy: Policy, level: float) -> Check:
    tolerance = policy.loss_of(found.what, found.benchmark.name)
    difference = [new - old for old, new in zip(found.old, found.new, strict=True)]
    # Below, what is gained: a change times this.
    sign = policy.sign_of(found.what)
    mean, n = fmean(difference), len(difference)
    check = Check(
        found.benchmark.name,
        found.what,
        "undecided",
        baseline=fmean(found.old),
        new=fmean(found.new),
        change=f"{mean:+.4f}".replace("-0.0000", "+0.0000"),
        n=n,
        source=found.benchmark.source,
    )
    if found.way == "corpus":
        if mean == 0.0:
            return replace(check, verdict="same")
        message = "texts differ, and one value of the whole corpus has no interval"
        return replace(check, message=message)
    low = high = gain = mean * sign
    if found.way != "exact":
        if n < 2:
            return _too_few(check, policy, policy.wall_min_samples - n)
        low, high = _interval("mean", [sign * change for change in difference], policy, level)
        # As a gain, so that a limit lies above it as with times.
        more = _more(n, -gain, (-high, -low), tolerance, level=level, least=policy.wall_min_samples)
        if n < policy.wall_min_samples:
            return _too_few(check, policy, more or policy.wall_min_samples - n)
    verdict: Verdict = "same"
    message = "noise" if low <= 0.0 <= high and low < high else ""
    of_change = sorted((low * sign, high * sign))
    if high < -tolerance - _ROUNDING:
        verdict, message = "regression", f"lost at least {-high:.4g}, tolerance {tolerance:g}"
    elif low > tolerance:
        verdict, message = "better", ""
    elif low < -tolerance - _ROUNDING:
        verdict = "undecided"
        message = f"a loss of {-low:.4g} is not excluded, tolerance {tolerance:g}; {_would(more)}"
    return replace(
        check,
        verdict=verdict,
        message=message,
        interval="exact" if found.way == "exact" else "{:+.4f} … {:+.4f}".format(*of_change),
        more=more if verdict == "undecided" else None,
    )


def _relative(old: float, new: float) -> float:
    if old == new:
        return 0.0
    return math.inf if old <= 0 else new / old - 1.0


def _percent(change: float) -> str:
    return "from nothing" if math.isinf(change) else f"{change:+.2%}".replace("-0.00%", "+0.00%")


def _thin(values: list[float]) -> list[float]:
    if len(values) <= _MOST_ROUNDS:
        return values
    step = (len(values) - 1) / (_MOST_ROUNDS - 1)
    return [values[int(place * step)] for place in range(_MOST_ROUNDS)]


def _summary(values: Series | Summary) -> Summary:
    if isinstance(values, Summary):
        return values
    low, middle, high = (percentile(values.values, q) for q in (25, 50, 75))
    return Summary(middle, high - low, len(values.values))
