"""`edgecloud` and `pytest bench`, run as a user runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import soundfile

from edgecloud.datasets.manifest import embedded_manifest

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 300


def run(*arguments: str, **extra: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        **extra,
    )


def bench(suite: str, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return run(
        "pytest",
        f"bench/test_{suite}.py",
        f"--output-dir={out}",
        "-p",
        "no:cacheprovider",
        *options,
    )


def result(out: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "results" / f"{name}.json").read_text("utf-8"))
    return found


def one_line(finished: subprocess.CompletedProcess[str], *words: str) -> None:
    """It failed, and said why in one line without a traceback."""
    text = finished.stdout + finished.stderr
    assert finished.returncode != 0, text
    assert "Traceback" not in text
    assert any(all(word in line for word in words) for line in text.splitlines()), text


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One embedded utterance as FLAC, as MP3 and as a stereo WAV at 48 kHz."""
    folder = tmp_path_factory.mktemp("recordings")
    manifest = embedded_manifest("chinese")
    flac = manifest.parent / json.loads(manifest.read_text("utf-8"))[0]["audio_path"]
    waveform, rate = soundfile.read(flac)
    high = librosa.resample(waveform, orig_sr=rate, target_sr=48_000)
    mp3, wav = folder / "speech.mp3", folder / "speech.wav"
    soundfile.write(mp3, high, 48_000)
    soundfile.write(wav, np.stack([high, 0.5 * high], axis=1), 48_000)
    return [flac, mp3, wav]


@pytest.mark.parametrize("mode", ["edge", "cloud", "spec"])
def test_caption_streams_a_caption_for_each_kind_of_file(recordings: list[Path], mode: str) -> None:
    finished = run("edgecloud", "caption", *map(str, recordings), "--mode", mode)
    assert finished.returncode == 0, finished.stderr
    lines = finished.stdout.splitlines()
    assert len(lines) == 3 * len(recordings)
    for path, caption, timings in zip(lines[0::3], lines[1::3], lines[2::3], strict=True):
        assert Path(path) in recordings
        assert caption.endswith("。")
        assert "first token" in timings


@pytest.mark.alone
def test_caption_says_what_it_is_at_within_a_second_where_no_line_can_be_written_over() -> None:
    spent_s = []
    for _ in range(3):  # the machine may have been at something else
        began_s = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "edgecloud", "caption", "absent.wav"],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        assert process.stderr.readline() == "edgecloud: starting\n"
        spent_s.append(time.monotonic() - began_s)
        process.kill()
        process.communicate()
        if spent_s[-1] < 1:
            return
    pytest.fail(f"it said something after {min(spent_s):.2f} s at best")


def test_caption_goes_on_after_a_file_it_cannot_read(recordings: list[Path]) -> None:
    finished = run("edgecloud", "caption", "absent.wav", str(recordings[0]), "--mode", "edge")
    assert finished.returncode == 1
    assert "absent.wav" in finished.stderr
    assert "first token" in finished.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--dataset-path", "absent.json"], ["absent.json", "--dataset-path"]),
        (["--config", "absent.yaml"], ["absent.yaml", "--config"]),
        (["--edge-model", "absent"], ["absent", "--edge-model"]),
        (["--entropy-threshold", "high"], ["entropy_threshold", "high"]),
        (["--output-dir", "/proc/absent"], ["/proc/absent"]),
    ],
)
def test_what_is_missing_or_wrong_is_said_in_one_line(
    tmp_path: Path, options: list[str], words: list[str]
) -> None:
    one_line(bench("edge", tmp_path, "--max-samples=1", *options), *words)


def test_a_broken_manifest_is_refused_with_every_problem(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps([{"file_id": "a"}, {"audio_path": 3}]))
    finished = bench("edge", tmp_path, "--dataset-path", str(manifest))
    one_line(finished, "audio_path")
    one_line(finished, "file_id")


def test_a_bad_sample_fails_alone_and_the_run_says_so(
    tmp_path: Path, recordings: list[Path]
) -> None:
    (tmp_path / "noise.wav").write_bytes(b"not audio")
    manifest = tmp_path / "manifest.json"
    entries = [
        {"file_id": "good", "audio_path": str(recordings[0]), "caption": "说话人很高兴。"},
        {"file_id": "bad", "audio_path": "noise.wav", "caption": "说话人很悲伤。"},
    ]
    manifest.write_text(json.dumps(entries))
    options = ("--dataset-path", str(manifest), "--output-name=bad")
    finished = bench("edge", tmp_path, *options)
    assert finished.returncode != 0
    found = result(tmp_path, "bad")
    assert found["metrics"]["num_failed"] == 1
    good, bad = found["detailed_results"]
    assert good["status"] == "ok"
    assert good["generated_text"]
    assert bad["status"] == "failed"
    assert bad["error"]["type"] == "AudioError"
    assert bad["generated_text"] is None
    assert bench("edge", tmp_path, *options, "--max-failures=1").returncode == 0


def stopped(out: Path, by: signal.Signals, *options: str) -> tuple[str, int, int]:
    """What a speculative run stopped after two samples said, its exit status, and the samples in its
    journal ``run``. Ctrl-C reaches every process of it, as on a terminal, and SIGKILL too; SIGTERM the
    one that was started, as of a scheduler."""
    journal = out / "journals" / "run.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "bench/test_spec.py", f"--output-dir={out}", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # Tests that run in a shell's background ignore the signal, and so would what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + TIMEOUT_S
    while not journal.exists() or len(journal.read_bytes().splitlines()) < 3:
        assert time.monotonic() < deadline
        assert process.poll() is None, "the run ended before it could be stopped"
        time.sleep(0.005)
    (os.kill if by == signal.SIGTERM else os.killpg)(process.pid, by)
    said, _ = process.communicate(timeout=TIMEOUT_S)
    return said, process.returncode, len(journal.read_bytes().splitlines()) - 1


