"""Sweeps: grids, the same numbers as runs, and going on after a stop; and the targets they are judged by."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgecloud.cli.main import main
from edgecloud.contracts import Trace
from edgecloud.datasets.manifest import embedded_manifest
from edgecloud.errors import ConfigError, EdgeCloudError, OutputError
from edgecloud.experiments import sweep as conductor
from edgecloud.experiments.frontier import frontier
from edgecloud.experiments.sweep import (
    DEFAULT_GRID,
    Point,
    audio_notes_of,
    check,
    decoding_of,
    read_grid,
    sweep,
)
from edgecloud.experiments.swept import complete
from edgecloud.experiments.system import model_of
from edgecloud.experiments.targets import MEASURES, Target, check_targets, read_targets
from edgecloud.files import held
from edgecloud.results.journal import Journal, read
from edgecloud.results.records import Record
from tests.results.synthetic import degraded

GRID = """
[where]
language = ["chinese", "english"]
max_samples = 2

[[policy]]
name = "token"
settings = {gate_scope = "token", k = 8}
grid = {continuation = [0, 4]}

[[policy]]
name = "original"
settings = {hardware_profile = "paper-original"}
against = "token continuation=0"
role = "added"

[[target]]
policy = "token continuation=4"
where = {language = "chinese", link = ""}
most = {time = 1.5}
least = {gap_closed = 0.0}
"""


def grid(tmp_path: Path, text: str = GRID) -> Path:
    path = tmp_path / "grid.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_grid_is_every_policy_at_every_place_and_edge_and_cloud_there(tmp_path: Path) -> None:
    points = read_grid(grid(tmp_path))
    names = ["edge", "cloud", "token continuation=0", "token continuation=4", "original"]
    assert sorted(point.name for point in points) == sorted(names * 2)
    original = next(point for point in points if point.name == "original")
    assert original.config.hardware.profile == "paper-original"
    assert original.config.hardware.clock == "modelled"
    assert (original.role, original.against) == ("added", "token continuation=0")


def test_points_of_the_same_configuration_share_a_journal(tmp_path: Path) -> None:
    again = Point("spec", "other name", {"language": "chinese"}, {"k": 8})
    assert again.key == Point("spec", "a name", {"language": "chinese", "k": 8}).key
    assert again.key != Point("spec", "a name", {"language": "english", "k": 8}).key


def test_journals_keep_the_names_that_they_had_before_options_were_added() -> None:
    first = read_grid(DEFAULT_GRID)[0]
    assert first.key == "edge-d5b6bde49e5ad1d7"
    other = Point("edge", "edge", first.place, {"repetition_penalty": 1.1})
    assert other.key != first.key


@pytest.mark.parametrize(
    "text, says",
    [
        ("[where", "not TOML"),
        ("[other]", "tables were expected"),
        ("[[policy]]\nsettings = {k = 1}", "has a name"),
        ('[[policy]]\nname = "a"\nrole = "hero"', "hero"),
        ('[where]\nk = 3\n[[policy]]\nname = "a"', "cannot vary"),
    ],
)
def test_a_broken_grid_says_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read_grid(grid(tmp_path, text))


POLICY = '[[policy]]\nname = "a"\n'


@pytest.mark.parametrize(
    "text, says",
    [
        ("", "has no policy"),
        ('[where]\ndataset_path = ["a", "b"]\n' + POLICY, "dataset_path has one value"),
        ('[where]\nedge_model = ["a", "b"]\n' + POLICY, "edge_model has one value"),
        ("[where]\nlanguage = []\n" + POLICY, "language is an empty list"),
        ("[where]\nmax_cpu_cores = 1\n" + POLICY, "max_cpu_cores cannot vary.*no effect"),
        ('[where]\ndataset_path = "{lang}.json"\n' + POLICY, "may hold {language}"),
        (POLICY + "settings = 3", "settings is no table"),
        (POLICY + "grid = {k = 3}", "grid.k is no list"),
        (POLICY + 'grid = {k = "345"}', "grid.k is no list"),
        (POLICY + 'settings = {edge_model = "x"}', "edge_model cannot vary between policies"),
        (POLICY + "grid = {max_samples = [1, 2]}", "max_samples cannot vary between policies"),
        (POLICY + 'grid = {language = ["english"]}', "language cannot vary between policies"),
        (POLICY + "settings = {workers = 3}", "workers: it has no effect"),
        (POLICY + 'settings = {clock = "wall"}', "modelled time"),
        (POLICY + 'where = {dataset_path = "x"}', "where.dataset_path cannot vary"),
        (POLICY + 'against = "b"', "against 'b', which is none of a"),
        (POLICY + 'crosses = ["clock"]', "crosses is no list of some of link, model"),
        (POLICY + 'crosses = "link"', "crosses is no list"),
        (POLICY + POLICY + "settings = {k = 9}", "two policies are called 'a'"),
    ],
)
def test_what_cannot_vary_or_be_compared_is_said_before_anything_runs(
    tmp_path: Path, text: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        read_grid(grid(tmp_path, text))


def own_grid(tmp_path: Path, **changes: str) -> Path:
    """The grid of docs/sweep.md, on a manifest and models of the test's own."""
    document = (Path(__file__).parents[2] / "docs" / "sweep.md").read_text("utf-8")
    text = document.partition("```toml\n")[2].partition("```")[0]
    entries = json.loads(embedded_manifest("english").read_text("utf-8"))[:3]
    for entry in entries:
        entry["audio_path"] = str(embedded_manifest("english").parent / entry["audio_path"])
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.json").write_text(json.dumps(entries), encoding="utf-8")
    (tmp_path / "checkpoints").mkdir()
    for side in ("edge", "cloud"):
        shutil.copytree(model_of(None, side)[1], tmp_path / "checkpoints" / side)
    for before, after in changes.items():
        text = text.replace(before, after)
    return grid(tmp_path, text)


