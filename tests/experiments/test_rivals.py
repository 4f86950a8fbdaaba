"""Rivals in a sweep: cascades and routers put together from runs of edge and cloud, and who is better at a budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgecloud.contracts import Draft, Generate
from edgecloud.errors import ConfigError
from edgecloud.experiments import swept
from edgecloud.experiments.frontier import frontier
from edgecloud.experiments.sweep import Point, read_grid
from edgecloud.results.frontier import Measures
from edgecloud.results.journal import read
from edgecloud.results.rivals import by_lot, contests, leaders, oracles

WHERE: dict[str, Any] = {
    "language": "english",
    "prompt_type": "concise",
    "max_samples": 3,
    "hardware_profile": "paper",
}
CASCADE = {"gate_type": "mean-logprob", "gate_scope": "caption"}
RIVALS: dict[str, dict[str, Any]] = {
    "cascade": {**CASCADE, "logprob_threshold": -0.4},
    "sure cascade": {**CASCADE, "logprob_threshold": -9.0},
    "elsewhere": {**CASCADE, "logprob_threshold": -0.1, "hardware_profile": "paper-eagle3"},
    "router": {"gate_type": "entropy", "gate_scope": "start", "k": 1, "entropy_threshold": 1.0},
    "late router": {"gate_type": "margin", "gate_scope": "start", "k": 3, "margin_threshold": 0.5},
}


def decoded(points: list[Point], folder: Path) -> dict[str, tuple[Path, str]]:
    paths = [(point, folder / f"{point.key}.jsonl") for point in points]
    found = swept.complete(paths, None, {"machine": "this"})
    return {point.name: (path, how) for point, (path, how, _) in zip(points, found, strict=True)}


def test_cascades_and_routers_put_together_are_what_decoding_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = Point("cloud", "cloud", WHERE)
    points = [Point("spec", name, WHERE, policy) for name, policy in RIVALS.items()]
    together = decoded([alone, *points], tmp_path / "together")
    assert {how for name, (_, how) in together.items() if name != "cloud"} == {"retimed"}
    monkeypatch.setattr(swept, "whole_captions", lambda _: False)
    asked = set()
    for point in points:
        path, how = decoded([point], tmp_path / "each")[point.name]
        assert how == "decoded"
        assert path.read_bytes() == together[point.name][0].read_bytes()
        asked |= {record.trace.of(Draft)[0].escalated for record in read(path)[1]}
    assert asked == {True, False}


def test_a_cloud_with_the_edges_model_as_its_draft_writes_its_own_tokens(tmp_path: Path) -> None:
    own = {"hardware_profile": "paper-drafted", "cloud_draft_tokens": 3}
    plain, drafted = Point("cloud", "cloud", WHERE), Point("cloud", "drafted", WHERE, own)
    found = decoded([plain], tmp_path) | decoded([drafted], tmp_path)
    ((_, one), (_, other)) = (read(path) for path, _ in found.values())
    assert [record.tokens for record in one] == [record.tokens for record in other]
    assert all(event.cost.verified_tokens <= 3 for r in other for event in r.trace.of(Generate))
    assert sum(len(r.trace.of(Generate)) for r in other) < sum(len(r.tokens) for r in other)
    again = replace(drafted, policy={"cloud_draft_tokens": 3})
    with pytest.raises(ConfigError, match="paper-drafted does"):
        decoded([again], tmp_path)


def grid(tmp_path: Path, policy: str) -> Path:
    path = tmp_path / "grid.toml"
    path.write_text(f"[[policy]]\n{policy}\n", "utf-8")
    return path


def test_a_policy_may_be_a_cloud_alone_of_its_own(tmp_path: Path) -> None:
    path = grid(
        tmp_path, 'name = "fast"\nmode = "cloud"\nsettings = {hardware_profile = "paper-eagle3"}'
    )
    assert [(p.name, p.mode, p.alone) for p in read_grid(path)] == [
        ("edge", "edge", True),
        ("cloud", "cloud", True),
        ("fast", "cloud", False),
    ]
    for wrong in ('name = "fast"\nmode = "edge"', 'name = "cloud"'):
        with pytest.raises(ConfigError, match="mode is spec or cloud"):
            read_grid(grid(tmp_path, wrong))


def test_a_rival_may_be_named_after_the_place_that_it_is_at(tmp_path: Path) -> None:
    path = tmp_path / "grid.toml"
    path.write_text(
        """
