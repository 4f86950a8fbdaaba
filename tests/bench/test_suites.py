"""The suites from the outside: what a call of pytest writes, says and returns. The runner is a fake."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgecloud.files import held

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
Call = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    (tmp_path / "a.wav").write_bytes(b"x")
    fixed = {"dataset": "d", "audio_path": "a.wav", "caption": "a calm voice"}
    entries = [{"file_id": f"s{index:03d}", "index": index, **fixed} for index in range(6)]
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(entries))
    return path


@pytest.fixture
def call(tmp_path: Path, manifest: Path) -> Call:
    """Run ``pytest bench`` with the fake runner in a process of its own."""

    def run(*args: str, suites: tuple[str, ...] = ("bench",), **environment: str) -> Any:
        base = ["-p", "tests.bench.fake_runner", "-p", "no:cacheprovider"]
        base += ["--language", "english", "--dataset_path", str(manifest)]
        base += ["--output-dir", str(tmp_path / "out")]
        return subprocess.run(
            [sys.executable, "-m", "pytest", *suites, *base, *args],
            cwd=ROOT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return run


def _result(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_three_suites_write_three_results_and_nine_rows(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "benchmarks" / "out.json"
    done = call("--benchmark-json", str(file), "--output-name", "mine")
    assert done.returncode == 0, done.stdout
    for mode in ("edge", "cloud", "spec"):
        path = tmp_path / "out" / "results" / f"mine-{mode}.json"
        assert f"result: {path}" in done.stdout
        assert _result(path)["experiment_config"]["mode"] == mode
    assert "6/6 samples" in done.stdout
    rows = {row["fullname"]: row for row in _result(file)["benchmarks"]}
    assert set(rows) == {
        f"bench/test_{mode}.py::test_{mode}{quantity}[{slice_}]"
        for mode, slice_ in (
            ("edge", "english-default"),
            ("cloud", "english-default"),
            ("spec", "english-default-rank"),
        )
        for quantity in ("", "_ttft", "_tpot")
    }


def test_each_value_of_a_row_is_its_samples_own(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    call("--benchmark-json", str(file), "--acceptance", "exact", suites=("bench/test_spec.py",))
    result = _result(tmp_path / "out" / "results" / "spec_results.json")
    rows = {row["name"]: row for row in _result(file)["benchmarks"]}
    total = rows["test_spec[english-default-exact]"]
    ids = [entry["file_id"] for entry in result["detailed_results"]]
    assert total["extra_info"]["sample_ids"] == ids
    for row, name in (
        (total, "total_time"),
        (rows["test_spec_ttft[english-default-exact]"], "ttft"),
        (rows["test_spec_tpot[english-default-exact]"], "tpot"),
    ):
        expected = [entry["latency_metrics"][name] for entry in result["detailed_results"]]
        assert row["stats"]["data"] == expected
    for key in ("latency_histograms", "speculation", "cost", "resources", "quality"):
        assert total["extra_info"][key]
    assert total["extra_info"]["outcome"] == "passed"
    assert "UNSERIALIZABLE" not in file.read_text()


def test_when_and_where_a_run_began_is_noted_before_it_runs(call: Call, tmp_path: Path) -> None:
    call(suites=("bench/test_edge.py",), EDGECLOUD_RUN_ID="mine")
    run = _result(tmp_path / "out" / "results" / "edge_results.json")["run"]
    assert run["run_id"] == "mine"
    assert run["held"], "the result's name is the run's until it is written"
    assert not list((tmp_path / "out").rglob("*.lock"))


@pytest.mark.parametrize("what", ["results/mine-spec.json", "journals/mine-spec.jsonl"])
def test_a_second_run_of_a_name_is_refused_before_anything_is_opened(
    call: Call, tmp_path: Path, what: str
) -> None:
    with held(tmp_path / "out" / what):
        done = call("--output-name", "mine", "--edge-model", "/none")
    assert done.returncode == 4, done.stdout + done.stderr
    assert f"another run is writing {tmp_path / 'out' / what}" in done.stderr
    assert "--output-name" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not list((tmp_path / "out").rglob("*.json*"))


def test_failed_samples_are_written_and_then_fail_the_run(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    options = ("--benchmark-json", str(file), "-v")
    done = call(*options, suites=("bench/test_edge.py",), FAKE_BAD="1 4")
    assert done.returncode == 1
    assert "2 of 6 samples failed, --max-failures allows 0: s001" in done.stdout
    assert "s001: failed: AudioError" in done.stdout
    result = _result(tmp_path / "out" / "results" / "edge_results.json")
    assert result["metrics"]["num_failed"] == 2
    row = _result(file)["benchmarks"][0]
    assert row["extra_info"]["outcome"].startswith("failed: 2 of 6")
    assert row["extra_info"]["failed_ids"] == ["s001", "s004"]
    assert len(row["stats"]["data"]) == 4


def test_allowed_failures_pass_even_when_nothing_is_left(call: Call) -> None:
    done = call("--max-failures", "6", suites=("bench/test_edge.py",), FAKE_BAD="0 1 2 3 4 5")
    assert done.returncode == 0, done.stdout


def test_a_failure_of_the_run_is_one_line_without_a_traceback(call: Call) -> None:
    done = call(suites=("bench/test_edge.py",), FAKE_ERROR="checkpoint x has no weights")
    assert done.returncode == 1
    assert "checkpoint x has no weights" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert "recorder.py" not in done.stdout


@pytest.mark.parametrize(
    "args, message",
    [
        (("--dataset-path", "/none.json"), "/none.json does not exist; check --dataset-path"),
        (("--config", "/none.yaml"), "/none.yaml: No such file or directory; check --config"),
        (("--k", "nine"), "'nine' is not a whole number"),
        (("--cloud-model", "/none"), "cloud model /none is not a checkpoint folder"),
        (("--output-dir", "/dev/null/x"), "cannot write into /dev/null/x/results"),
        (("--benchmark-json", "/dev/null/x/y.json"), "choose another --benchmark-json"),
        (("--benchmark-disable",), "bench has nothing to do under --benchmark-disable"),
        (("-p", "no:benchmark"), "bench needs pytest-benchmark"),
    ],
)
def test_what_is_wrong_beforehand_is_one_line(
    call: Call, args: tuple[str, ...], message: str
) -> None:
    done = call(*args)
    assert done.returncode == 4
    assert message in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_every_option_of_the_plugin_works_or_is_refused() -> None:
    from bench.plugin_options import NO_EFFECT, WORKING, defaults

    assert {*NO_EFFECT, *WORKING} == set(defaults())
    assert not {*NO_EFFECT} & {*WORKING}


GIVEN = {
    "benchmark_min_time": 1,
    "benchmark_max_time": 2,
    "benchmark_min_rounds": 9,
    "benchmark_precision": 0.02,
    "benchmark_confidence": 0.9,
    "benchmark_calibration_precision": 3,
    "benchmark_warmup": True,
    "benchmark_warmup_iterations": 3,
    "benchmark_timer": "time.time",
    "benchmark_disable_gc": True,
    "benchmark_cprofile": "tottime",
    "benchmark_cprofile_loops": 2,
    "benchmark_cprofile_top": 3,
    "benchmark_cprofile_dump": ["x"],
    "benchmark_skip": True,
    "benchmark_compare_fail": ["mean:5%"],
    "benchmark_group_by": "param:n",
    "benchmark_storage": "s3://bucket",
}


class Options:
    """In the place of pytest's configuration: the plugin's defaults, and one option that is given."""

    def __init__(self, **given: Any) -> None:
        from bench.plugin_options import defaults

        self.values = {**defaults(), **given}

    def getoption(self, name: str) -> Any:
        return self.values[name]


def test_options_of_the_plugin_that_can_do_nothing_are_refused_with_the_reason() -> None:
    from bench.plugin_options import NO_EFFECT, check_options

    check_options(Options())  # type: ignore[arg-type]
    assert set(NO_EFFECT) <= set(GIVEN)
    for name, value in GIVEN.items():
        with pytest.raises(pytest.UsageError, match="--" + name.replace("_", "-")):
            check_options(Options(**{name: value}))  # type: ignore[arg-type]
    for name, package in (("histogram", "pygal"), ("storage", "elasticsearch")):
        if find_spec(package) is None:
            value = "elasticsearch+https://x" if name == "storage" else ["h"]
            with pytest.raises(pytest.UsageError, match=f"pip install .*{name}|elasticsearch"):
                check_options(Options(**{f"benchmark_{name}": value}))  # type: ignore[arg-type]
    check_options(Options(benchmark_skip=True, benchmark_only=True))  # type: ignore[arg-type]


def test_a_first_run_and_one_after_another_machine_are_compared_without_an_error(
    call: Call, tmp_path: Path
) -> None:
    """As CI calls it: the storage is outside the working folder, and at first there is nothing in it."""
    storage = tmp_path / "storage"
    options = (
        "--benchmark-storage",
        f"file://{storage}",
        "--benchmark-autosave",
        "--benchmark-compare",
    )
    options = (*options, "--benchmark-compare-fail=mean:500%")
    first = call(*options, suites=("bench/test_edge.py",))
    assert first.returncode == 0, first.stdout + first.stderr
    assert "there is no earlier run in" in first.stdout
    (saved,) = storage.glob("*/0001_*.json")
    content = _result(saved)
    content["machine_info"]["cpu"].update(hz_actual=[1, 0], brand_raw="CPU A")
    saved.write_text(json.dumps(content), encoding="utf-8")
    again = call(*options, "-W", "error", suites=("bench/test_edge.py",))
    assert again.returncode == 0, again.stdout + again.stderr
    assert "of another machine: cpu.brand_raw CPU A → " in again.stderr
    assert "hz_actual" not in again.stderr + again.stdout
    assert len(list(storage.glob("*/*.json"))) == 2


def test_a_run_that_is_named_to_compare_with_must_be_there() -> None:
    from bench.plugin_options import settle_comparison

    config: Any = Options()
    config._benchmarksession = SimpleNamespace(compare="0009", compared_mapping={}, storage="s")
    with pytest.raises(pytest.UsageError, match="--benchmark-compare 0009: no such run in s"):
        settle_comparison(config)


ROW = {
    "fullname": "bench/test_edge.py::test_edge[x]",
    "stats": dict.fromkeys(
        ("min", "max", "mean", "stddev", "median", "iqr", "rounds", "iterations"), 1
    ),
}


@pytest.mark.parametrize(
    "content, says",
    [
        ("{", "is not JSON"),
        ("[]", "has no list of benchmarks"),
        ({"benchmarks": [{**ROW, "fullname": None}]}, r"benchmarks\[0\] has no fullname"),
        ({"benchmarks": [ROW, {"fullname": "x"}]}, r"benchmarks\[1\] has no stats"),
        (
            {"benchmarks": [{**ROW, "stats": {**ROW["stats"], "iqr": "wide"}}]},  # type: ignore[dict-item]
            r"benchmarks\[0\].stats.iqr is not a number",
        ),
        ({"benchmarks": [ROW]}, None),
    ],
)
def test_a_file_to_compare_with_is_read_before_a_run(
    tmp_path: Path, content: Any, says: str | None
) -> None:
    from bench.plugin_options import check_compared

    folder = tmp_path / "machine"
    folder.mkdir()
    path = folder / "0001_x.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    for compare in (str(path), "machine/0001"):
        options: Any = Options(benchmark_compare=compare, benchmark_storage=f"file://{tmp_path}")
        if says is None:
            check_compared(options)
            continue
        with pytest.raises(pytest.UsageError, match=f"--benchmark-compare: .*{says}"):
            check_compared(options)


@pytest.mark.parametrize(
    "args, message",
    [
        (("--edge-device", "cuda:7"), "device cuda:7 is not available here"),
        (("--cloud-model", "{text}"), "takes text alone"),
        (("--edge-model", "{audio}", "--edge-quantization", "int8"), "can be quantised"),
    ],
)
def test_models_that_do_not_fit_are_one_line_before_their_weights_are_opened(
    call: Call,
    asr_folder: Path,
    text_folder: Path,
    tmp_path: Path,
    args: tuple[str, ...],
    message: str,
) -> None:
    audio = Path(shutil.copytree(asr_folder, tmp_path / "audio"))
    config = json.loads((audio / "config.json").read_text("utf-8"))
    config["audio_config"]["scale_embedding"] = True
    (audio / "config.json").write_text(json.dumps(config), "utf-8")
    text = Path(shutil.copytree(text_folder, tmp_path / "text"))
    for shard in (*audio.glob("*.safetensors"), *text.glob("*.safetensors")):
        shard.write_bytes(b"not to be opened")
    named = [arg.format(audio=audio, text=text) for arg in args]
    done = call(*named, suites=("bench/test_spec.py",))
    assert done.returncode == 4, done.stdout + done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "out" / "results").exists() or not list(
        (tmp_path / "out").rglob("*.json")
    )


def test_a_cloud_that_does_not_answer_is_one_line_before_anything_starts(
    call: Call, tmp_path: Path
) -> None:
    done = call("--cloud-url", "http://127.0.0.1:9", suites=("bench/test_spec.py",))
    assert done.returncode == 4, done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.strip()]
    assert "no cloud answers at http://127.0.0.1:9" in line
    assert "check --cloud-url" in line
    assert not list((tmp_path / "out").rglob("*.json*"))


def test_workers_of_xdist_are_refused(call: Call) -> None:
    done = call(PYTEST_XDIST_WORKER="gw0")
    assert done.returncode == 4
    assert "run without -n" in done.stderr


def test_the_folder_collects_the_three_experiments_and_other_files_when_named(call: Call) -> None:
    extra = ROOT / "bench" / "test_zz_heavy_for_this_test.py"
    extra.write_text("def test_heavy():\n    pass\n")
    try:
        folder = call("--collect-only", "-q").stdout
        named = call("--collect-only", "-q", suites=(f"bench/{extra.name}",)).stdout
    finally:
        extra.unlink()
    assert "3 tests collected" in folder
    assert "test_heavy" not in folder
    assert "test_heavy" in named


def test_samples_over_the_memory_cap_are_a_warning_and_a_flag(call: Call, tmp_path: Path) -> None:
    done = call(FAKE_OVER="1", suites=("bench/test_edge.py",))
    assert done.returncode == 0, done.stdout
    assert "warning: edge_results: 6 samples over the memory cap of 16 GB" in done.stdout
    result = _result(tmp_path / "out" / "results" / "edge_results.json")
    assert result["metrics"]["latency_metrics"]["memory_over_cap_total"] == 6


def test_samples_that_lost_the_cloud_are_written_and_then_fail_the_run(
    call: Call, tmp_path: Path
) -> None:
    file = tmp_path / "out.json"
    done = call("--benchmark-json", str(file), suites=("bench/test_spec.py",), FAKE_DEGRADED="1 4")
    assert done.returncode == 1
    assert "2 of 6 samples lost the cloud and went on with the edge alone: " in done.stdout
    assert "2 × CloudUnavailable (no cloud answers; first s001)" in done.stdout
    assert "--max-degraded allows 0. --resume runs them again" in done.stdout
    result = _result(tmp_path / "out" / "results" / "spec_results.json")
    assert result["metrics"]["num_degraded"] == 2
    info = _result(file)["benchmarks"][0]["extra_info"]
    assert info["degraded_ids"] == ["s001", "s004"]
    assert info["outcome"].startswith("failed: 2 of 6 samples lost the cloud")


def test_samples_that_may_lose_the_cloud_are_a_line_at_the_end(call: Call) -> None:
    done = call("--max-degraded", "2", suites=("bench/test_spec.py",), FAKE_DEGRADED="1 4")
    assert done.returncode == 0, done.stdout
    assert "warning: spec_results: 2 of 6 samples lost the cloud" in done.stdout