@pytest.mark.system
def test_a_sweep_on_own_data_works_as_documented(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = own_grid(tmp_path, **{"[1.0, 2.0], k = [3, 8]": "[1.0], k = [8]"})
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", str(path), "-o", "mine"]) == 0
    said = capsys.readouterr().err
    assert "8 runs: 2 policies, and edge and cloud alone" in said
    assert "varies: hardware_profile: paper, galaxy-s24@int8+h100" in said
    blocks = json.loads((tmp_path / "mine" / "frontier.json").read_text("utf-8"))
    found = blocks["places"]
    assert {block["samples"] for block in found} == {3}
    names = {row["name"] for block in found for row in block["rows"]}
    assert names == {"entropy entropy_threshold=1.0 k=8", "listening"}


@pytest.mark.system
def test_data_models_and_gates_are_looked_at_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = own_grid(tmp_path)
    monkeypatch.chdir(tmp_path)
    text = path.read_text(encoding="utf-8")
    check(read_grid(path))
    for before, after, says in (
        ('language = "english" ', 'language = "chinese" ', "reference in chinese"),
        ("data/mine.json", "data/none.json", "does not exist"),
        ("checkpoints/edge", "checkpoints", "edge_model checkpoints is no checkpoint"),
        ('{acceptance = "exact"}', '{preset = "frontier"}', "edgecloud calibrate"),
    ):
        assert before in text
        path.write_text(text.replace(before, after), encoding="utf-8")
        with pytest.raises(EdgeCloudError, match=says):
            check(read_grid(path))


def test_a_missing_grid_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        read_grid(tmp_path / "nowhere.toml")


def test_the_grid_of_the_project_and_its_targets_are_sound() -> None:
    points, targets = read_grid(DEFAULT_GRID), read_targets(DEFAULT_GRID)
    for point in points:
        assert point.config.hardware.clock == "modelled"
    names = {point.name for point in points}
    assert {point.against for point in points} - {None} <= names
    assert targets
    assert {target.policy for target in targets} <= names


@pytest.mark.system
def test_points_that_differ_in_profile_and_link_alone_are_decoded_once() -> None:
    journals = {point.key: point for point in read_grid(DEFAULT_GRID)}
    assert len(journals) == 214
    assert len({decoding_of(point, Path(key)) for key, point in journals.items()}) == 100
    places = [{}, {"link": "lan"}, {"hardware_profile": "iphone-15-plus"}]
    for policy, decodings in ({"k": 4}, 1), ({"adaptive_k": True}, 3), ({"cloud_budget": "1s"}, 3):
        found = [Point("spec", "a", place, policy) for place in places]
        assert len({decoding_of(point, Path(point.key)) for point in found}) == decodings


def test_a_sweep_gives_what_runs_give_and_goes_on_where_it_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = [p for p in read_grid(grid(tmp_path)) if p.config.data.language == "chinese"]
    counts: Counter[str] = Counter()
    swept = list(sweep(points, tmp_path / "out", counts=counts))
    assert counts == {"decoded": len(points)}
    assert len(swept) == len(points)
    _lose_the_cloud(swept[-1][1])
    before = {path: path.read_bytes() for _, path, _ in swept}
    path = swept[0][1]
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]))
    counts.clear()
    again = list(sweep(points, tmp_path / "out", counts=counts))
    assert counts == {"kept": len(points) - 1, "decoded": 1}
    assert {path: _records(path) for _, path, _ in again} == {
        path: _records_of(content, tmp_path) for path, content in before.items()
    }
    # A finished one starts no process, and so loads no model.
    monkeypatch.setattr(conductor, "ProcessPoolExecutor", None)
    third = list(sweep(points, tmp_path / "out"))
    assert sorted(third, key=repr) == sorted(again, key=repr)
    # Neither did it run what lost the cloud, as it would each time.
    assert len(swept[-1][1].read_bytes().splitlines()) == 1 + 2
    (block,) = frontier(swept)
    assert block["samples"] == 2
    rows = {row["name"]: row for row in block["rows"]}
    assert rows["original"]["against"]["name"] == "token continuation=0"
    _check_crossing(swept, rows["original"])
    assert rows["original"]["total_s"] > rows["token continuation=4"]["total_s"]
    assert all(row["above_bound"] >= -1e-9 for row in rows.values() if row["name"] != "original")
    assert rows["token continuation=4"]["bound"]["busy_s"] <= (
        rows["token continuation=4"]["busy_s"] + 1e-9
    )