[where]
hardware_profile = ["paper", "galaxy-s24@int8+h100"]
[[policy]]
name = "fast"
mode = "cloud"
settings = {hardware_profile = "{hardware_profile}-eagle3"}
""",
        "utf-8",
    )
    fast = [point.config for point in read_grid(path) if point.name == "fast"]
    assert [config.hardware.profile for config in fast] == [
        "paper-eagle3",
        "galaxy-s24@int8+h100-eagle3",
    ]


def run(total_s: float, busy_s: float, right: list[int]) -> Measures:
    n = len(right)
    return Measures(
        total_s=(total_s,) * n,
        ttft_s=(1.0,) * n,
        busy_s=(busy_s,) * n,
        tokens=(10,) * n,
        cloud_tokens=(5,) * n,
        calls=(1,) * n,
        verified=(1,) * n,
        prefilled=(True,) * n,
        seeded=(False,) * n,
        quality=tuple(float(one) for one in right),
        input_tokens=(0,) * n,
        attributes=tuple(float(one) for one in right),
    )


EDGE, CLOUD = run(10.0, 0.0, [0, 0, 0, 1]), run(2.0, 1.0, [1, 1, 1, 1])


def test_at_its_budget_a_policy_has_won_lost_or_trades() -> None:
    own = run(6.0, 0.5, [1, 1, 0, 1])
    rivals = {
        "cascade slow": run(12.0, 0.5, [1, 1, 0, 1]),
        "cascade dear": run(1.0, 0.9, [1, 1, 1, 1]),
        "cloud, fast": run(3.0, 0.45, [1, 1, 1, 1]),
        "router": run(7.0, 0.5, [1, 1, 1, 1]),
    }
    found = {(c.family, c.budget): (c.rival, c.verdict) for c in contests(own, rivals, EDGE, CLOUD)}
    assert found == {
        ("cascade", "cloud"): ("cascade slow", "won"),
        ("cascade", "time"): ("cascade dear", "trade"),
        ("cloud", "cloud"): ("cloud, fast", "lost"),
        ("cloud", "time"): ("cloud, fast", "lost"),
        ("router", "cloud"): ("router", "trade"),
    }


def test_the_leader_at_a_budget_is_who_closes_most_of_the_gap_within_it() -> None:
    own = {"dear": run(6.0, 0.6, [1, 1, 1, 1]), "frugal": run(9.0, 0.3, [1, 1, 0, 1])}
    rivals = {"cloud, fast": run(3.0, 0.7, [1, 1, 1, 1])}
    found = {(leader.cloud, leader.time): leader for leader in leaders(own, rivals, EDGE, CLOUD)}
    said = {at: (one.own, one.rival, one.verdict) for at, one in found.items()}
    assert said[0.5, 0.9] == ("frugal", "router by lot, 0.5 of the captions", "even")
    assert said[0.65, 0.65] == ("dear", "router by lot, 0.65 of the captions", "won")
    assert (0.8, 0.25) not in said
    assert said[1.0, 0.25] == (None, "cloud alone", "lost")
    assert said[0.25, 1.0] == (None, "router by lot, 0.25 of the captions", "lost")
    gap = found[0.65, 0.65].gap
    assert gap is not None
    assert gap.estimate == pytest.approx(0.35)
    lot = by_lot(EDGE, CLOUD, 0.25)
    assert (lot.total_s[0], lot.busy_s[0], lot.attributes) == (8.0, 0.25, (0.25, 0.25, 0.25, 1.0))


def test_an_oracle_pays_the_cloud_where_it_alone_is_right() -> None:
    """Three of four captions are wrong on the edge and right on the cloud."""
    found = oracles(EDGE, CLOUD)["oracle, attributes"]
    assert found.busy_s == (1.0, 1.0, 1.0, 0.0)
    assert found.total_s == (2.0, 2.0, 2.0, 10.0)
    assert found.attributes == (1.0,) * 4


def test_rows_of_rivals_have_no_contests_and_oracles_are_marked(tmp_path: Path) -> None:
    points = [
        Point("edge", "edge", WHERE),
        Point("cloud", "cloud", WHERE),
        Point("spec", "cascade", WHERE, RIVALS["cascade"], role="rival"),
        Point("spec", "ours", WHERE, {"preset": "frontier-light"}),
    ]
    swept_points = []
    for chosen in (points[:1], points[1:3], points[3:]):
        paths = [(point, tmp_path / f"{point.key}.jsonl") for point in chosen]
        found = swept.complete(paths, None, {"machine": "this"})
        swept_points += [(p, path, q) for (p, path), (_, _, q) in zip(paths, found, strict=True)]
    (block,) = frontier(swept_points)
    rows = {row["name"]: row for row in block["rows"]}
    assert rows["cascade"]["rivals"] == []
    assert {contest["family"] for contest in rows["ours"]["rivals"]} <= {"cascade"}
    assert rows["oracle, attributes"]["role"] == "oracle"
    assert 0 <= rows["ours"]["cloud_prefills"] <= 1
