"""Kill, resume, rescore, shard, merge, several workers: always the result of the plain run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from edgecloud.cli.main import main
from edgecloud.contracts import Trace
from edgecloud.datasets import corpus
from edgecloud.errors import ConfigError, JournalError, OutputError, WorkerError
from edgecloud.experiments import experiment
from edgecloud.experiments import run as arm
from edgecloud.experiments.reporting import machine, result_of
from edgecloud.files import held
from edgecloud.hardware.limits import LimitsReport
from edgecloud.results.journal import read
from edgecloud.results.kept import result_path
from edgecloud.settings.config import Config, resolve
from edgecloud.stages import listening
from tests.experiments.scripted import ScriptedSystem, config, manifest
from tests.results.synthetic import degraded
from tests.told import Told

ROOT = Path(__file__).parents[2]
N = 12
FLOORS: dict[str, Any] = {
    "settings": {},
    "settings_spec": {},
    "floors": {"chinese": {"spec-rank": {"avg_cider": 99.0}}},
}


@pytest.fixture(autouse=True)
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arm, "System", ScriptedSystem)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return manifest(tmp_path / "data", N)


def run(settings: Config, mode: Any = "spec") -> tuple[dict[str, Any], Path]:
    """The run's result without what may vary, and its journal."""
    outcome = experiment.run(mode, settings, floors=FLOORS)
    result = result_of(outcome, environment=machine(), run_block={}, floors=FLOORS)
    return still(result.to_json()), experiment.journal_path(mode, settings)


def still(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key != "run"}