def _check_crossing(swept: list[Any], undeclared: dict[str, Any]) -> None:
    """The policy of another hardware profile: what its cloud costs differ in has no ratio, unless the
    grid declares that it shall have one; what is the same is compared in either case."""
    reason = "not comparable: different hardware profiles (paper-original / paper)"
    for found in (undeclared["busy"], undeclared["against"]["time"], undeclared["against"]["busy"]):
        assert found["estimate"] is None
        assert found["reason"] == f'{reason}; where that is meant: crosses = ["profile"]'
    assert undeclared["crossings"] == {}
    crossing = [(replace(point, crosses=("profile",)), *rest) for point, *rest in swept]
    (block,) = frontier(crossing)
    declared = next(row for row in block["rows"] if row["name"] == "original")
    assert declared["busy"]["estimate"] > 0 < declared["against"]["time"]["estimate"]
    words = "different hardware profiles (paper-original / paper)"
    assert declared["crossings"] == {"cloud": words, "against": words}
    # The edge alone neither ingests nor verifies: its costs are the same in both profiles.
    for name in ("time", "gap_closed", "cider_over_edge"):
        assert declared[name] == undeclared[name]
        assert declared[name]["reason"] is None or name == "gap_closed"


def _lose_the_cloud(path: Path) -> None:
    """In modelled time a link's outage is the same each time."""
    header, *rows = map(json.loads, path.read_text("utf-8").splitlines())
    rows[0]["trace"] = degraded(Trace.from_json(rows[0]["trace"])).to_json()
    path.write_text("".join(json.dumps(row) + "\n" for row in (header, *rows)), "utf-8")


