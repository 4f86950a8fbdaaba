"""Policies beside their rivals at the same budget: who is better, at once cheaper, faster and nearer the cloud.

A rival is compared with a policy where it takes no more of the cloud, or no more time; of each family (all
cascades, say, whatever their threshold) the one that closes most of the gap there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from edgecloud.results.frontier import Measures, known, mean
from edgecloud.results.statistics import Interval, mean_difference, mean_ratio

__all__ = [
    "AT_ONCE",
    "PLAIN",
    "Contest",
    "Leader",
    "by_lot",
    "contests",
    "leaders",
    "mixed",
    "oracles",
]

PLAIN = ("rival", "baseline")
"""Roles, in a sweep, of what anybody would try first."""
AT_ONCE = 0.02
"""Budgets are equal within this share of the cloud's busy time, or of the rival's time; and qualities are where
the paired difference of gaps surely exceeds the negative of it."""
_SHARES = (0.2, 0.4, 0.6)
_CLOUD_BUDGETS = (0.25, 0.5, 0.65, 0.8, 1.0)
_TIME_BUDGETS = (0.25, 0.65, 0.9, 1.0, 1.1)
Budget = Literal["cloud", "time"]
Verdict = Literal["lost", "trade", "won"]
Lead = Literal["lost", "even", "won"]


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


@dataclass(frozen=True, slots=True)
class Leader:
    """Who closes most of the gap within a budget of the ``cloud`` (its busy time over the cloud's alone) and of
    ``time`` (over the edge's alone): the best ``own`` policy, the best ``rival``, and the part of the gap that own
    closes less the rival's, paired by sample. ``None``: nothing stays within both.

    It is ``won`` or ``lost`` where the interval leaves no doubt, or one side has nothing; else ``even``.
    """

    cloud: float
    time: float
    own: str | None
    rival: str | None
    gap: Interval | None
    verdict: Lead

    def to_json(self) -> dict[str, Any]:
        """As a row of a frontier's block."""
        return asdict(self)


def leaders(
    own: Mapping[str, Measures], rivals: Mapping[str, Measures], edge: Measures, cloud: Measures
) -> list[Leader]:
    """The leaders of ``own`` policies and of ``rivals`` at each budget at which there is one. Rivals are edge and cloud
    alone, too, and a router by lot that sends as many captions to the cloud as the budget lets it."""
    known_rivals = {"edge alone": edge, "cloud alone": cloud, **rivals}
    closed = {id(run): _closed(run, edge, cloud) for run in (*own.values(), *known_rivals.values())}

    def best(runs: Mapping[str, Measures], cloud_share: float, time_share: float) -> str | None:
        within = [
            name
            for name, run in runs.items()
            if mean(run.busy_s) <= cloud_share * mean(cloud.busy_s)
            and mean(run.total_s) <= time_share * mean(edge.total_s)
        ]
        return max(
            within,
            key=lambda name: (closed[id(runs[name])], -mean(runs[name].total_s)),
            default=None,
        )

    found = []
    for cloud_share in _CLOUD_BUDGETS:
        theirs = dict(known_rivals)
        if cloud_share < 1.0:
            lot = by_lot(edge, cloud, cloud_share)
            theirs[f"router by lot, {cloud_share:g} of the captions"] = lot
            closed[id(lot)] = _closed(lot, edge, cloud)
        for time_share in _TIME_BUDGETS:
            mine = best(own, cloud_share, time_share)
            rival = best(theirs, cloud_share, time_share)
            if mine is None and rival is None:
                continue
            gap = None
            if mine is not None and rival is not None:
                gap = _gap(own[mine], theirs[rival], edge, cloud)
            lead = _lead(mine, rival, gap)
            found.append(Leader(cloud_share, time_share, mine, rival, gap, lead))
    return found


def _lead(own: str | None, rival: str | None, gap: Interval | None) -> Lead:
    if gap is None:
        return "lost" if own is None else "won"
    if gap.low is not None and gap.low > 0.0:
        return "won"
    return "lost" if gap.high is not None and gap.high < 0.0 else "even"


def by_lot(edge: Measures, cloud: Measures, share: float) -> Measures:
    """What to expect of a router that sends a ``share`` of the captions, by lot, to the ``cloud``."""

    def expected(own: Sequence[float], theirs: Sequence[float]) -> tuple[float, ...]:
        return tuple(a + share * (b - a) for a, b in zip(own, theirs, strict=True))

    truth = zip(edge.attributes, cloud.attributes, strict=True)
    return replace(
        cloud,
        total_s=expected(edge.total_s, cloud.total_s),
        busy_s=expected(edge.busy_s, cloud.busy_s),
        quality=expected(edge.quality, cloud.quality),
        attributes=tuple(None if a is None or b is None else a + share * (b - a) for a, b in truth),
    )


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
    gap = _gap(own, rival, edge, cloud)
    time = mean_ratio(own.total_s, rival.total_s)
    busy = (mean(own.busy_s) - mean(rival.busy_s)) / mean(cloud.busy_s)
    return Contest(budget, family, name, busy, time, gap, _verdict(busy, time, gap))


def _gap(own: Measures, rival: Measures, edge: Measures, cloud: Measures) -> Interval:
    """The part of the gap that ``own`` closes less that of ``rival``, paired by sample."""
    low, mine, theirs, high = _quality(edge, own, rival, cloud)
    whole = (mean(high) - mean(low)) or 1.0
    return mean_difference([value / whole for value in mine], [value / whole for value in theirs])


def _verdict(busy: float, time: Interval, gap: Interval) -> Verdict:
    if None in (time.estimate, time.high, gap.estimate, gap.low):
        return "trade"
    if busy >= -AT_ONCE and time.estimate >= 1.0 and gap.estimate <= 0.0:  # type: ignore[operator]
        return "lost"
    if busy <= AT_ONCE and time.high < 1.0 and gap.low > -AT_ONCE:  # type: ignore[operator]
        return "won"
    return "trade"