def loaded(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Equal to the last byte of the file, the order of the fields included."""
    return json.dumps(one) == json.dumps(other)


@pytest.mark.system
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_twenty_kills_lose_no_finished_sample_and_end_in_the_same_result(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.experiments.killed_run", str(tmp_path), "200", "20", "7"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["killed"] == 20
    assert found["lost"] == 0
    # What was written but not yet told of when the kill came: one sample, no more.
    assert max(found["in_flight"]) <= 1
    assert found["after"][-1] > 20
    assert found["equal"]


@pytest.mark.parametrize("mode", ["edge", "cloud", "spec"])
@pytest.mark.parametrize("clock", ["wall", "modelled"])
def test_a_result_is_made_again_from_its_journal_alone(
    tmp_path: Path, data: Path, mode: str, clock: str
) -> None:
    own, journal = run(config(data, tmp_path, clock=clock, max_samples=9), mode)
    data.rename(data.with_name("gone.json"))
    assert main(["rescore", str(journal), "-o", str(tmp_path / "again.json")]) == 0
    again = loaded(tmp_path / "again.json")
    assert same(still(again), own)
    assert again["run"]["rescored_from"] == {"journal": journal.name}
    assert own["metrics"]["num_failed"] == 1
    assert own["quality_floors"]["status"] == "not asserted"
    held = read(journal)[0]["facts"]
    # Of samples that it may not ask for, the journal holds references alone.
    assert [row["file_id"] for row in held["corpus"]] == held["samples"]
    assert len(held["samples"]) == 9
    assert len(held["others"]) == N - 9
    assert all(map(all, held["others"]))


def test_floors_are_judged_from_the_journal_too(tmp_path: Path) -> None:
    data = manifest(tmp_path / "data", 6)
    own, journal = run(config(data, tmp_path))
    assert own["quality_floors"]["status"] == "failed"
    main(["rescore", str(journal), "-o", str(tmp_path / "again.json")])
    assert loaded(tmp_path / "again.json")["quality_floors"] == own["quality_floors"]


def test_a_run_that_has_not_ended_is_rescored_when_asked(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, journal = run(config(data, tmp_path))
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:4]) + lines[4][:20])
    command = ["rescore", str(journal), "-o", str(tmp_path / "part.json")]
    assert main(command) == 2
    assert f"holds 3 of the run's {N} samples" in capsys.readouterr().err
    assert main([*command, "--partial"]) == 0
    assert loaded(tmp_path / "part.json")["metrics"]["num_samples"] == 3


def test_a_shorter_resumed_run_is_rescored_as_short(tmp_path: Path, data: Path) -> None:
    run(config(data, tmp_path))
    own, journal = run(config(data, tmp_path, max_samples=4, resume=True))
    main(["rescore", str(journal), "-o", str(tmp_path / "again.json")])
    assert same(still(loaded(tmp_path / "again.json")), own)


def test_a_journal_without_its_facts_says_what_to_do(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, journal = run(config(data, tmp_path))
    header, records = read(journal)
    del header["facts"]
    journal.write_text(
        "".join(
            json.dumps(row) + "\n" for row in [header, *(record.to_json() for record in records)]
        )
    )
    assert main(["rescore", str(journal), "-o", str(tmp_path / "x.json")]) == 2
    assert "--resume" in capsys.readouterr().err


def shards(tmp_path: Path, data: Path, count: int, **flags: Any) -> list[Path]:
    return [
        run(config(data, tmp_path, shard=f"{i}/{count}", output_name=f"s{i}", **flags))[1]
        for i in range(1, count + 1)
    ]


@pytest.mark.parametrize("count, flags", [(1, {}), (3, {}), (5, {"max_samples": 9}), (N, {})])
def test_merged_shards_are_the_whole_run(
    tmp_path: Path, data: Path, count: int, flags: dict[str, Any]
) -> None:
    own, _ = run(config(data, tmp_path, **flags))
    journals = shards(tmp_path, data, count, **flags)
    assert sum(len(read(path)[1]) for path in journals) == flags.get("max_samples", N)
    output = tmp_path / "merged.json"
    # In any order.
    assert main(["merge", *map(str, reversed(journals)), "-o", str(output)]) == 0
    merged = loaded(output)
    assert same(still(merged), own)
    assert {part["shard"] for part in merged["run"]["merged_from"]} == {
        f"{i}/{count}" for i in range(1, count + 1)
    }


def test_what_cannot_be_merged_is_refused_with_the_reason(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journals = shards(tmp_path, data, 3)
    other = run(config(data, tmp_path, shard="3/3", output_name="other", k=5))[1]

    def refused(*paths: Path) -> str:
        assert main(["merge", *map(str, paths), "-o", str(tmp_path / "x.json")]) == 2
        return capsys.readouterr().err

    assert "4 of 12 samples are in none of the journals (s002, s005" in refused(*journals[:2])
    assert "sample s000 is in" in refused(*journals, journals[0])
    assert "settings.k: 3 in s1.jsonl, 5 in other.jsonl" in refused(*journals[:2], other)
    assert not (tmp_path / "x.json").exists()


def test_parts_from_different_machines_are_told(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journals = shards(tmp_path, data, 2)
    text = journals[1].read_text("utf-8")
    model = read(journals[1])[0]["facts"]["environment"]["cpu"]["model"]
    journals[1].write_text(text.replace(json.dumps(model), '"another processor"'), "utf-8")
    assert main(["merge", *map(str, journals), "-o", str(tmp_path / "m.json")]) == 0
    assert "environment.cpu.model" in capsys.readouterr().err
    parts = loaded(tmp_path / "m.json")["run"]["merged_from"]
    assert [len(part["differences"]) for part in parts] == [0, 1]


def test_workers_beside_each_other_give_the_same_result(tmp_path: Path, data: Path) -> None:
    own, _ = run(config(data, tmp_path / "one"))
    several, journal = run(config(data, tmp_path / "many", workers=4))
    assert same(own, several)
    assert len(read(journal)[1]) == N
    main(["rescore", str(journal), "-o", str(tmp_path / "again.json")])
    assert same(still(loaded(tmp_path / "again.json")), own)


def test_the_samples_of_other_workers_are_kept_when_one_dies(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ScriptedSystem, "dies_at", "s008")
    monkeypatch.setattr(ScriptedSystem, "delay_s", 0.01)
    settings = config(data, tmp_path, workers=2)
    with pytest.raises(WorkerError, match="died at s008"):
        experiment.run("spec", settings)
    done = {record.file_id for record in read(experiment.journal_path("spec", settings))[1]}
    assert {"s000", "s001", "s002", "s003", "s004", "s005", "s006"} <= done
    monkeypatch.setattr(ScriptedSystem, "dies_at", None)
    resumed, _ = run(config(data, tmp_path, workers=2, resume=True))
    assert same(resumed, run(config(data, tmp_path / "plain"))[0])


def test_each_worker_has_cores_of_its_own(tmp_path: Path, data: Path) -> None:
    with arm.Arm("spec", config(data, tmp_path, workers=3, max_cpu_cores=2)) as running:
        assert [system.first_core for system in running._systems] == [0, 2, 4]  # type: ignore[attr-defined]


def test_workers_in_wall_time_and_empty_or_broken_shards_are_refused(
    tmp_path: Path, data: Path
) -> None:
    with pytest.raises(ConfigError, match="--workers 2 needs --clock modelled"):
        experiment.run("spec", config(data, tmp_path, workers=2, clock="wall"))
    with pytest.raises(ConfigError, match="leave out --workers"):
        experiment.run_interleaved([("edge", config(data, tmp_path, workers=2))])
    with pytest.raises(ConfigError, match="13/13 holds none of the samples"):
        experiment.run("spec", config(data, tmp_path, shard="13/13"))
    for wrong in ("0/3", "4/3", "1", "1/0", "-1/2", "a/b"):
        with pytest.raises(ConfigError, match=r"shard: .* is not i/n"):
            resolve({"shard": wrong})


def test_a_resumed_run_with_other_settings_is_refused_with_the_difference(
    tmp_path: Path, data: Path
) -> None:
    run(config(data, tmp_path))
    with pytest.raises(JournalError, match=r"settings\.rank_threshold: 20 in the journal, 9 now"):
        experiment.run("spec", config(data, tmp_path, rank_threshold=9, resume=True))


def test_a_run_without_resume_puts_the_unfinished_one_of_its_name_aside_and_says_so(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ScriptedSystem, "dies_at", "s004")
    with pytest.raises(WorkerError):
        run(config(data, tmp_path))
    monkeypatch.setattr(ScriptedSystem, "dies_at", None)
    told = Told()
    with listening(told):
        run(config(data, tmp_path))
    (kept,) = (tmp_path / "journals" / "kept").iterdir()
    assert len(read(kept)[1]) == 4
    assert [line for line in told.said if f"4 of {N} samples" in line and str(kept) in line]
    # What ended is replaced, as ever.
    result = result_path("spec", config(data, tmp_path))
    result.parent.mkdir()
    result.touch()
    run(config(data, tmp_path))
    assert list((tmp_path / "journals" / "kept").iterdir()) == [kept]


def test_a_second_run_of_the_same_name_is_refused_before_anything_starts(
    tmp_path: Path, data: Path
) -> None:
    settings = config(data, tmp_path)
    with (
        held(experiment.journal_path("spec", settings)),
        pytest.raises(OutputError, match="another run is writing"),
    ):
        run(settings)


@pytest.mark.parametrize("command", ["rescore", "merge"])
def test_a_result_that_another_process_will_write_is_left_to_it(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    _, journal = run(config(data, tmp_path, max_samples=3))
    output = tmp_path / "results" / "spec_results.json"
    with held(output):
        assert main([command, str(journal), "-o", str(output)]) == 2
    assert f"another run is writing {output}" in capsys.readouterr().err
    assert not output.exists()
    assert main([command, str(journal), "-o", str(output)]) == 0


def test_a_warm_up_that_lost_the_cloud_is_told_and_kept(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, asked = ScriptedSystem.caption, 0

    def caption(self: ScriptedSystem, request: Any, on_commit: Any = None) -> Any:
        nonlocal asked
        found, asked = answer(self, request, on_commit), asked + 1
        if asked == 1:
            found.trace[:] = degraded(Trace.from_json(found.trace)).to_json()
        return found

    monkeypatch.setattr(ScriptedSystem, "caption", caption)
    said = Told()
    with listening(said):
        outcome = experiment.run("spec", config(data, tmp_path, clock="wall", max_samples=2))
    (line,) = [line for line in said.said if "warm-up" in line]
    assert line.startswith("1 of 2 warm-up requests lost the cloud and went on with the edge alone")
    assert "CloudUnavailable (no cloud answers)" in line
    result = result_of(outcome, environment={}, run_block={})
    assert result.metrics.num_degraded == 0
    assert result.run.cold is not None
    (lost,) = result.run.cold["degraded"]
    assert (lost["request"], lost["error"]) == (0, "CloudUnavailable")


LIMITS = LimitsReport.of(2, 0.4, cgroup={"cpu": "v1", "memory": "v1"}, watched=True).to_json()


def test_memory_that_grows_over_the_cap_while_samples_run_is_in_the_limits(
    tmp_path: Path, data: Path
) -> None:
    settings = config(data, tmp_path, clock="wall", max_samples=3)
    outcome = experiment.run("edge", settings)
    outcome.setup["limits"] = LIMITS

    def limits(*peaks_gb: float) -> Any:
        records = [
            replace(record, resources={**(record.resources or {}), "ram_gb_peak": peak_gb})
            for record, peak_gb in zip(outcome.records, peaks_gb, strict=True)
        ]
        grown = replace(outcome, records=tuple(records))
        return result_of(grown, environment={}, run_block={}).limits.facts

    assert limits(0.3, 0.39, 0.4) == LIMITS
    found = limits(0.3, 0.557, 0.4)
    assert found["in_force"]["memory"] == {"enforced_by": None, "watched": True}
    assert found["summary"].endswith("0.4 GB (watched)")
    assert any("0.56 GB were resident" in note for note in found["notes"])


def test_in_modelled_time_the_limits_are_looked_at_again_when_all_samples_have_run(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ScriptedSystem, "__enter__", _limited)
    settings = config(data, tmp_path, max_samples=2)
    for resident_gb, enforced_by in ((0.4, "cgroup-v1"), (0.5, None)):
        monkeypatch.setattr(arm, "resident_bytes", lambda _, gb=resident_gb: int(gb * 1e9))
        outcome = experiment.run("edge", settings)
        assert outcome.setup["limits"]["in_force"]["memory"]["enforced_by"] == enforced_by
        # A result made again from the journal says the same.
        header, _ = read(experiment.journal_path("edge", settings))
        assert header["facts"]["setup"]["limits"] == outcome.setup["limits"]


def _limited(system: ScriptedSystem) -> ScriptedSystem:
    system.facts["limits"] = LIMITS
    return system


class Counted(dict[str, Any]):
    """A mapping that counts what it is asked; it is not gone through."""

    asked = 0

    def __contains__(self, name: object) -> bool:
        self.asked += 1
        return super().__contains__(name)

    def __iter__(self) -> Any:
        raise AssertionError("the records are gone through")

    items = keys = values = __iter__


def test_samples_that_are_done_are_counted_as_they_come(tmp_path: Path, data: Path) -> None:
    with arm.Arm("spec", config(data, tmp_path)) as running:
        running.records = Counted(running.records)
        for number, _ in enumerate(running.run(), start=1):
            assert running.done == number
        assert running.records.asked <= 2 * N


def test_a_run_reads_its_manifest_and_hashes_its_recordings_once(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {name: Mock(wraps=getattr(corpus, name)) for name in ("load_manifest", "data_hash")}
    for name, counted in asked.items():
        monkeypatch.setattr(corpus, name, counted)
    run(config(data, tmp_path))
    assert {name: counted.call_count for name, counted in asked.items()} == dict.fromkeys(asked, 1)
