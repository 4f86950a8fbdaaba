"""A sweep's points beside edge and cloud alone: the rows of the frontier's tables, page and plots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from edgecloud.errors import DataError
from edgecloud.experiments.sweep import Point
from edgecloud.hardware.profiles import profile
from edgecloud.results.frontier import Measures, bound_of, mean, measures, standing
from edgecloud.results.journal import read
from edgecloud.results.statistics import mean_difference, mean_ratio

__all__ = ["frontier", "place_of"]

Json = dict[str, Any]


Place = tuple[str, str, str, str | None]
Swept = tuple[Point, Path, Mapping[str, float]]


def place_of(point: Point) -> Place:
    """Language, prompt type, hardware profile, link: what points are compared within."""
    config = replace(point, policy={}).config
    return config.language, config.prompt_type, config.hardware_profile, config.link


def frontier(swept: Iterable[Swept]) -> list[Json]:
    """One block (JSON) for each place: its edge and cloud alone, and a row for each policy.

    Raises:
        DataError: a place lacks edge or cloud, or no sample was completed by all.
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

    def of(path: Path, quality: Mapping[str, float]) -> Measures:
        by_id = {record["file_id"]: record for record in journals[path][1]}
        return measures([by_id[id_] for id_ in ids], [quality[id_] for id_ in ids])

    alone = {p.mode: of(path, quality) for p, path, quality in found if ids and p.mode != "spec"}
    if set(alone) != {"edge", "cloud"}:
        raise DataError(f"{language}, {prompt_type}, {hardware}: nothing to compare with")
    policies = {p.name: (p, path, of(path, q)) for p, path, q in found if p.mode == "spec"}
    costs = profile(hardware).to_json()
    rows = []
    for point, path, own in policies.values():
        row = _row(point, own, alone["edge"], alone["cloud"], costs)
        other = policies.get(point.against or "")
        rows.append(
            {
                **row,
                "journal": path.name,
                "against": _against(own, other[2], point.against) if other else None,
            }
        )
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
    }


def _alone(found: Measures) -> Json:
    return {
        "total_s": mean(found.total_s),
        "ttft_s": mean(found.ttft_s),
        "busy_s": mean(found.busy_s),
        "tokens": mean(found.tokens),
        "cider": mean(found.quality),
    }


def _row(
    point: Point, found: Measures, edge: Measures, cloud: Measures, costs: Mapping[str, Any]
) -> Json:
    bound = bound_of(found, costs)
    stands = standing(found, edge, cloud, bound=bound)
    return {
        "name": point.name,
        "role": point.role,
        "settings": point.policy,
        **_alone(found),
        "calls": mean(found.calls),
        "cloud_token_share": sum(found.cloud_tokens) / sum(found.tokens),
        "time": asdict(stands.time),
        "ttft": asdict(stands.ttft),
        "busy": asdict(stands.busy),
        "gap_closed": asdict(stands.gap_closed),
        "cider_over_edge": asdict(mean_difference(found.quality, edge.quality)),
        "cider_over_cloud": asdict(mean_difference(found.quality, cloud.quality)),
        "bound": asdict(bound),
        "above_bound": stands.above_bound,
    }


def _against(found: Measures, other: Measures, name: str | None) -> Json:
    """The effect of one idea: time and busy time as ratios, CIDEr and calls as differences."""
    idle = not any(other.busy_s)
    return {
        "name": name,
        "time": asdict(mean_ratio(found.total_s, other.total_s)),
        "busy": None if idle else asdict(mean_ratio(found.busy_s, other.busy_s)),
        "cider": asdict(mean_difference(found.quality, other.quality)),
        "calls": asdict(mean_difference(found.calls, other.calls)),
    }
