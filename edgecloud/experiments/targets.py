"""Targets of a sweep's policies: ``[[target]]`` tables of a grid file, checked on its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecloud.errors import ConfigError
from edgecloud.experiments.sweep import grid_content
from edgecloud.results.rivals import AT_ONCE

__all__ = ["MEASURES", "Target", "Verdict", "check_targets", "read_targets"]

Json = dict[str, Any]
Measure = Callable[[Json, Json, Sequence[Json]], float | None]
"""``(row, its block, all blocks) -> value``; ``None``: not defined here."""


def _estimate(name: str) -> Measure:
    def value(row: Json, block: Json, blocks: Sequence[Json]) -> float | None:
        found: float | None = row[name]["estimate"]
        return found

    return value


def _above_bound(row: Json, block: Json, blocks: Sequence[Json]) -> float | None:
    found: float | None = row["above_bound"]
    return found


def _time_over_paper(row: Json, block: Json, blocks: Sequence[Json]) -> float | None:
    """The row's time over the edge's alone under the profile ``paper``."""
    paper = _like(block, blocks, hardware_profile="paper", link=None)
    return row["total_s"] / paper["edge"]["total_s"] if paper else None


def _time_over_no_link(row: Json, block: Json, blocks: Sequence[Json]) -> float | None:
    """The row's time over its own with the profile's round trip instead of this link."""
    plain = _like(block, blocks, link=None)
    same = [other for other in plain["rows"] if other["name"] == row["name"]] if plain else []
    return row["total_s"] / same[0]["total_s"] if same else None


def _calls_over_against(row: Json, block: Json, blocks: Sequence[Json]) -> float | None:
    """The row's calls over those of the policy it is compared with."""
    other = [r for r in block["rows"] if row["against"] and r["name"] == row["against"]["name"]]
    return row["calls"] / other[0]["calls"] if other and other[0]["calls"] else None


def _cider_high_against(row: Json, block: Json, blocks: Sequence[Json]) -> float | None:
    """The upper end of the paired interval of its CIDEr less that of the policy it is compared with:
    from 0 on, it is not worse beyond the interval."""
    found: float | None = row["against"]["cider"]["high"] if row["against"] else None
    return found


def _attribute_gap(row: Json, block: Json, blocks: Sequence[Json]) -> float | None:
    """The share of the gap in right attributes that is closed; ``None``: the truth is not known, either."""
    found: float | None = (row["attribute_gap_closed"] or {}).get("estimate")
    return found


def _busy_over_against(row: Json, block: Json, blocks: Sequence[Json]) -> float | None:
    """The row's busy time over that of the policy it is compared with."""
    found: float | None = ((row["against"] or {}).get("busy") or {}).get("estimate")
    return found


def _faster_than_cascade(row: Json, block: Json, blocks: Sequence[Json]) -> float | None:
    """The time of the best cascade at its budget of the cloud over the row's, where the paired difference of the
    gaps they close surely exceeds -0.02 and their busy times are equal within 0.02."""
    for rival in row.get("rivals", ()):
        if (rival["family"], rival["budget"]) == ("cascade", "cloud"):
            low, time = rival["gap"]["low"], rival["time"]["estimate"]
            equal = abs(rival["busy"]) <= AT_ONCE and low is not None and low > -AT_ONCE
            return 1 / time if equal and time else None
    return None


def _cloud_prefills(row: Json, block: Json, blocks: Sequence[Json]) -> float | None:
    """The share of captions for which the cloud computed the prompt at all."""
    found: float | None = row["cloud_prefills"]
    return found


MEASURES: dict[str, Measure] = {
    "time": _estimate("time"),
    "busy": _estimate("busy"),
    "ttft": _estimate("ttft"),
    "gap_closed": _estimate("gap_closed"),
    "attribute_gap_closed": _attribute_gap,
    "above_bound": _above_bound,
    "time_over_paper_edge": _time_over_paper,
    "time_over_no_link": _time_over_no_link,
    "busy_over_against": _busy_over_against,
    "faster_than_cascade": _faster_than_cascade,
    "cloud_prefills": _cloud_prefills,
    "calls_over_against": _calls_over_against,
    "cider_high_against": _cider_high_against,
}


@dataclass(frozen=True, slots=True)
class Target:
    """``policy`` at every place that has the values of ``where``: each measure ``most`` or ``least``."""

    policy: str
    where: Mapping[str, Any]
    most: Mapping[str, float]
    least: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One measure of one target at one place. ``value`` is ``None`` where the policy was not run, or
    the measure is not defined; then it is not ``met``."""

    policy: str
    place: Json
    measure: str
    bound: str
    value: float | None
    met: bool


def read_targets(path: str | Path) -> list[Target]:
    """The ``[[target]]`` tables of a grid file.

    Raises:
        ConfigError: no such file, not TOML, or a table that is no target.
    """
    content = grid_content(path)
    found = []
    for table in content.get("target", []):
        measures = {*table.get("most", {}), *table.get("least", {})}
        if "policy" not in table or not measures or measures - set(MEASURES):
            raise ConfigError(
                f"grid {path}: a target has a policy, and most and least values of "
                f"{', '.join(MEASURES)}"
            )
        where = table.get("where", {})
        found.append(Target(table["policy"], where, table.get("most", {}), table.get("least", {})))
    return found


def check_targets(targets: Sequence[Target], blocks: Sequence[Json]) -> list[Verdict]:
    """Every measure of every target at every place it is about."""
    verdicts = []
    for target in targets:
        for block in blocks:
            if any(block[key] != (value or None) for key, value in target.where.items()):
                continue
            rows = [row for row in block["rows"] if row["name"] == target.policy]
            row = rows[0] if rows else None
            for sign, wanted in (("≤", target.most), ("≥", target.least)):
                for name, bound in wanted.items():
                    value = MEASURES[name](row, block, blocks) if row else None
                    met = value is not None and (value <= bound if sign == "≤" else value >= bound)
                    place = {key: block[key] for key in _PLACE}
                    verdicts.append(
                        Verdict(target.policy, place, name, f"{sign} {bound:g}", value, met)
                    )
    return verdicts


_PLACE = ("language", "prompt_type", "hardware_profile", "link")


def _like(block: Json, blocks: Sequence[Json], **changes: Any) -> Json | None:
    """The block of the place that differs from ``block``'s in ``changes``."""
    wanted = {**{key: block[key] for key in _PLACE}, **changes}
    for other in blocks:
        if all(other[key] == value for key, value in wanted.items()):
            return other
    return None
