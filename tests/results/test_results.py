"""The result file: the guide's names, nulls with reasons, and nothing that varies outside ``run``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgecloud.errors import OutputError
from edgecloud.quality.tokenize import LANGUAGE_TOKENIZERS
from edgecloud.results.aggregate import measured
from edgecloud.results.environment import run_block
from edgecloud.results.result import read_result
from edgecloud.results.result_file import PRIMARY_TOKENIZER, build_result, write_result
from tests.results.synthetic import FakeOutcome, FakeScores

MODES = ["edge", "cloud", "spec"]
SCHEMA_DOC = Path(__file__).parents[2] / "reports" / "README.md"


def built(mode: str, n: int = 6, *, run: str = "r", **flags: Any) -> dict[str, Any]:
    outcome = FakeOutcome(mode, n, **flags)
    return build_result(
        outcome, FakeScores(outcome), environment={"os": "linux"}, run_block={"run_id": run}
    ).to_json()


def test_it_has_the_guides_structure_and_key_names() -> None:
    result = built("spec")
    assert result["experiment_config"]["mode"] == "spec"
    metrics = result["metrics"]
    for name in ("avg_bleu", "avg_cider", "avg_bertscore_f1", "corpus_bleu_1", "rouge_l"):
        assert name in metrics
    for name in ("ttft", "itps", "otps", "oet", "total_time", "cpu_percent", "ram_gb", "gpu_util"):
        for statistic in ("mean", "min", "max"):
            assert f"{name}_{statistic}" in metrics["latency_metrics"]
    assert "cloud_busy_time_mean" in metrics["cost_metrics"]
    assert "cloud_call_rate" in metrics["speculative_decoding_metrics"]
    entry = result["detailed_results"][0]
    for name in ("file_id", "dataset", "reference_caption", "generated_text", "cider"):
        assert entry[name] is not None
    assert entry["latency_metrics"]["ttft"] > 0


@pytest.mark.parametrize("mode", MODES)
def test_records_that_were_measured_and_let_go_of_give_the_same_result(mode: str) -> None:
    outcome = FakeOutcome(mode, 6)

    def result() -> dict[str, Any]:
        return build_result(outcome, FakeScores(outcome), environment={}, run_block={}).to_json()

    whole = result()
    outcome.records = tuple(measured(one, k=outcome.config.draft.k) for one in outcome.records)
    assert max(len(one.trace.events) for one in outcome.records) == 1
    assert result() == whole


def test_a_file_has_a_line_for_each_sample_and_reads_back_as_it_was(tmp_path: Path) -> None:
    outcome = FakeOutcome("spec", 3)
    result = build_result(outcome, FakeScores(outcome), environment={}, run_block={})
    path = write_result(tmp_path / "result.json", result)
    text = path.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith('  {"file_id"')]
    rows = [json.loads(line.rstrip(",")) for line in lines]
    assert rows == result.to_json()["detailed_results"]
    assert json.loads(text) == result.to_json()
    assert read_result(path) == result


_STATISTIC = re.compile(r"_(mean|min|max|p50|p90|p99|total)$")
_SCORE = re.compile(r"(avg_)?bertscore_\w+|(corpus_)?bleu_\d|(zh|en)\.[\w.]+|rouge_l|cider")
"""Names that are written down as a family."""


@pytest.mark.parametrize("mode", MODES)
def test_every_field_is_described(mode: str) -> None:
    result = built(mode)
    result["run"].update(run_block())
    entry, metrics = result["detailed_results"][0], result["metrics"]
    names = {*result, *result["run"], *metrics, *entry}
    for block in ("latency_metrics", "speculative_decoding_metrics", "cost_metrics"):
        names |= {*entry[block], *(_STATISTIC.sub("", name) for name in metrics[block])}
    described = set(re.findall(r"[a-z_0-9.]+", SCHEMA_DOC.read_text(encoding="utf-8")))
    assert {name for name in names if not _SCORE.fullmatch(name)} - described == set()


@pytest.mark.parametrize("mode", MODES)
def test_every_null_in_the_metrics_has_its_reason(mode: str) -> None:
    metrics = built(mode)["metrics"]
    nulls = [name for name, value in _walk(metrics) if value is None]
    assert nulls
    assert [name for name in nulls if name not in metrics["notes"]] == []


@pytest.mark.parametrize("mode", MODES)
def test_every_null_of_a_sample_has_its_reason(mode: str) -> None:
    for entry in built(mode)["detailed_results"]:
        for block in (
            "latency_metrics",
            "speculative_decoding_metrics",
            "cost_metrics",
            "resources",
        ):
            values = entry[block]
            nulls = {name for name, value in values.items() if value is None}
            assert nulls <= set(values["reasons"])


def test_a_failed_sample_is_counted_and_never_scored() -> None:
    result = built("edge", bad=(1,))
    assert (result["metrics"]["num_samples"], result["metrics"]["num_failed"]) == (6, 1)
    entry = result["detailed_results"][1]
    assert entry["status"] == "failed"
    assert entry["error"]["type"] == "AudioError"
    assert entry["generated_text"] is None
    assert entry["cider"] is None
    assert entry["latency_metrics"] is None
    assert result["detailed_results"][2]["file_id"] == "s002"
    assert result["detailed_results"][2]["cider"] == pytest.approx(0.52)


def test_a_run_in_which_everything_failed_still_has_a_result() -> None:
    result = built("spec", 2, bad=(0, 1))
    assert result["metrics"]["latency_metrics"]["ttft_mean"] is None
    assert result["metrics"]["notes"]["latency_metrics.ttft_mean"] == "no sample was completed"


def test_two_modelled_runs_differ_in_the_run_block_alone() -> None:
    first = built("spec", run="one", clock="modelled", output_name="a")
    second = built("spec", run="two", clock="modelled", output_name="b", output_dir="elsewhere")
    assert first.pop("run") != second.pop("run")
    assert json.dumps(first) == json.dumps(second)
    assert first["metrics"]["latency_metrics"]["cpu_percent_mean"] is None
    reason = first["metrics"]["notes"]["latency_metrics.cpu_percent_mean"]
    assert reason == "time is modelled"


def test_plain_names_are_those_of_the_languages_first_tokeniser() -> None:
    assert {name: some[0] for name, some in LANGUAGE_TOKENIZERS.items()} == PRIMARY_TOKENIZER


def test_a_result_is_written_whole_and_as_it_is(tmp_path: Path) -> None:
    result = built("cloud")
    path = write_result(tmp_path / "results" / "x.json", result)
    assert json.loads(path.read_text(encoding="utf-8")) == result
    with pytest.raises(ValueError, match="JSON"):
        write_result(path, {"x": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8")) == result
    assert [child.name for child in path.parent.iterdir()] == ["x.json"]


def test_an_unwritable_result_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="--output-dir") as caught:
        write_result(tmp_path / "file" / "x.json", {})
    assert "\n" not in str(caught.value)


def _walk(block: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in block.items():
        if name in ("notes", "histograms"):
            continue
        if isinstance(value, dict):
            yield from _walk(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


@pytest.mark.parametrize("mode", MODES)
def test_a_quantity_of_all_samples_is_that_of_each(mode: str) -> None:
    outcome = FakeOutcome(mode, 6)
    result = build_result(outcome, FakeScores(outcome), environment={}, run_block={})
    for name in (
        "cider",
        "total_time",
        "output_tokens",
        "bytes_up",
        "cloud_token_share",
        "nothing",
    ):
        each = {sample.file_id: sample.value(name) for sample in result.completed}
        known = {file_id: value for file_id, value in each.items() if value is not None}
        assert result.per_sample(name) == known