def test_a_sweep_into_a_folder_of_another_that_runs_is_refused_before_it_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["sweep", str(grid(tmp_path)), "-o", str(tmp_path / "out")]
    with held(tmp_path / "out" / "frontier.json"):
        assert main(command) == 2
    assert "another run is writing" in capsys.readouterr().err
    assert not (tmp_path / "out" / "journals").exists()
    journal = tmp_path / "run.jsonl"
    with held(journal), pytest.raises(OutputError, match="another run is writing"):
        complete([(Point("edge", "edge"), journal)], None, {})


def _records(path: Path) -> list[Record]:
    return sorted(read(path)[1], key=lambda record: record.file_id)


def _records_of(content: bytes, tmp_path: Path) -> list[Record]:
    path = tmp_path / "before.jsonl"
    path.write_bytes(content)
    return _records(path)


def test_recordings_that_cannot_be_right_are_counted_once_a_sweep(tmp_path: Path) -> None:
    swept = []
    for mode in ("edge", "cloud"):
        path = tmp_path / f"{mode}.jsonl"
        with Journal.open(path, mode=mode, identity={}) as journal:
            for name, notes in (("a", {"silent": "…"}), ("b", {})):
                journal.append(Record(name, audio_notes=notes))
        swept.append((Point(mode, mode, {"language": "english"}), path, None))
    assert audio_notes_of(swept) == "1 of 2 recordings cannot be right: 1 silent once mixed down"


def block(**changes: Any) -> dict[str, Any]:
    interval = {"estimate": 0.6, "low": 0.5, "high": 0.7}
    row = {
        "name": "best",
        "total_s": 6.0,
        "time": interval,
        "busy": interval,
        "ttft": interval,
        "gap_closed": {"estimate": None, "low": None, "high": None},
        "above_bound": 0.1,
        "calls": 2.0,
        "against": {"name": "plain", "cider": {"estimate": -0.1, "low": -0.2, "high": 0.01}},
    }
    return {
        "language": "chinese",
        "prompt_type": "default",
        "hardware_profile": "paper",
        "link": None,
        "edge": {"total_s": 10.0},
        "rows": [row, {**row, "name": "plain", "calls": 4.0, "against": None}],
        **changes,
    }


def test_targets_are_judged_where_they_apply_and_what_is_undefined_is_not_met() -> None:
    other = block(hardware_profile="paper-int8", edge={"total_s": 2.0})
    target = Target(
        "best",
        {"hardware_profile": "paper-int8"},
        {"time": 0.6, "time_over_paper_edge": 0.59, "calls_over_against": 0.5},
        {"gap_closed": 0.9, "cider_high_against": 0.0},
    )
    verdicts = {v.measure: v for v in check_targets([target], [block(), other])}
    assert {name: v.met for name, v in verdicts.items()} == {
        "time": True,
        "time_over_paper_edge": False,
        "calls_over_against": True,
        "gap_closed": False,
        "cider_high_against": True,
    }
    assert verdicts["time_over_paper_edge"].value == pytest.approx(0.6)


def test_a_policy_that_was_not_run_misses_its_targets() -> None:
    (verdict,) = check_targets([Target("absent", {}, {"time": 1.0}, {})], [block()])
    assert (verdict.value, verdict.met) == (None, False)


def test_a_target_names_known_measures(tmp_path: Path) -> None:
    assert "time" in MEASURES
    with pytest.raises(ConfigError, match="a target has"):
        read_targets(grid(tmp_path, '[[target]]\npolicy = "a"\nmost = {speed = 1}'))
