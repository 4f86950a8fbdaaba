"""Files that are broken, older or plain; benchmarks that are missing or renamed; baselines."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecloud.errors import ConfigError, DataError
from edgecloud.regression.baselines import accept
from edgecloud.regression.reading import read
from edgecloud.regression.tolerances import Policy, default_tolerances, load_policy
from edgecloud.regression.verdict import judge
from edgecloud.regression.wording import text
from tests.regression.gate_cases import (
    changed,
    gate,
    modelled_outcome,
    noise,
    plain_file,
    plain_row,
    reasons,
    result,
    slowed,
    write,
)
from tests.results.synthetic import FakeOutcome

ROOT = Path(__file__).resolve().parents[2]

LANGUAGES = ("chinese", "english")
BROKEN: dict[str, Callable[[dict[str, Any]], Any]] = {
    "an older schema": lambda c: c.update(schema="edgecloud-result/0"),
    "a newer schema": lambda c: c.update(schema="edgecloud-result/99"),
    "an unknown schema": lambda c: c.update(schema="other/1"),
    "no schema": lambda c: c.pop("schema"),
    "no samples": lambda c: c.pop("detailed_results"),
    "samples of another type": lambda c: c.update(detailed_results={}),
    "no settings": lambda c: c.pop("experiment_config"),
    "settings without a mode": lambda c: c["experiment_config"].pop("mode"),
    "no latency": lambda c: c["detailed_results"][0].pop("latency_metrics"),
    "a time in words": lambda c: c["detailed_results"][0]["latency_metrics"].update(ttft="1 s"),
    "a time that is true": lambda c: c["detailed_results"][0]["latency_metrics"].update(ttft=True),
    "a negative time": lambda c: c["detailed_results"][0]["latency_metrics"].update(ttft=-1.0),
    "an endless number": lambda c: c["detailed_results"][0]["latency_metrics"].update(ttft=10**400),
    "a sample twice": lambda c: c["detailed_results"].append(c["detailed_results"][0]),
    "a sample without an id": lambda c: c["detailed_results"][0].pop("file_id"),
    "no tokens": lambda c: c["detailed_results"][0].pop("tokens"),
    "no models": lambda c: c.pop("models"),
    "models of another type": lambda c: c.update(models=[]),
}


@pytest.mark.parametrize("what", list(BROKEN))
def test_a_broken_or_older_result_is_refused_with_its_path(tmp_path: Path, what: str) -> None:
    content = changed(result(modelled_outcome(3)), BROKEN[what])
    path = write(tmp_path / "x.json", content)
    with pytest.raises(DataError, match=r"x\.json"):
        read(path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        '{"a": NaN}',
        "[" * 100_000,
        '{"a":' * 900 + "1" + "}" * 900,
        "\x00",
        "\ufeff{",
    ],
    ids=[
        "empty",
        "torn",
        "list",
        "number",
        "nan",
        "deeper than Python",
        "deep",
        "zero",
        "torn after a mark",
    ],
)
def test_what_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"x\.json"):
        read(path)


def test_bytes_that_are_no_text_and_paths_that_are_not_there_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b"\xff\xfe{")
    for path in (tmp_path / "x.json", tmp_path / "none.json"):
        with pytest.raises(DataError, match=path.name):
            read(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no"):
        read(tmp_path / "empty")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf"), 1e999])
def test_numbers_that_json_lacks_matter_only_where_they_are_read(
    tmp_path: Path, number: float
) -> None:
    row = plain_row("test_a", [0.1, 0.2, 0.3])
    row["extra_info"] = {"loss": number, "curve": [1.0, number]}
    row["stats"]["ops"] = number
    row["options"]["warmup"] = number
    content = {**plain_file(row), "their own": {"x": number}}
    assert gate(tmp_path, content, content).passed
    accept([tmp_path / "new.json"], tmp_path / "b", reason="x")
    again = judge(read(tmp_path / "b"), read(tmp_path / "new.json"), Policy(), names=("a", "b"))
    assert not [check for check in again.checks if check.verdict == "note"]
    row["stats"]["data"][1] = number
    with pytest.raises(DataError, match=r"benchmarks\[0\], stats, data: 1 is -?(NaN|Infinity)"):
        read(write(tmp_path / "x.json", plain_file(row)))


def test_a_number_beyond_the_range_is_refused_where_it_is_read(tmp_path: Path) -> None:
    text = json.dumps(plain_file(plain_row("test_a", [0.1, 0.25])))
    (tmp_path / "x.json").write_text(text.replace("0.25", "1e999"), encoding="utf-8")
    with pytest.raises(DataError, match="1 is 1e999"):
        read(tmp_path / "x.json")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_files_of_other_encodings_and_with_a_byte_order_mark_are_read(
    tmp_path: Path, encoding: str
) -> None:
    content = plain_file(plain_row("test_a[中文]", [0.1] * 6))
    path = tmp_path / "x.json"
    path.write_bytes(json.dumps(content, ensure_ascii=False).encode(encoding))
    assert [benchmark.name for benchmark in read(path)] == ["tests/test_x.py::test_a[中文]"]


def test_other_options_and_another_python_are_noted_once_for_all_their_rows(tmp_path: Path) -> None:
    def side(*, gc: bool, python: str) -> dict[str, Any]:
        content = plain_file(plain_row("test_a", [0.1] * 6), plain_row("test_b", [0.1] * 6))
        content["machine_info"]["python_version"] = python
        for row in content["benchmarks"]:
            row["options"]["disable_gc"] = gc
        return content

    report = gate(tmp_path, side(gc=False, python="3.11.7"), side(gc=True, python="3.12.1"))
    assert report.passed
    (note,) = [check for check in report.checks if check.verdict == "note"]
    assert note.benchmark == "tests/test_x.py::test_a and 1 more"
    assert note.message == (
        "differs: versions.python 3.11.7 → 3.12.1; options.disable_gc False → True"
    )


def test_files_of_another_project_are_read(tmp_path: Path) -> None:
    folder = Path(os.environ.get("EDGECLOUD_TEST_DATA", "")) / "cases" / "gate"
    if "EDGECLOUD_TEST_DATA" not in os.environ or not folder.is_dir():
        pytest.skip("EDGECLOUD_TEST_DATA is not set, or holds no cases/gate")
    for name, told in (("a", ""), ("bom_a", ""), ("gc", "disable_gc"), ("other_py", "python")):
        sides = read(folder / "a.json"), read(folder / f"{name}.json")
        checks = judge(*sides, Policy(), names=("a", name)).checks
        notes = [check.message for check in checks if check.verdict == "note"]
        assert len(notes) == (told != "")
        assert all(told in note for note in notes)
    nan = folder / "real_nan_extra.json"
    assert judge(read(nan), read(nan), Policy(), names=("a", "b")).passed


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-3, 3) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
CONTENTS = {
    "result": result(modelled_outcome(2)),
    "plain": plain_file(plain_row("test_a", [1.0, 1.1])),
}


@settings(max_examples=150)
@given(st.data(), st.sampled_from(sorted(CONTENTS)))
def test_any_field_may_be_anything_and_only_data_errors_come(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, kind: str
) -> None:
    """One field somewhere is replaced by any JSON value, and the gate either works or says why not."""
    content = copy.deepcopy(CONTENTS[kind])
    holder: Any = content
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(holder[key], dict | list) or not holder[key] or data.draw(st.booleans()):
            break
        holder = holder[key]
    holder[key] = data.draw(json_values)
    with contextlib.suppress(DataError):
        gate(tmp_path_factory.mktemp("any"), CONTENTS[kind], content)


def test_plain_files_of_pytest_benchmark_are_compared(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    fast, slow = 0.1 * noise(rng, 50), 0.12 * noise(rng, 40)
    old = plain_file(plain_row("test_a", list(fast)), plain_row("test_b", list(fast)))
    new = plain_file(plain_row("test_a", list(slow)), plain_row("test_b", list(fast[::-1])))
    report = gate(tmp_path, old, new)
    assert [check.benchmark for check in report.failures] == ["tests/test_x.py::test_a"]
    assert gate(tmp_path, old, old).passed


def test_rows_of_any_project_pair_when_they_name_a_sample_a_round(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    lengths = np.exp(rng.normal(0.0, 1.0, 30))
    old, new = (plain_row("test_a", list(lengths * factor)) for factor in (1.0, 1.2))
    assert gate(tmp_path, plain_file(old), plain_file(new)).passed
    for row in (old, new):
        row["extra_info"]["sample_ids"] = [str(index) for index in range(30)]
    assert reasons(gate(tmp_path, plain_file(old), plain_file(new))) == [("time", "regression")]
    for row in (old, new):
        row["extra_info"]["sample_ids"] = ["odd", 3]
    assert gate(tmp_path, plain_file(old), plain_file(new)).passed


def test_plain_files_without_raw_times_are_compared_by_their_medians(tmp_path: Path) -> None:
    def side(median: float) -> Any:
        return plain_file(plain_row("test_a", None, median=median, iqr=0.01, rounds=30))

    assert gate(tmp_path, side(0.1), side(0.101)).passed
    assert reasons(gate(tmp_path, side(0.1), side(0.12))) == [("time", "regression")]


def test_plain_files_of_another_processor_fail_unless_allowed(tmp_path: Path) -> None:
    row = plain_row("test_a", [0.1] * 10)
    old, new = plain_file(row), plain_file(row, brand="CPU B")
    assert reasons(gate(tmp_path, old, new)) == [("hardware", "different")]
    assert gate(tmp_path, old, new, Policy(allow=("hardware",))).passed


@pytest.mark.parametrize(
    "content",
    [
        plain_file(),
        plain_file(plain_row("test_a", [1.0]), plain_row("test_a", [1.0])),
        plain_file(plain_row("test_a", [-1.0, 1.0])),
        plain_file(plain_row("test_a", None)),
        {"benchmarks": {}},
    ],
    ids=["none", "twice", "negative", "no times", "of another type"],
)
def test_broken_files_of_pytest_benchmark_are_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(DataError, match=r"x\.json"):
        read(write(tmp_path / "x.json", content))


def our_row(name: str, group: str, data: list[float], **info: Any) -> dict[str, Any]:
    row = plain_row(name, data)
    row["group"] = group
    row["extra_info"] = {"mode": "edge", "outcome": "passed", **info}
    return row


def our_file(scale: float = 1.0, *, cider: float = 1.0, ids: str = "abcde", **info: Any) -> Any:
    config = {"clock": "modelled", "hardware_profile": "paper", "language": "english"}
    names = list(ids)
    extra = {"experiment_config": config, "sample_ids": names, "failed_ids": []}
    quality = {"cider": cider, "corpus_bleu_4": 0.3}
    return plain_file(
        our_row(
            "test_edge[english-default]",
            "total_time",
            [2.0 * scale] * len(names),
            **extra,
            quality=quality,
            **info,
        ),
        our_row(
            "test_edge_ttft[english-default]",
            "ttft",
            [1.0 * scale] * len(names),
            sample_ids=names,
        ),
    )


def test_our_own_benchmark_files_pair_and_know_their_clock(tmp_path: Path) -> None:
    assert gate(tmp_path, our_file(), our_file()).passed
    slower = gate(tmp_path, our_file(), our_file(1.01))
    assert reasons(slower) == [("time", "regression")] * 2
    assert {check.interval for check in slower.checks} == {"exact"}
    assert reasons(gate(tmp_path, our_file(), our_file(cider=0.9))) == [("cider", "regression")]
    failed = gate(tmp_path, our_file(), our_file(outcome="failed: 1 of 5 samples"))
    assert ("outcome", "failed") in reasons(failed)
    fewer = gate(tmp_path, our_file(), our_file(ids="abcd"))
    assert ("samples", "missing") in reasons(fewer)


def test_results_and_benchmark_files_are_not_mixed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="compare results with results"):
        gate(tmp_path, result(modelled_outcome(3)), our_file())


def test_missing_renamed_and_new_benchmarks(tmp_path: Path) -> None:
    data = [0.1] * 10
    old = plain_file(plain_row("test_apples", data), plain_row("other", data))
    new = plain_file(plain_row("test_apples_v2", data), plain_row("other", data))
    report = gate(tmp_path, old, new)
    assert reasons(report) == [("", "missing")]
    assert "renamed to tests/test_x.py::test_apples_v2?" in report.failures[0].message
    more = gate(tmp_path, plain_file(plain_row("other", data)), new)
    assert more.passed
    assert any("no baseline yet" in check.message for check in more.checks)


def test_folders_are_compared_and_experiments_of_one_name_told_apart_by_file(
    tmp_path: Path,
) -> None:
    outcome = modelled_outcome(3)
    for side, factor in (("old", 1.0), ("new", 1.1)):
        write(tmp_path / side / "a.json", result(outcome))
        write(tmp_path / side / "b.json", result(slowed(outcome, [factor] * 3)))
    report = judge(read(tmp_path / "old"), read(tmp_path / "new"), Policy(), names=("old", "new"))
    assert {check.benchmark for check in report.failures} == {"spec[english-default-rank] (b)"}


@pytest.mark.parametrize(
    "content",
    [
        result(modelled_outcome(5)),
        result(FakeOutcome("edge", 12)),
        plain_file(plain_row("test_a", [0.1, 0.2, 0.1])),
        plain_file(plain_row("test_a", None, median=0.1, iqr=0.01, rounds=30)),
        our_file(),
    ],
    ids=["modelled", "wall", "plain", "summary", "ours"],
)
def test_a_baseline_is_as_good_as_the_file_it_was_made_from(tmp_path: Path, content: Any) -> None:
    new = write(tmp_path / "new.json", content)
    done = accept([new], tmp_path / "baselines", reason="a reason")
    sides = (read(tmp_path / "baselines"), read(new))
    report = judge(*sides, Policy(), names=("old", "new"))
    assert report.passed
    assert {check.verdict for check in report.checks} <= {"same", "undecided"}
    assert [b.identity for b in sorted(sides[0], key=lambda b: b.name)] == [
        b.identity for b in sorted(sides[1], key=lambda b: b.name)
    ]
    assert all(path.stat().st_size < 20_000 for path in done.written)


def test_accepting_keeps_reason_date_commit_and_history(tmp_path: Path) -> None:
    folder = tmp_path / "baselines"
    new = write(tmp_path / "new.json", result(modelled_outcome(3)))
    accept([new], folder, reason="first")
    accept([new], folder, reason="  second ")
    (path,) = folder.glob("*.json")
    accepted = json.loads(path.read_text(encoding="utf-8"))["accepted"]
    assert accepted["reason"] == "second"
    assert {"date", "commit", "dirty"} <= set(accepted)
    history = (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["reason"] for line in history] == ["first", "second"]
    assert json.loads(history[0])["accepted"] == [path.name]


def git(repo: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=A Name", "-c", "user.email=a.name@example.org")
    command = ["git", "-C", str(repo), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_accepting_names_the_commit_that_was_measured_and_that_of_the_baselines_repository(
    tmp_path: Path,
) -> None:
    repo = tmp_path / "theirs"
    repo.mkdir()
    git(repo, "init")
    git(repo, "commit", "--allow-empty", "-m", "one")
    content = result(modelled_outcome(3))
    content["run"].update(commit="a" * 40, dirty=True)
    done = accept([write(tmp_path / "new.json", content)], repo / "not" / "yet", reason="x")
    here = git(repo, "rev-parse", "HEAD")
    for accepted in (done.history, json.loads(done.written[0].read_text("utf-8"))["accepted"]):
        assert (accepted["commit"], accepted["dirty"]) == ("a" * 40, True)
        assert (accepted["baselines_commit"], accepted["baselines_dirty"]) == (here, False)
        assert "reasons" not in accepted


def test_commits_that_differ_or_are_not_known_are_null_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    ours = result(modelled_outcome(3))
    ours["run"].update(commit="a" * 40, dirty=False)
    others = plain_file(plain_row("test_a", [0.1] * 6))
    others["commit_info"] = {"id": "unversioned", "dirty": False}
    paths = [write(tmp_path / "a.json", ours), write(tmp_path / "b.json", others)]
    done = accept(paths, tmp_path / "b", reason="x")
    assert done.history["commit"] is done.history["baselines_commit"] is None
    assert done.history["reasons"]["commit"] == (
        f"the results are of {'a' * 40} and results that name none"
    )
    assert "not a git repository" in done.history["reasons"]["baselines_commit"]
    files = {path.name: json.loads(path.read_text("utf-8"))["accepted"] for path in done.written}
    assert files["spec-english-default-rank.json"]["commit"] == "a" * 40
    plain = files["tests-test_x.py-test_a.json"]
    assert (plain["commit"], plain["reasons"]["commit"]) == (None, "the results name none")


def test_pruning_removes_the_baselines_of_what_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "baselines"
    first = write(tmp_path / "a.json", result(modelled_outcome(3)))
    second = write(tmp_path / "b.json", result(FakeOutcome("edge", 3)))
    accept([first], folder, reason="one")
    (folder / "._notes.json").write_bytes(b"\0\5\x16\7 what macOS notes on a file")
    done = accept([second], folder, reason="the other", prune=True)
    assert [benchmark.name for benchmark in read(folder)] == ["edge[english-default]"]
    (folder / "._notes.json").unlink()
    assert [path.name for path in done.removed] == ["spec-english-default-rank.json"]
    assert [path.name for path in folder.glob("*.json")] == ["edge-english-default.json"]


def test_no_failed_run_no_empty_reason_and_no_two_of_a_name_are_accepted(tmp_path: Path) -> None:
    good = write(tmp_path / "good.json", result(modelled_outcome(3)))
    bad = write(tmp_path / "bad.json", result(FakeOutcome("edge", 3, bad=(1,))))
    for paths, reason, why in (
        ([bad], "x", "failed"),
        ([good], "  ", "needs a reason"),
        ([good, good], "x", "both hold"),
    ):
        with pytest.raises(DataError, match=why):
            accept(paths, tmp_path / "baselines", reason=reason)
    assert not (tmp_path / "baselines").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(schema="edgecloud-baseline/0"),
        lambda c: c.update(kind="other"),
        lambda c: c.update(texts=[]),
        lambda c: c["times"]["ttft"]["values"].pop(),
        lambda c: c["times"].update(ttft=3),
        lambda c: c.pop("samples"),
    ],
)
def test_a_broken_or_older_baseline_is_refused(tmp_path: Path, change: Any) -> None:
    new = write(tmp_path / "new.json", result(modelled_outcome(3)))
    (path,) = accept([new], tmp_path / "b", reason="x").written
    write(path, changed(json.loads(path.read_text(encoding="utf-8")), change))
    with pytest.raises(DataError, match=path.name):
        read(path)


def test_the_baselines_in_the_repository_are_the_whole_embedded_corpus_in_modelled_time() -> None:
    found = read(ROOT / "bench" / "baselines")
    names = {
        f"{mode}[{language}-default" for mode in ("edge", "cloud", "spec") for language in LANGUAGES
    }
    assert {name.name.split("]")[0].removesuffix("-rank") for name in found} == names
    for benchmark in found:
        assert benchmark.modelled
        assert len(benchmark.samples) == len(benchmark.texts) == 128
        assert {"ttft", "tpot", "total_time"} <= set(benchmark.times)
        assert {"cider", "bleu_4", "rouge_l", "emotion_accuracy"} <= set(benchmark.scores)
    assert judge(found, found, Policy(), names=("a", "b")).passed


def test_the_policy_in_the_repository_is_the_built_in_one() -> None:
    found, built_in = load_policy(ROOT / "bench" / "gate.toml"), Policy()
    assert found.quality == default_tolerances()
    assert found.optional_scores is not None
    assert [name for name in found.quality if built_in.optional(name)] == sorted(
        found.optional_scores, key=[*found.quality].index
    )
    said: dict[str, object] = {"source": "", "quality": {}, "optional_scores": None}
    assert {**asdict(found), **said} == {**asdict(built_in), **said}


@pytest.mark.parametrize(
    "text",
    [
        "[wall",
        "speed = 3",
        "[wall]\ntolerance = -1",
        '[wall]\ntolerance = "5%"',
        "[wall]\nlevel = true",
        "[wall]\nquantities = ['speed']",
        "[modelled]\nunknown = 1",
        "[quality]\nbeauty = 1",
        "[quality]\ncider = nan",
        "allow = ['everything']",
        "allow = 'data'",
        "undecided = 'pass'",
        "scores = 3",
        "[scores.saved]",
        "[scores.saved]\ntolerance = 1\nhigher_is_better = 2",
        "[scores.cider]\ntolerance = 1",
        "rows = 3",
        "[rows]\ntest_a = 3",
        "[rows.test_a]\nspeed = 1",
        "undecided = true",
        "wall = 3",
    ],
)
def test_a_wrong_policy_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"p\.toml"):
        load_policy(path)


@pytest.mark.parametrize("content", ["a = " + "[" * 30_000, ".".join("a" * 20_000) + " = 1"])
def test_a_deep_policy_is_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "p.toml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"policy .*p\.toml is nested .*check --policy") as caught:
        load_policy(path)
    assert "\n" not in str(caught.value)


def test_a_wide_interval_and_few_rounds_are_undecided_and_counted_in_the_verdict(
    tmp_path: Path,
) -> None:
    wide = [1.0, 1.0, 1.0, 1.35, 1.35, 0.992, 0.992, 1.0]
    old = plain_file(plain_row("test_a", [1.0] * 8), plain_row("test_b", [1.0] * 3))
    new = plain_file(plain_row("test_a", wide), plain_row("test_b", [1.3] * 3))
    report = gate(tmp_path, old, new)
    assert "1 row compared, " in text(replace(report, checks=report.checks[:1]))
    assert report.passed
    assert [check.verdict for check in report.checks] == ["undecided", "undecided"]
    assert text(report).splitlines()[-1].startswith("passed, 2 rows compared, 2 UNDECIDED; about ")
    named = [check.more for check in report.checks]
    assert named[1] == 2
    assert named[0] is not None
    strict = gate(tmp_path, old, new, Policy(undecided="fail"))
    assert reasons(strict) == [("time", "undecided")] * 2
    assert "FAILED for 2 reasons, 2 rows compared, 2 UNDECIDED" in text(strict)


def test_a_policy_changes_what_passes(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text("[modelled]\ntolerance = 0.2\n", encoding="utf-8")
    outcome = modelled_outcome(5)
    slow = result(slowed(outcome, [1.1] * 5))
    assert gate(tmp_path, result(outcome), slow, load_policy(path)).passed
    assert not gate(tmp_path, result(outcome), slow).passed


OTHERS = """
[rows."*test_a[10]"]
tolerance = 0.3
saved = 0.2