TWENTY = ("--max-samples=20", "--output-name=run", "--clock=modelled")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run that nobody stopped."""
    out = tmp_path_factory.mktemp("whole")
    assert bench("spec", out, *TWENTY).returncode == 0
    return out


@pytest.mark.parametrize(
    "by, status",
    [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 2), (signal.SIGTERM, 143)],
    ids=["killed", "interrupted", "terminated"],
)
def test_a_stopped_run_says_how_to_go_on_and_resumes_to_the_same_texts_and_scores(
    tmp_path: Path, whole: Path, by: signal.Signals, status: int
) -> None:
    broken = tmp_path / "broken"
    said, ended, kept = stopped(broken, by, *TWENTY)
    assert "Traceback" not in said
    assert ended == status
    assert kept < 20
    if by != signal.SIGKILL:
        journal = broken / "journals" / "run.jsonl"
        assert said.splitlines()[-1] == f"{kept} of 20 samples in {journal}; go on with --resume"
    assert bench("spec", broken, *TWENTY, "--resume").returncode == 0
    resumed, unbroken = result(broken, "run"), result(whole, "run")
    for found in (resumed, unbroken):
        found.pop("run")
    assert resumed == unbroken


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The output of all three suites in modelled time, one after the other and in turns; the file of
    pytest-benchmark is ``benchmark.json``."""
    folders = {}
    for name, extra in (("alone", []), ("turns", ["--interleave"])):
        folders[name] = out = tmp_path_factory.mktemp(name)
        options = ("--max-samples=3", "--clock=modelled", "--output-name=arms", *extra)
        written = (f"--output-dir={out}", f"--benchmark-json={out / 'benchmark.json'}")
        finished = run("pytest", "bench", *written, *options)
        assert finished.returncode == 0, finished.stdout
    return folders


def test_two_modelled_runs_differ_in_their_run_block_only_though_one_takes_turns(
    arms: dict[str, Path],
) -> None:
    for mode in ("edge", "cloud", "spec"):
        alone, turns = (result(out, f"arms-{mode}") for out in arms.values())
        alone.pop("run")
        turns.pop("run")
        assert json.dumps(alone) == json.dumps(turns)
        assert alone["detailed_results"][0]["resources"]["cpu_percent"] is None


def test_all_three_suites_write_one_benchmark_file_that_compares(arms: dict[str, Path]) -> None:
    files = [out / "benchmark.json" for out in arms.values()]
    rows = {row["name"]: row for row in json.loads(files[0].read_text())["benchmarks"]}
    for suite in ("edge[chinese-default]", "cloud[chinese-default]", "spec[chinese-default-rank]"):
        name = f"test_{suite}"
        assert len(rows[name]["stats"]["data"]) == 3
        details = result(arms["alone"], f"arms-{suite.partition('[')[0]}")["detailed_results"]
        times = [entry["latency_metrics"]["total_time"] for entry in details]
        assert rows[name]["stats"]["data"] == pytest.approx(times)
        for latency in ("ttft", "tpot"):
            assert f"test_{suite}".replace("[", f"_{latency}[") in rows
    compared = subprocess.run(
        ["pytest-benchmark", "compare", *map(str, files)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert compared.returncode == 0, compared.stderr
    assert compared.stdout.count("test_spec[chinese-default-rank]") == 2


def test_a_whole_run_goes_on_with_a_lost_gpu_and_its_result_says_so(tmp_path: Path) -> None:
    shared = os.environ.get("EDGECLOUD_TEST_DATA", "")
    fake = Path(shared, "cases", "fake_pynvml_gpu_lost.py")
    if not shared or not fake.is_file():
        pytest.skip("EDGECLOUD_TEST_DATA has no cases/fake_pynvml_gpu_lost.py")
    first = tmp_path / "first"
    first.mkdir()
    (first / "pynvml.py").write_bytes(fake.read_bytes())
    path = os.pathsep.join([str(first), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = run(
        *("pytest", "bench/test_edge.py", "-p", "no:cacheprovider", f"--output-dir={tmp_path}"),
        "--max-samples=1",
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    environment = result(tmp_path, "edge_results")["environment"]
    assert environment["devices"]["gpus"] == ["NVIDIA A100", None]
    assert environment["reasons"]["devices.gpus.1"] == "NVML of device 1: GPU is lost"


def test_the_three_experiments_complete_on_real_recordings(tmp_path: Path) -> None:
    data = os.environ.get("EDGECLOUD_TEST_DATA")
    if not data or not Path(data, "secap", "manifest.json").exists():
        pytest.skip("EDGECLOUD_TEST_DATA names no folder with secap/manifest.json")
    finished = run(
        "pytest",
        "bench",
        f"--output-dir={tmp_path}",
        "--output-name=secap",
        f"--dataset-path={Path(data, 'secap', 'manifest.json')}",
        "--caption-type=audio_only",
        "--language=chinese",
        "--max-samples=5",
    )
    assert finished.returncode == 0, finished.stdout
    for mode in ("edge", "cloud", "spec"):
        found = result(tmp_path, f"secap-{mode}")
        assert found["metrics"]["num_completed"] == 5
        assert found["metrics"]["avg_cider"] is not None
