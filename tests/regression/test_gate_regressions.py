"""Regressions that are made here, each caught; and what is none, let through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecloud.decoding.gates import GATES
from edgecloud.regression import result_rows as results
from edgecloud.regression.baselines import accept
from edgecloud.regression.reading import read
from edgecloud.regression.tolerances import Policy
from edgecloud.regression.verdict import judge
from edgecloud.regression.wording import text
from edgecloud.settings.config import resolve
from tests.regression.gate_cases import (
    changed,
    gate,
    modelled_outcome,
    noise,
    reasons,
    result,
    slowed,
)
from tests.results.synthetic import FakeOutcome


def total_s(content: dict[str, Any]) -> float:
    return float(content["metrics"]["latency_metrics"]["total_time_mean"])


def test_the_same_modelled_run_passes(tmp_path: Path) -> None:
    report = gate(tmp_path, result(modelled_outcome()), result(modelled_outcome()))
    assert report.passed
    assert {check.interval for check in report.checks} == {"exact"}


def test_extra_edge_steps_of_three_percent_of_modelled_time_are_caught(tmp_path: Path) -> None:
    old, new = result(modelled_outcome()), result(modelled_outcome(wasteful=True))
    assert 1.02 < total_s(new) / total_s(old) < 1.04
    texts = [[row["tokens"] for row in side["detailed_results"]] for side in (old, new)]
    assert texts[0] == texts[1]
    assert ("total_time", "regression") in reasons(gate(tmp_path, old, new))


@pytest.mark.parametrize("n", [1, 2, 40])
def test_one_percent_more_modelled_time_is_always_caught(tmp_path: Path, n: int) -> None:
    outcome = modelled_outcome(n)
    report = gate(tmp_path, result(outcome), result(slowed(outcome, [1.01] * n)))
    assert ("total_time", "regression") in reasons(report)
    assert ("ttft", "regression") in reasons(report)


def test_one_sample_that_is_slower_with_the_same_tokens_is_caught(tmp_path: Path) -> None:
    outcome = modelled_outcome(40)
    factors = [1.01, *[1.0] * 39]
    report = gate(tmp_path, result(outcome), result(slowed(outcome, factors)))
    found = next(check for check in report.failures if check.what == "total_time")
    assert "1 of 40 samples" in found.message
    assert "+1.00%" in found.message


def test_faster_modelled_time_is_better_and_passes(tmp_path: Path) -> None:
    outcome = modelled_outcome()
    report = gate(tmp_path, result(outcome), result(slowed(outcome, [0.9] * 12)))
    assert report.passed
    assert "better" in {check.verdict for check in report.checks}


def wall(n: int = 30) -> FakeOutcome:
    return FakeOutcome("edge", n)


def test_a_slowdown_of_a_fifth_in_noisy_paired_wall_time_is_caught(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    old = result(slowed(wall(), noise(rng, 30)))
    new = result(slowed(wall(), noise(rng, 30) * 1.2))
    assert ("total_time", "regression") in reasons(gate(tmp_path, old, new))


def test_noise_alone_passes_and_is_called_noise(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    old, new = (result(slowed(wall(120), noise(rng, 120))) for _ in range(2))
    report = gate(tmp_path, old, new)
    assert report.passed
    assert not report.undecided
    times = [check for check in report.checks if check.what in ("ttft", "total_time")]
    assert {(check.verdict, check.message) for check in times} == {("same", "noise")}


def test_wall_time_pairs_by_sample_and_not_by_place(tmp_path: Path) -> None:
    """Samples of very different lengths, in another order: unpaired, 20% would drown."""
    rng = np.random.default_rng(3)
    lengths = np.exp(rng.normal(0.0, 1.0, 30))
    old = result(slowed(wall(), list(lengths)))
    new = result(slowed(wall(), list(lengths * 1.2 * np.exp(rng.normal(0.0, 0.02, 30)))))
    new["detailed_results"].reverse()
    assert ("total_time", "regression") in reasons(gate(tmp_path, old, new))


def test_few_wall_samples_are_said_to_be_too_few(tmp_path: Path) -> None:
    report = gate(tmp_path, result(wall(3)), result(slowed(wall(3), [2.0] * 3)))
    assert report.passed
    found = next(check for check in report.checks if check.what == "total_time")
    assert found.verdict == "undecided"
    assert "3 are too few" in found.message
    assert (found.change, found.more) == ("+100.00%", 2)


@pytest.mark.parametrize("make", [wall, modelled_outcome], ids=["wall", "modelled"])
def test_a_drop_of_quality_is_caught(tmp_path: Path, make: Any) -> None:
    outcome = make(20)
    report = gate(tmp_path, result(outcome), result(outcome, shift=-0.05))
    assert ("cider", "regression") in reasons(report)
    assert ("bleu_4", "regression") in reasons(report)
    assert gate(tmp_path, result(outcome), result(outcome, shift=-0.005)).passed


@pytest.mark.parametrize("loss, verdict", [(0.05, "same"), (0.4, "undecided")])
def test_a_drop_of_quality_within_its_noise_is_the_same_only_where_a_loss_is_excluded(
    tmp_path: Path, loss: float, verdict: str
) -> None:
    def few_bad(content: dict[str, Any]) -> None:
        for row in content["detailed_results"][:2]:
            row["cider"] -= loss

    old = result(wall())
    report = gate(tmp_path, old, changed(old, few_bad))
    assert report.passed
    found = next(check for check in report.checks if check.what == "cider")
    assert found.verdict == verdict
    assert "…" in found.interval
    assert (found.more is not None) == (verdict == "undecided")


def test_a_score_that_is_gone_is_missing(tmp_path: Path) -> None:
    def no_cider(content: dict[str, Any]) -> None:
        content["metrics"]["cider"] = None
        for row in content["detailed_results"]:
            row["cider"] = None

    old = result(modelled_outcome())
    assert reasons(gate(tmp_path, old, changed(old, no_cider))) == [("cider", "missing")]


def test_an_optional_score_may_be_missing_or_of_another_scorer(tmp_path: Path) -> None:
    def scored(value: float | None, model: str) -> Any:
        def change(content: dict[str, Any]) -> None:
            content["quality_info"]["bertscore_f1"] = {"model": model}
            content["metrics"]["bertscore_f1"] = value
            for row in content["detailed_results"]:
                row["bertscore_f1"] = value

        return changed(result(modelled_outcome()), change)

    old = scored(0.8, "large")
    assert reasons(gate(tmp_path, old, scored(0.7, "large"))) == [("bertscore_f1", "regression")]
    for new in (scored(None, "large"), scored(0.3, "small")):
        report = gate(tmp_path, old, new)
        assert report.passed
        assert [check.verdict for check in report.checks if "bertscore_f1" in str(check)] == [
            "note"
        ]


def other_tokens(count: int) -> Any:
    def change(content: dict[str, Any]) -> None:
        for row in content["detailed_results"][:count]:
            row["tokens"][0] += 1
            row["latency_metrics"]["total_time"] *= 1.5

    return change


def test_tokens_changed_by_another_processor_are_no_regression_of_the_code(tmp_path: Path) -> None:
    outcome = modelled_outcome(40)
    new = changed(result(outcome, cpu="processor B"), other_tokens(2))
    report = gate(tmp_path, result(outcome), new)
    assert report.passed
    note = next(check for check in report.checks if check.what == "texts")
    assert "environment CPU differs (cpu.model processor A → processor B)" in note.message
    assert "not a regression of the code" in note.message
    compared = {check.what: check for check in report.checks}
    assert (compared["total_time"].n, compared["total_time"].interval) == (38, "exact")
    assert (compared["cider"].n, compared["cider"].verdict) == (40, "same")


def test_tokens_changed_on_the_same_processor_are_the_change_of_the_code(tmp_path: Path) -> None:
    outcome = modelled_outcome(40)
    report = gate(tmp_path, result(outcome), changed(result(outcome), other_tokens(2)))
    assert ("total_time", "regression") in reasons(report)
    assert "on the same processor" in next(c.message for c in report.checks if c.what == "texts")


def test_a_slowdown_shows_on_another_processor_too(tmp_path: Path) -> None:
    outcome = modelled_outcome(40)
    slow = result(slowed(outcome, [1.01] * 40), cpu="processor B")
    report = gate(tmp_path, result(outcome), changed(slow, other_tokens(2)))
    assert ("total_time", "regression") in reasons(report)


FAIL = Policy(undecided="fail")


def test_too_many_other_tokens_on_another_processor_are_undecided(tmp_path: Path) -> None:
    outcome = modelled_outcome(10)
    new = changed(result(outcome, cpu="processor B"), other_tokens(5))
    report = gate(tmp_path, result(outcome), new)
    assert report.passed
    assert [check.what for check in report.undecided] == ["texts"]
    assert {check.what: check.n for check in report.checks}["total_time"] == 5
    assert reasons(gate(tmp_path, result(outcome), new, FAIL)) == [("texts", "undecided")]


def spread(change: float, width: float) -> Any:
    """Every text another, and every CIDEr moved by ``change`` and by up to ``width`` to either side."""

    def move(content: dict[str, Any]) -> None:
        other_tokens(len(content["detailed_results"]))(content)
        for number, row in enumerate(content["detailed_results"]):
            row["cider"] += change + width * (-1) ** number

    return move


@pytest.mark.parametrize(
    "change, width, verdict",
    [(0.0, 0.005, "same"), (-0.01, 0.3, "undecided"), (-0.1, 0.1, "regression")],
)
@pytest.mark.parametrize("make", [modelled_outcome, lambda n: FakeOutcome("edge", n)])
def test_quality_is_compared_by_intervals_where_another_processor_changed_every_text(
    tmp_path: Path, make: Any, change: float, width: float, verdict: str
) -> None:
    outcome = make(40)
    new = changed(result(outcome, cpu="processor B"), spread(change, width))
    report = gate(tmp_path, result(outcome), new, Policy(allow=("hardware",)))
    cider = next(check for check in report.checks if check.what == "cider")
    assert (cider.verdict, cider.n) == (verdict, 40)
    assert (("cider", "regression") in reasons(report)) == (verdict == "regression")
    strict = gate(tmp_path, result(outcome), new, Policy(allow=("hardware",), undecided="fail"))
    assert (("cider", "undecided") in reasons(strict)) == (verdict == "undecided")
    if outcome.config.hardware.clock == "modelled":
        assert "total_time" not in {check.what for check in report.checks}


def test_other_hardware_in_wall_time_still_has_its_quality_compared(tmp_path: Path) -> None:
    old = result(wall(40))
    new = changed(result(wall(40), cpu="processor B"), spread(-0.1, 0.1))
    report = gate(tmp_path, old, new)
    assert reasons(report) == [("hardware", "different"), ("cider", "regression")]
    assert "total_time" not in {check.what for check in report.checks}


def test_a_corpus_score_without_samples_is_undecided_where_texts_differ(tmp_path: Path) -> None:
    outcome = modelled_outcome(10)
    worse = changed(result(outcome, cpu="processor B"), other_tokens(1))
    worse["metrics"]["rouge_l"] = (worse["metrics"]["rouge_l"] or 0.5) - 0.2
    old = changed(result(outcome), set_("metrics", "rouge_l", value=0.5))
    found = {check.what: check for check in gate(tmp_path, old, worse).checks}
    assert found["rouge_l"].verdict == "undecided"
    assert "no interval" in found["rouge_l"].message


def test_load_and_drift_stand_beside_verdicts_of_wall_time(tmp_path: Path) -> None:
    old, new = (result(slowed(wall(40), [1.0] * 20 + [late] * 20)) for late in (1.0, 1.5))
    old["run"]["load_average"], new["run"]["load_average"] = [0.1, 0, 0], [3.25, 0, 0]
    report = gate(tmp_path, old, new)
    found = {check.what: check for check in report.checks}
    assert found["total_time"].load == "0.10 → 3.25"
    assert found["total_time"].drift == "0.96 → 1.44"
    assert (found["cider"].load, found["cider"].drift) == ("", "")
    assert "the new run began beside a load of 3.2 on 2 cores" in found["conditions"].message
    assert "second half over first: " in found["conditions"].message
    assert "0.10 → 3.25" in text(report)
    accept([tmp_path / "old.json"], tmp_path / "b", reason="x")
    kept = judge(read(tmp_path / "b"), read(tmp_path / "new.json"), Policy(), names=("b", "n"))
    assert {(check.what, check.verdict, check.load, check.drift) for check in kept.checks} == {
        (check.what, check.verdict, check.load, check.drift) for check in report.checks
    }


def test_modelled_time_and_quiet_machines_have_no_conditions_to_note(tmp_path: Path) -> None:
    quiet = result(wall(40))
    quiet["run"]["load_average"] = [0.5, 0, 0]
    for content in (quiet, result(modelled_outcome(9))):
        assert not [c for c in gate(tmp_path, content, content).checks if c.what == "conditions"]


def set_(*path: str, value: Any) -> Any:
    def change(content: dict[str, Any]) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return change


DIFFERENT = {
    "data": set_("data", "sha256", value="other"),
    "models": set_("models", "edge", "sha256", value="33"),
    "settings": set_("experiment_config", "k", value=5),
    "scorers": set_("quality_info", "en.simple.cider", value={"library": "pycocoevalcap 2"}),
    "hardware": set_("hardware_profile", "edge", "step_s", value=0.5),
}


def known(identity: str, headers: str | None = None) -> Any:
    facts = {"name": "e", "sha256": identity, "device": "cpu"}
    return set_(
        "models", "edge", value={**facts, **({"headers_sha256": headers} if headers else {})}
    )


@pytest.mark.parametrize(
    "old, new, verdict",
    [
        (known("headers:1"), known("a", "headers:1"), "note"),
        (known("a", "headers:1"), known("headers:1"), "note"),
        (known("headers:1"), known("headers:1"), "note"),
        (known("headers:1"), known("a", "headers:2"), "different"),
        (known("headers:1"), known("a"), "different"),
        (known("a", "headers:1"), known("b", "headers:1"), "different"),
        (known("a"), known("a", "headers:1"), None),
    ],
)
def test_weights_known_by_headers_alone_are_compared_by_those_and_it_is_said(
    tmp_path: Path, old: Any, new: Any, verdict: str | None
) -> None:
    base = result(modelled_outcome())
    found = gate(tmp_path, changed(base, old), changed(base, new))
    said = [check for check in found.checks if check.what == "models"]
    assert [check.verdict for check in said] == ([] if verdict is None else [verdict])
    if verdict == "note":
        assert "known by their headers alone" in said[0].message
    assert found.passed is (verdict != "different")


@pytest.mark.parametrize("adapter, passed", [("fast", True), ("general", False)])
def test_a_model_of_before_there_were_two_ways_to_run_it_ran_the_first(
    tmp_path: Path, adapter: str, passed: bool
) -> None:
    base = result(modelled_outcome())
    now = changed(
        base, set_("models", "edge", value={**base["models"]["edge"], "adapter": adapter})
    )
    assert gate(tmp_path, base, now).passed is passed


@pytest.mark.parametrize("aspect", list(DIFFERENT))
def test_what_differs_in_modelled_time_fails_unless_allowed(tmp_path: Path, aspect: str) -> None:
    old = result(modelled_outcome())
    old["quality_info"]["en.simple.cider"] = {"library": "pycocoevalcap 1"}
    new = changed(old, DIFFERENT[aspect])
    assert reasons(gate(tmp_path, old, new)) == [(aspect, "different")]
    allowed = gate(tmp_path, old, new, Policy(allow=(aspect,)))
    assert allowed.passed
    assert any(check.message.startswith("allowed: ") for check in allowed.checks)


@pytest.mark.parametrize(
    "change",
    [
        set_("environment", "cpu", "model", value="processor B"),
        set_("environment", "memory_total_gb", value=64.0),
        set_("limits", "in_force", value={"cpu": {"affinity": [0]}}),
        set_("models", "edge", "device", value="cuda:0"),
    ],
)
def test_other_hardware_fails_in_wall_time(tmp_path: Path, change: Any) -> None:
    old = result(wall())
    old["limits"]["in_force"] = {"cpu": {"affinity": [0, 1]}}
    assert reasons(gate(tmp_path, old, changed(old, change))) == [("hardware", "different")]


def test_other_cores_of_the_same_number_are_the_same_hardware(tmp_path: Path) -> None:
    old = result(wall())
    old["limits"]["in_force"] = {"cpu": {"affinity": [0, 1]}}
    new = changed(old, set_("limits", "in_force", value={"cpu": {"affinity": [2, 3]}}))
    assert gate(tmp_path, old, new).passed


def test_one_field_may_be_allowed_alone(tmp_path: Path) -> None:
    old = result(modelled_outcome())
    new = changed(old, set_("experiment_config", "k", value=5))
    assert gate(tmp_path, old, new, Policy(allow=("settings.k",))).passed
    new = changed(new, set_("experiment_config", "seed", value=5))
    report = gate(tmp_path, old, new, Policy(allow=("settings.k",)))
    assert reasons(report) == [("settings", "different")]


def test_the_clocks_must_be_the_same(tmp_path: Path) -> None:
    old = result(modelled_outcome())
    new = changed(old, set_("experiment_config", "clock", value="wall"))
    report = gate(tmp_path, old, new, Policy(allow=("settings", "hardware")))
    assert reasons(report) == [("settings", "different")]


def test_where_a_model_or_manifest_lies_and_how_a_run_went_do_not_matter(tmp_path: Path) -> None:
    old = result(modelled_outcome())
    new = changed(old, set_("experiment_config", "edge_model", value="/elsewhere/edge"))
    new["experiment_config"]["dataset_path"] = "/elsewhere/manifest.json"
    new["run"] = {"host": "other"}
    assert gate(tmp_path, old, new).passed


def test_a_setting_that_the_baseline_does_not_know_counts_as_its_default(tmp_path: Path) -> None:
    new = result(modelled_outcome())
    old = changed(new, lambda content: content["experiment_config"].pop("rank_threshold"))
    assert gate(tmp_path, old, new).passed
    new["experiment_config"]["rank_threshold"] = 3
    assert reasons(gate(tmp_path, old, new)) == [("settings", "different")]


@pytest.mark.parametrize(
    "mode, setting, value",
    [
        ("edge", "k", 5),
        ("cloud", "continuation", 8),
        ("edge", "cloud_budget", "12t"),
        ("spec", "margin_threshold", 0.9),
        ("spec", "probability_ratio", 0.9),
    ],
)
def test_a_setting_that_the_experiment_does_not_use_does_not_count(
    tmp_path: Path, mode: str, setting: str, value: Any
) -> None:
    old = result(FakeOutcome(mode, 30))
    new = changed(old, set_("experiment_config", setting, value=value))
    assert gate(tmp_path, old, new).passed
    spec = result(FakeOutcome("spec", 30))
    uses_it = changed(spec, set_("experiment_config", "acceptance", value="bounded"))
    uses_it["experiment_config"]["gate_type"] = "margin"
    other = changed(uses_it, set_("experiment_config", setting, value=value))
    assert reasons(gate(tmp_path, uses_it, other)) == [("settings", "different")]


def test_a_setting_that_a_file_does_not_know_has_its_default(tmp_path: Path) -> None:
    new = result(FakeOutcome("spec", 30))
    old = changed(new, lambda found: found["experiment_config"].pop("top_p"))
    assert gate(tmp_path, old, new).passed
    other = changed(new, set_("experiment_config", "top_p", value=0.9))
    assert reasons(gate(tmp_path, old, other)) == [("settings", "different")]


def test_the_settings_of_other_parts_do_not_count_beside_those_of_a_plugin() -> None:
    own = {"entropy_threshold", "margin_threshold", "rank_threshold", "k"}
    spec = {**resolve().to_json(), "mode": "spec", "acceptance": "mine"}

    def counted(**settings: Any) -> set[str]:
        return {*results.experiment_settings({**spec, **settings})} & own

    # As a result names it whose plug-in is not here.
    assert counted(gate_type="gone") == {"k"}
    with GATES.replaced("mine", lambda *_: True, options=("entropy_threshold",)):
        assert counted(gate_type="mine") == {"k", "entropy_threshold"}


def test_failed_samples_and_missed_floors_fail(tmp_path: Path) -> None:
    old = result(FakeOutcome("edge", 30))
    new = result(FakeOutcome("edge", 30, bad=(4, 5)))
    report = gate(tmp_path, old, new)
    assert ("samples", "failed") in reasons(report)
    assert "s004, s005" in report.failures[0].message
    missed = changed(old, set_("quality_floors", value={"status": "failed", "missed": ["cider"]}))
    assert reasons(gate(tmp_path, old, missed)) == [("outcome", "failed")]


def test_samples_that_are_gone_are_missing(tmp_path: Path) -> None:
    old = result(modelled_outcome())
    new = changed(old, lambda content: content["detailed_results"].pop())
    assert ("samples", "missing") in reasons(gate(tmp_path, old, new))


def lost_cloud(count: int) -> Any:
    why = {"at_s": 1.0, "error": "CloudUnavailable", "reason": "gone"}

    def change(content: dict[str, Any]) -> None:
        for entry in content["detailed_results"][:count]:
            entry["degraded"] = why

    return change


@pytest.mark.parametrize(
    "before, after, verdict",
    [(0, 0, None), (0, 2, "failed"), (2, 2, "same"), (2, 0, "better"), (1, 2, "failed")],
)
def test_samples_that_lost_the_cloud_are_a_row(
    tmp_path: Path, before: int, after: int, verdict: str | None
) -> None:
    base = result(modelled_outcome())
    found = gate(tmp_path, changed(base, lost_cloud(before)), changed(base, lost_cloud(after)))
    rows = [check for check in found.checks if check.what == "degraded"]
    assert [check.verdict for check in rows] == ([] if verdict is None else [verdict])
    assert found.passed is (verdict != "failed")
    if rows:
        assert (rows[0].baseline, rows[0].new) == (before, after)
