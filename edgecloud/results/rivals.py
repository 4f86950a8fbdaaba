"""Policies beside their rivals at the same budget: who is better, at once cheaper, faster and nearer the cloud.

A rival is compared with a policy where it takes no more of the cloud, or no more time; of each family (all
cascades, say, whatever their threshold) the one that closes most of the gap there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from edgecloud.results.frontier import Measures, known, mean
from edgecloud.results.statistics import Interval, mean_difference, mean_ratio

__all__ = ["AT_ONCE", "Contest", "contests", "mixed", "oracles"]

AT_ONCE = 0.02
"""Budgets are equal within this share of the cloud's busy time, or of the rival's time; and qualities are where
the paired difference of gaps surely exceeds the negative of it."""
_SHARES = (0.2, 0.4, 0.6)
Budget = Literal["cloud", "time"]
Verdict = Literal["lost", "trade", "won"]


@dataclass(frozen=True, slots=True)
class Contest:
    """A policy beside a ``rival`` of a ``family``, at a budget of the ``cloud`` or of ``time``: its busy time less
    the rival's over the cloud's, its time over the rival's, and the part of the gap that it closes less the
    rival's, paired by sample.

    It has ``lost`` where the rival takes no more of the cloud and no more time and closes as much of the gap, by
    the estimates; and ``won`` where it takes no more of the cloud, surely less time, and surely closes as much
    but for :data:`AT_ONCE`.
    """

    budget: Budget
    family: str
    rival: str
    busy: float
    time: Interval
    gap: Interval
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        """As a row of a frontier's block."""
        return asdict(self)


def mixed(edge: Measures, cloud: Measures, chosen: Sequence[bool]) -> Measures:
    """Measures of captions of the ``cloud`` where ``chosen``, else of the ``edge``: decided before either began."""
    parts = []
    for field in fields(Measures):
        pairs = zip(getattr(edge, field.name), getattr(cloud, field.name), chosen, strict=True)
        parts.append(tuple(theirs if wanted else own for own, theirs, wanted in pairs))
    return Measures(*parts)


def oracles(edge: Measures, cloud: Measures) -> dict[str, Measures]:
    """What a router would reach that knew, before anything is computed, how good both captions are: where the
    cloud alone has all attributes right; and for shares of the captions those with the most CIDEr to gain.
    No policy can know that: an upper bound."""
    found: dict[str, list[bool]] = {}
    if known(edge, cloud):
        pairs = zip(edge.attributes, cloud.attributes, strict=True)
        found["oracle, attributes"] = [(theirs or 0) > (own or 0) for own, theirs in pairs]
    gains = [theirs - own for own, theirs in zip(edge.quality, cloud.quality, strict=True)]
    order = sorted(range(len(gains)), key=lambda place: -gains[place])
    for share in _SHARES:
        best = {place for place in order[: round(share * len(gains))] if gains[place] > 0}
        found[f"oracle, CIDEr, {share:g} of the captions"] = [
            place in best for place in range(len(gains))
        ]
    return {name: mixed(edge, cloud, chosen) for name, chosen in found.items()}


def contests(
    own: Measures,
    rivals: Mapping[str, Measures],
    edge: Measures,
    cloud: Measures,
) -> list[Contest]:
    """``own`` beside the best of each family of ``rivals`` at its budget of the cloud and of time; the family is a
    name's first word. All are over the same samples in the same order, ``edge`` and ``cloud`` the two alone."""
    families: dict[str, list[str]] = {}
    for name in rivals:
        families.setdefault(name.split(" ")[0].rstrip(","), []).append(name)
    found = []
    for family, names in families.items():
        for budget in get_args(Budget):
            within = [name for name in names if _within(budget, rivals[name], own, cloud)]
            if within:
                best = max(within, key=lambda name: (_closed(rivals[name], edge, cloud), name))
                found.append(_contest(budget, family, best, own, rivals[best], edge, cloud))
    return found


def _within(budget: Budget, rival: Measures, own: Measures, cloud: Measures) -> bool:
    if budget == "cloud":
        return mean(rival.busy_s) <= mean(own.busy_s) + AT_ONCE * mean(cloud.busy_s)
    return mean(rival.total_s) <= mean(own.total_s) * (1 + AT_ONCE)


def _quality(*runs: Measures) -> list[list[float]]:
    """Right attributes of each run where the truth is known, else CIDEr."""
    return known(*runs) or [list(run.quality) for run in runs]


def _closed(found: Measures, edge: Measures, cloud: Measures) -> float:
    low, own, high = map(mean, _quality(edge, found, cloud))
    return (own - low) / (high - low) if high != low else 0.0


def _contest(
    budget: Budget,
    family: str,
    name: str,
    own: Measures,
    rival: Measures,
    edge: Measures,
    cloud: Measures,
) -> Contest:
    low, mine, theirs, high = _quality(edge, own, rival, cloud)
    whole = (mean(high) - mean(low)) or 1.0
    gap = mean_difference([value / whole for value in mine], [value / whole for value in theirs])
    time = mean_ratio(own.total_s, rival.total_s)
    busy = (mean(own.busy_s) - mean(rival.busy_s)) / mean(cloud.busy_s)
    return Contest(budget, family, name, busy, time, gap, _verdict(busy, time, gap))


def _verdict(busy: float, time: Interval, gap: Interval) -> Verdict:
    if None in (time.estimate, time.high, gap.estimate, gap.low):
        return "trade"
    if busy >= -AT_ONCE and time.estimate >= 1.0 and gap.estimate <= 0.0:  # type: ignore[operator]
        return "lost"
    if busy <= AT_ONCE and time.high < 1.0 and gap.low > -AT_ONCE:  # type: ignore[operator]
        return "won"
    return "trade"
