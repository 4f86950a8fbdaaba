"""The first look: each series as it ran and on the pair that it stands for, within the width that there is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgecloud.cli.main import main
from edgecloud.report.overview import deployed_times, overview
from edgecloud.results.result import Result, read_result
from edgecloud.settings.presets import PRESETS

EARLIER = Path(__file__).parents[1] / "earlier"
NAMES = ("modelled-edge", "wall-spec", "modelled-cloud")


def found(*names: str) -> list[tuple[Result, Path]]:
    return [
        (read_result(EARLIER / "results" / f"{name}.json"), EARLIER / "journals" / f"{name}.jsonl")
        for name in names
    ]


def shown(results: list[tuple[Result, Path]], *, width: int = 80) -> str:
    return overview(
        results, hardware_profile="paper", source="3B on a phone, 7B on an A100", width=width
    )


def test_a_series_is_shown_as_it_ran_and_as_it_would_be_deployed() -> None:
    text = shown(found(*NAMES))
    spec = next(line.split() for line in text.splitlines() if line.startswith("spec"))
    here, there = float(spec[3]), float(spec[6])
    (result, journal), *_ = found("wall-spec")
    assert here == pytest.approx(result.metrics.value("latency_metrics.total_time_mean"), rel=0.01)
    assert there == pytest.approx(
        deployed_times(journal, hardware_profile="paper").total_s, rel=0.01
    )
    assert there > 5  # the phone's prefill alone takes 7.3 s in these constants


def test_modelled_time_retimed_on_its_own_profile_is_itself() -> None:
    for name in ("modelled-edge", "modelled-spec", "modelled-cloud"):
        ((result, journal),) = found(name)
        times = deployed_times(journal, hardware_profile="paper")
        for reached, name in (
            (times.total_s, "latency_metrics.total_time_mean"),
            (times.ttft_s, "latency_metrics.ttft_mean"),
            (times.busy_s, "cost_metrics.cloud_busy_time_mean"),
        ):
            assert reached == pytest.approx(result.metrics.value(name), abs=1e-9)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    text = shown(found(*NAMES, "degraded"), width=width)
    assert max(map(len, text.splitlines())) <= max(width, 72)
    assert "lost the cloud" in " ".join(text.split())  # why the degraded run has no modelled time
    assert "[1]" in text


def test_below_it_stands_where_the_cloud_ran_and_what_the_columns_mean() -> None:
    ((result, journal),) = found("wall-spec")
    content = result.to_json()
    content["data"]["manifest"] = "embedded"
    plain = " ".join(shown([(Result.from_json(content), journal)]).split())
    assert "shared this machine's processor" in plain
    assert "miniatures" in plain
    assert "synthetic speech" in plain
    assert "7B on an A100" in plain
    assert "not measured" in plain
    content["models"]["cloud"]["device"] = "cuda:0"
    content["data"]["manifest"] = "mine.json"
    plain = shown([(Result.from_json(content), journal)])
    assert "ran on cuda:0" in plain
    assert "shared" not in plain
    assert "miniatures" not in plain


def test_a_run_with_the_settings_of_a_preset_of_ours_has_its_name() -> None:
    ((result, journal),) = found("wall-spec")
    content = result.to_json()
    content["experiment_config"].update(PRESETS["frontier"])
    text = shown([(Result.from_json(content), journal)])
    assert "spec frontier" in text


def test_the_command_finds_journals_beside_the_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    results = [str(EARLIER / "results" / f"{name}.json") for name in NAMES]
    assert main(["table", *results, "--deployed", "paper"]) == 0
    assert "deployed (modelled)" in capsys.readouterr().out
    alone = tmp_path / "results" / "alone.json"
    alone.parent.mkdir()
    alone.write_text(json.dumps(found("wall-spec")[0][0].to_json()), encoding="utf-8")
    assert main(["table", str(alone), "--deployed", "paper"]) == 0
    assert "[1]" in capsys.readouterr().out
    assert main(["table", *results, "--deployed", "nothing"]) == 2
    assert "nothing" in capsys.readouterr().err