[scores.saved]
tolerance = 0.01

[scores.size]
tolerance = 10
higher_is_better = false
"""


def test_rows_of_another_project_have_tolerances_and_quality_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(OTHERS, encoding="utf-8")
    policy = load_policy(path)

    def side(factor: float, saved: float, size: float, more: str = "unused") -> Any:
        times = list(factor * 0.1 * noise(np.random.default_rng(7), 60))
        rows = [plain_row(name, times) for name in ("test_a[10]", "test_a[11]")]
        for row in rows:
            row["extra_info"]["quality"] = {
                "saved": saved,
                "size": size,
                "words": more,
                "flag": True,
            }
        return plain_file(*rows)

    old = side(1.0, 0.5, 100)
    assert gate(tmp_path, old, side(1.2, 0.5, 100)).failures[0].benchmark.endswith("test_a[10]")
    report = gate(tmp_path, old, side(1.2, 0.5, 100), policy)
    assert [check.benchmark[-10:] for check in report.failures] == ["test_a[11]"]
    assert gate(tmp_path, old, side(1.0, 0.9, 20), policy).passed
    worse = gate(tmp_path, old, side(1.0, 0.4, 120), policy)
    found = [(check.benchmark[-10:], check.what) for check in worse.failures]
    assert found == [("test_a[10]", "size"), ("test_a[11]", "saved"), ("test_a[11]", "size")]
    folder = tmp_path / "baselines"
    accept([write(tmp_path / "old.json", old)], folder, reason="first")
    kept = judge(
        read(folder),
        read(write(tmp_path / "new.json", side(1.0, 0.4, 120))),
        policy,
        names=("a", "b"),
    )
    assert [(check.benchmark[-10:], check.what) for check in kept.failures] == found
