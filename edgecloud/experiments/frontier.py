"""A sweep's points beside edge and cloud alone: the rows of the frontier's tables, page and plots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgecloud.errors import DataError, JournalError
from edgecloud.experiments.sweep import Point
from edgecloud.hardware.profiles import profile
from edgecloud.jsontypes import Mismatch
from edgecloud.results.comparable import (
    CROSSINGS,
    TIMING,
    Circumstances,
    Side,
    described,
    mismatches,
    of_journal,
)
from edgecloud.results.frontier import (
    Measures,
    Scored,
    bound_of,
    known,
    mean,
    measures,
    standing,
)
from edgecloud.results.journal import read
from edgecloud.results.rivals import PLAIN, contests, leaders, oracles
from edgecloud.results.statistics import Interval, mean_difference, mean_ratio

__all__ = ["frontier", "place_of"]

Json = dict[str, Any]


Place = tuple[str, str, str, str | None]
Swept = tuple[Point, Path, Mapping[str, Scored]]


def place_of(point: Point) -> Place:
    """Language, prompt type, hardware profile, link: what points are compared within."""
    config = replace(point, policy={}).config
    return (
        config.data.language,
        config.data.prompt_type,
        config.hardware.profile,
        config.hardware.link,
    )


def frontier(swept: Iterable[Swept]) -> list[Json]:
    """One block (JSON) for each place: its edge and cloud alone, and a row for each policy.

    A ratio of what does not compare is null, with the reason, unless the policy declares that it crosses
    there: then ``crossings`` of its row says what differs, by what it is compared with (``edge``, ``cloud``,
    ``against``).

    Raises:
        DataError: a place lacks edge or cloud, or no sample was completed by all.
        JournalError: a journal does not say what it ran on.
    """
    places: dict[Place, list[Swept]] = {}
    for found in swept:
        places.setdefault(place_of(found[0]), []).append(found)
    return [_block(place, found) for place, found in sorted(places.items(), key=repr)]


def _block(place: Place, found: Sequence[Swept]) -> Json:
    language, prompt_type, hardware, link = place
    journals = {path: read(path) for _, path, _ in found}
    scored = [set(quality) for _, _, quality in found]
    ids = sorted(set.intersection(*scored)) if scored else []

    def of(path: Path, quality: Mapping[str, Scored]) -> Measures:
        by_id = {record.file_id: record for record in journals[path][1]}
        return measures([by_id[id_] for id_ in ids], [quality[id_] for id_ in ids])

    def run(path: Path) -> Circumstances:
        try:
            return of_journal(journals[path][0])
        except (KeyError, Mismatch) as error:
            raise JournalError(
                f"the journal {path} does not say what it ran on: {error}"
            ) from error

    alone = {p.mode: of(path, quality) for p, path, quality in found if ids and p.alone}
    runs = {p.mode: run(path) for p, path, _ in found if p.alone}
    if set(alone) != {"edge", "cloud"}:
        raise DataError(f"{language}, {prompt_type}, {hardware}: nothing to compare with")
    policies = {p.name: (p, path, of(path, q)) for p, path, q in found if not p.alone}
    costs = profile(hardware).to_json()
    rows = []
    for point, path, own in policies.values():
        ran, other = run(path), policies.get(point.against or "")
        edge = _beside(ran, runs["edge"], ("edge",), point.crosses)
        cloud = _beside(ran, runs["cloud"], ("cloud",), point.crosses)
        row = _row(point, own, (alone["edge"], edge), (alone["cloud"], cloud), _profile_of(ran))
        crossings = {"edge": edge.crossing, "cloud": cloud.crossing}
        against = None
        if other is not None:
            beside = _beside(ran, run(other[1]), ("edge", "cloud"), point.crosses)
            against = _against(own, other[2], point.against, beside)
            crossings["against"] = beside.crossing
        rows.append(
            {
                **row,
                "journal": path.name,
                "against": against,
                "crossings": {name: what for name, what in crossings.items() if what},
            }
        )
    rivals = {name: own for name, (point, _, own) in policies.items() if point.role == "rival"}
    budgets = []
    if rivals:
        plain = {name: own for name, (p, _, own) in policies.items() if p.role in PLAIN}
        ours = {name: own for name, (_, _, own) in policies.items() if name not in plain}
        found_leaders = leaders(ours, plain, alone["edge"], alone["cloud"])
        budgets = [leader.to_json() for leader in found_leaders]
        for row in rows:
            beside_rivals = contests(
                policies[row["name"]][2], rivals, alone["edge"], alone["cloud"]
            )
            row["rivals"] = (
                [] if row["role"] == "rival" else [found.to_json() for found in beside_rivals]
            )
        rows += _oracles(alone["edge"], alone["cloud"], costs)
    return {
        "language": language,
        "prompt_type": prompt_type,
        "hardware_profile": hardware,
        "link": link,
        "costs": costs,
        "samples": len(ids),
        "edge": _alone(alone["edge"]),
        "cloud": _alone(alone["cloud"]),
        "rows": rows,
        "budgets": budgets,
    }


def _oracles(edge: Measures, cloud: Measures, costs: Json) -> list[Json]:
    """Rows of what no policy can reach but one that knows the answers: role ``oracle``."""
    free = _Beside(None, None, None)
    return [
        {
            **_row(Point("spec", name, role="oracle"), own, (edge, free), (cloud, free), costs),
            "journal": None,
            "against": None,
            "crossings": {},
            "rivals": [],
        }
        for name, own in oracles(edge, cloud).items()
    ]


def _profile_of(ran: Circumstances) -> Json:
    return dict(ran.hardware_profile.facts) if ran.hardware_profile else {}


def _alone(found: Measures) -> Json:
    return {
        "total_s": mean(found.total_s),
        "ttft_s": mean(found.ttft_s),
        "busy_s": mean(found.busy_s),
        "tokens": mean(found.tokens),
        "attribute_accuracy": mean(known(found)[0]) if known(found) else None,
        "cider": mean(found.quality),
    }


@dataclass(frozen=True, slots=True)
class _Beside:
    """A run beside one that it is compared with: the declared difference, and why else there are no
    ratios of times, or no comparison of what was written."""

    crossing: str | None
    no_times: str | None
    no_texts: str | None


def _beside(
    own: Circumstances, other: Circumstances, sides: Sequence[Side], crosses: Sequence[str]
) -> _Beside:
    differing = {
        name: words for side in sides for name, words in mismatches(own, other, side).items()
    }
    declared = {name: words for name, words in differing.items() if name in crosses}
    rest = {name: words for name, words in differing.items() if name not in crosses}
    return _Beside(
        described(declared) or None,
        _reason(rest),
        _reason({name: words for name, words in rest.items() if name not in TIMING}),
    )


def _reason(differing: Mapping[str, tuple[str, str]]) -> str | None:
    """Why two do not compare, and how a grid declares that they shall."""
    if not differing:
        return None
    meant = ", ".join(f'"{name}"' for name in differing)
    may = f"; where that is meant: crosses = [{meant}]" if {*differing} <= {*CROSSINGS} else ""
    return f"not comparable: {described(differing)}{may}"


def _unless(reason: str | None, found: Interval) -> Json:
    """``found``, or nothing for ``reason``."""
    return asdict(Interval(None, None, None, found.n, found.level, reason) if reason else found)


_Compared = tuple[Measures, _Beside]


def _row(
    point: Point, found: Measures, over: _Compared, under: _Compared, costs: Mapping[str, Any]
) -> Json:
    """A policy ``over`` the edge alone, its quality ``under`` the cloud's; ``costs`` are its own."""
    (edge, by_edge), (cloud, by_cloud) = over, under
    bound = bound_of(found, costs)
    stands = standing(found, edge, cloud, bound=bound)
    return {
        "name": point.name,
        "role": point.role,
        "settings": point.policy,
        **_alone(found),
        "calls": mean(found.calls),
        "cloud_prefills": mean(found.prefilled),
        "cloud_token_share": sum(found.cloud_tokens) / sum(found.tokens),
        "time": _unless(by_edge.no_times, stands.time),
        "ttft": _unless(by_edge.no_times, stands.ttft),
        "busy": _unless(by_cloud.no_times, stands.busy),
        "attribute_gap_closed": stands.attribute_gap_closed
        and _unless(by_edge.no_texts or by_cloud.no_texts, stands.attribute_gap_closed),
        "gap_closed": _unless(by_edge.no_texts or by_cloud.no_texts, stands.gap_closed),
        "attributes_over_edge": _attributes(found, edge, by_edge.no_texts),
        "attributes_over_cloud": _attributes(found, cloud, by_cloud.no_texts),
        "cider_over_edge": _unless(by_edge.no_texts, mean_difference(found.quality, edge.quality)),
        "cider_over_cloud": _unless(
            by_cloud.no_texts, mean_difference(found.quality, cloud.quality)
        ),
        "bound": asdict(bound),
        "above_bound": stands.above_bound,
    }


def _attributes(found: Measures, other: Measures, reason: str | None) -> Json | None:
    """The difference in the share of captions with all attributes right; ``None``: the truth is not known."""
    truth = known(found, other)
    return _unless(reason, mean_difference(*truth)) if truth else None


def _against(found: Measures, other: Measures, name: str | None, beside: _Beside) -> Json:
    """The effect of one idea: time and busy time as ratios, attributes, CIDEr and calls as differences."""
    idle = not any(other.busy_s)
    return {
        "name": name,
        "time": _unless(beside.no_times, mean_ratio(found.total_s, other.total_s)),
        "busy": None if idle else _unless(beside.no_times, mean_ratio(found.busy_s, other.busy_s)),
        "attributes": _attributes(found, other, beside.no_texts),
        "cider": _unless(beside.no_texts, mean_difference(found.quality, other.quality)),
        "calls": _unless(beside.no_texts, mean_difference(found.calls, other.calls)),
    }
