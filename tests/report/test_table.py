"""The table: arms side by side, nulls with their reasons, paired differences."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from edgecloud.cli.main import main
from edgecloud.errors import DataError
from edgecloud.report.table import load_results, select_this_run, side_by_side
from edgecloud.results.result import Result
from edgecloud.results.result_file import build_result
from tests.results.synthetic import FakeOutcome, FakeScores


def result(mode: str, n: int = 8, *, shift: float = 0.0, run: str = "r", **flags: Any) -> Any:
    """The content of a result file, to be changed and :func:`typed`."""
    outcome = FakeOutcome(mode, n, **flags)
    return build_result(
        outcome,
        FakeScores(outcome, shift=shift),
        environment={},
        run_block={"run_id": run},
    ).to_json()


def typed(results: Iterable[Any]) -> list[Result]:
    return [Result.from_json(content) for content in results]


def table(results: Iterable[Any]) -> str:
    return side_by_side(typed(results))


def four() -> list[Any]:
    return [
        result("cloud", shift=0.4),
        result("spec", shift=0.1),
        result("spec", shift=0.3, acceptance="exact"),
        result("edge"),
    ]


def row(text: str, label: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(label))


def test_columns_are_edge_rank_exact_cloud_in_whatever_order_they_come() -> None:
    text = table(four())
    header = text.splitlines()[1]
    positions = [header.index(name) for name in ("edge", "spec rank", "spec exact", "cloud")]
    assert positions == sorted(positions)
    assert row(text, "CIDEr").split() == ["CIDEr", "0.550", "0.650", "0.850", "0.950"]


def test_a_null_is_a_dash_with_its_reason_below() -> None:
    text = table(four())
    dash, note = row(text, "BERTScore F1").split()[2:4]
    assert dash == "–"
    assert f"{note} no model folder was given" in text
    number = row(text, "correction rate").split()[3]
    assert f"{number} there were no calls of the cloud" in text


def test_paired_differences_show_the_gap_closed_and_the_factor_of_time() -> None:
    text = table(four())
    gap = row(text, "CIDEr gap closed")
    assert "0.250 [0.250, 0.250]" in gap
    assert "0.750 [0.750, 0.750]" in gap
    assert "–" in row(text, "emotion accuracy gap closed")
    assert "-0.100 [-0.100, -0.100]" in row(text, "CIDEr minus cloud")
    assert float(row(text, "total time over edge").split()[5]) > 0


def test_failed_samples_are_left_out_of_the_pairs_and_counted() -> None:
    text = table([result("edge"), result("cloud", shift=0.4, bad=(0, 3))])
    assert row(text, "failed").split() == ["failed", "0", "2"]
    assert "0.400 [0.400, 0.400]" in row(text, "CIDEr minus edge")


def test_different_clocks_give_no_factor_of_time() -> None:
    text = table([result("edge"), result("cloud", clock="modelled")])
    assert "–" in row(text, "total time over edge")
    assert "different clocks" in text
    assert row(text, "clock").split() == ["clock", "wall", "modelled:", "paper"]


def test_each_language_has_its_table_and_limits_are_shown() -> None:
    text = table([result("edge"), result("edge", language="chinese")])
    assert text.startswith("English")
    assert "\n\nChinese" in text
    assert text.count("limits in force (edge): 2 cores") == 2


def test_an_arm_that_occurs_twice_is_told_apart_by_its_name() -> None:
    text = table([result("edge", output_name="a"), result("edge", output_name="b")])
    assert "edge (a)" in text
    assert "edge (b)" in text


def test_one_sample_gives_no_interval_and_says_so() -> None:
    text = table([result("edge", 1), result("cloud", 1, shift=0.4)])
    assert "one sample gives no interval" in text


def test_results_are_read_from_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(json.dumps(result("edge")), encoding="utf-8")
    (tmp_path / "._one.json").write_bytes(b"\0\5\x16\7 what macOS notes on one.json")
    assert len(load_results([tmp_path, tmp_path / "one.json"])) == 2
    assert main(["table", "--results-dir", str(tmp_path)]) == 0


@pytest.mark.parametrize(
    "content, message",
    [(None, "No such file"), ("{", "is not JSON"), ('{"schema": "x"}', "is not a result file")],
)
def test_what_is_no_result_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "x.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=message):
        load_results([path])


def test_an_empty_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="pytest bench"):
        load_results([tmp_path])


def test_only_results_of_this_run_are_taken() -> None:
    some = typed([result("edge", run="old"), result("edge", run="new")])
    assert select_this_run(some, "new") == [some[1]]
    with pytest.raises(DataError, match="none of 2 results"):
        select_this_run(some, "other")


@pytest.mark.parametrize(
    "content, message",
    [
        ('{"schema": "edgecloud-result/1"}', "experiment_config is missing"),
        ("[" * 3000 + "]" * 3000, "nested more than 100 deep"),
        ('{"schema": "edgecloud-result/1", "metrics": NaN}', "NaN"),
        ('{"schema": "edgecloud-result/1", "metrics": 1e999}', "1e999"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, message: str
) -> None:
    (tmp_path / "good.json").write_text(json.dumps(result("edge")), encoding="utf-8")
    (tmp_path / "bad.json").write_text(content, encoding="utf-8")
    (tmp_path / "worse.json").write_text("{", encoding="utf-8")
    for command in (["table"], ["report", "--format", "csv"]):
        files = [str(tmp_path / f"{name}.json") for name in ("good", "bad", "worse")]
        assert main([*command, *files]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 2
        assert "bad.json" in lines[0]
        assert message in lines[0]
        assert "worse.json" in lines[1]


@pytest.mark.parametrize(
    "path, value, field",
    [
        (("experiment_config", "language"), "klingon", "language 'klingon' is not one of chinese"),
        (("experiment_config", "clock"), "sundial", "clock"),
        (("experiment_config", "prompt_type"), None, "prompt_type is not text"),
        (("metrics", "rouge_l"), "good", "rouge_l is not a number"),
        (("metrics", "defects"), [], "defects is not an object"),
        (("metrics", "cost_metrics", "bytes_up_mean"), [1], "bytes_up_mean"),
        (("detailed_results", 0, "latency_metrics", "total_time"), 1e300, "total_time"),
        (("detailed_results", 0, "latency_metrics", "ttft"), -1, "ttft is negative"),
        (("detailed_results", 0, "tokens"), ["a"], "tokens is not a list"),
        (("detailed_results", 0, "file_id"), "s001", "comes twice"),
        (("models", "edge"), "mini", "edge is not an object"),
        (("run",), None, "run is not an object"),
        (("quality_floors",), {}, "status is missing"),
    ],
)
def test_a_broken_field_is_named_with_its_file(
    tmp_path: Path, path: tuple[Any, ...], value: Any, field: str
) -> None:
    broken = result("edge")
    at = broken
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    (tmp_path / "x.json").write_text(json.dumps(broken), encoding="utf-8")
    with pytest.raises(DataError, match=r"x\.json") as failure:
        load_results([tmp_path / "x.json"])
    assert field in str(failure.value)
