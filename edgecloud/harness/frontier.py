"""A sweep's points beside edge and cloud alone: the rows of the frontier's tables, page and plots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgecloud.errors import DataError
from edgecloud.harness.sweep import Point
from edgecloud.measure.frontier import Measures, bound_of, mean, measures, standing
from edgecloud.measure.journal import read
from edgecloud.measure.statistics import Interval, mean_difference

__all__ = ["frontier", "place_of"]

Json = dict[str, Any]


def place_of(point: Point) -> tuple[str, str, str, str | None]:
    """Language, prompt type, hardware profile, link: what points are compared within."""
    config = point.config
    return config.language, config.prompt_type, config.hardware_profile, config.link


def frontier(swept: Iterable[tuple[Point, Path, Mapping[str, float]]]) -> list[Json]:
    """One block (JSON) for each place: its edge and cloud alone, and a row for each policy.

    Raises:
        DataError: a place lacks edge or cloud, or no sample was completed by all.
    """
    places: dict[tuple[str, str, str, str | None], list[tuple[Point, Path, Mapping[str, float]]]]
    places = {}
    for point, path, quality in swept:
        places.setdefault(place_of(point), []).append((point, path, quality))
    return [_block(place, found) for place, found in sorted(places.items(), key=repr)]


def _block(
    place: tuple[str, str, str, str | None],
    found: Sequence[tuple[Point, Path, Mapping[str, float]]],
) -> Json:
    language, prompt_type, hardware, link = place
    records = {path: read(path) for _, path, _ in found}
    scored = [set(quality) for _, _, quality in found]
    ids = sorted(set.intersection(*scored)) if scored else []
    alone = {p.mode: (path, quality) for p, path, quality in found if p.mode != "spec"}
    if not ids or set(alone) != {"edge", "cloud"}:
        raise DataError(f"{language}, {prompt_type}, {hardware}: nothing to compare with")
    profile = records[alone["edge"][0]][0]["facts"]["setup"]["hardware_profile"]

    def of(path: Path, quality: Mapping[str, float]) -> Measures:
        by_id = {record["file_id"]: record for record in records[path][1]}
        return measures([by_id[id_] for id_ in ids], [quality[id_] for id_ in ids])

    edge, cloud = of(*alone["edge"]), of(*alone["cloud"])
    rows = [
        _row(point, path, of(path, quality), edge, cloud, profile)
        for point, path, quality in found
        if point.mode == "spec"
    ]
    return {
        "language": language,
        "prompt_type": prompt_type,
        "hardware_profile": hardware,
        "link": link,
        "costs": profile,
        "samples": len(ids),
        "edge": _alone(edge),
        "cloud": _alone(cloud),
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
    point: Point,
    path: Path,
    found: Measures,
    edge: Measures,
    cloud: Measures,
    profile: Mapping[str, Any],
) -> Json:
    bound = bound_of(found, profile)
    stands = standing(found, edge, cloud, bound=bound)
    return {
        "name": point.name,
        "role": point.role,
        "settings": dict(point.settings),
        "journal": path.name,
        **_alone(found),
        "calls": mean(found.calls),
        "cloud_token_share": sum(found.cloud_tokens) / sum(found.tokens),
        "time": _interval(stands.time),
        "ttft": _interval(stands.ttft),
        "busy": _interval(stands.busy),
        "gap_closed": _interval(stands.gap_closed),
        "cider_over_edge": _interval(mean_difference(found.quality, edge.quality)),
        "cider_under_cloud": _interval(mean_difference(found.quality, cloud.quality)),
        "bound": asdict(bound),
        "above_bound": stands.above_bound,
    }


def _interval(found: Interval) -> Json:
    return asdict(found)
