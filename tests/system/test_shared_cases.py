"""Every input of the shared cases, given to the commands that a user would give it to.

The folder lies beside the project (``EDGECLOUD_TEST_DATA``); its README says what each must give. Where it
is absent, all of this is skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from bench.preflight import check_run
from edgecloud.cli.main import main
from edgecloud.datasets.corpus import load_corpus
from edgecloud.embedded import corpus as embedded
from edgecloud.errors import MetricError
from edgecloud.quality import java
from edgecloud.settings.config import Config, resolve
from tests.system.test_command_line import bench, result, run

CASES = Path(os.environ.get("EDGECLOUD_TEST_DATA") or "none", "cases")
AUDIO = CASES / "audio"
pytestmark = pytest.mark.skipif(
    not CASES.is_dir(), reason="EDGECLOUD_TEST_DATA is not set, or holds no cases"
)

CUT = ("cut.wav", "data_size_toolong.wav")
PHONES = ("phone.m4a", "v.amr", "voice.webm")
NOTED = {
    "int_scaled.wav": "times full scale",
    "antiphase.wav": "its channels cancel each other",
    "silence.wav": "nothing but silence",
}
SOUND = ("ok.wav", "piped.wav")


# Recordings


@pytest.fixture(scope="module")
def captioned() -> tuple[int, str, dict[str, list[str]]]:
    """All recordings in one call: its status, what it printed, and what it said of each."""
    names = [*SOUND, *NOTED, *PHONES, *CUT]
    paths = [str(AUDIO / name) for name in names]
    done = run("edgecloud", "caption", "--mode", "edge", "--clock", "modelled", *paths)
    lines = done.stderr.splitlines()
    return (
        done.returncode,
        done.stdout,
        {name: [line for line in lines if f"{AUDIO / name}: " in line] for name in names},
    )


def test_recordings_are_captioned_noted_or_refused_as_cut_off(
    captioned: tuple[int, str, dict[str, list[str]]],
) -> None:
    status, printed, said = captioned
    assert status == 1
    for name in CUT:
        (line,) = said[name]
        assert "cut off" in line
        assert "announces" in line
    for name, words in NOTED.items():
        (line,) = said[name]
        assert "note: " in line
        assert words in line
    if not _has_pyav():
        assert all("pip install 'edgecloud[phone]'" in line for p in PHONES for line in said[p])
    whole = [*SOUND, *NOTED, *(PHONES if _has_pyav() else ())]
    assert all(said[name] == [] for name in whole if name not in NOTED)
    assert printed.count("first token") == len(whole)


def _has_pyav() -> bool:
    from importlib.util import find_spec

    return find_spec("av") is not None


@pytest.fixture
def secap(tmp_path: Path) -> Callable[..., list[str]]:
    """A folder of SECap's layout with recordings of these cases; what ``data secap`` is to be given."""

    def made(*names: str) -> list[str]:
        folder = tmp_path / "dataset"
        (folder / "wav").mkdir(parents=True)
        for name in names:
            shutil.copyfile(AUDIO / name, folder / "wav" / f"{Path(name).stem}.wav")
        ids = [Path(name).stem for name in names]
        captions = dict.fromkeys(ids, "语气平静。")
        (folder / "fid2captions.json").write_text(json.dumps(captions), encoding="utf-8")
        (folder / "text.txt").write_text("".join(f"{id_}\t话\n" for id_ in ids), encoding="utf-8")
        return ["data", "secap", str(folder), str(tmp_path / "out")]

    return made


def test_no_recording_that_is_cut_off_becomes_a_sound_flac(
    secap: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(secap("ok.wav", *CUT)) == 2
    assert capsys.readouterr().err.count("cut off") == len(CUT)
    assert [path.name for path in (tmp_path / "out" / "audio").iterdir()] == ["ok.flac"]
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_without_the_extra_phones_recordings_are_refused_with_its_name(
    secap: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    assert main(secap(*PHONES)) == 2
    assert capsys.readouterr().err.count("pip install 'edgecloud[phone]'") == len(PHONES)


# Manifests


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    """The manifests with the recordings that they name: the embedded ones, and these cases' own."""
    folder = tmp_path / "manifests"
    shutil.copytree(CASES / "manifests", folder)
    (tmp_path / "audio").symlink_to(AUDIO)
    (folder / "wavs").symlink_to(embedded.FOLDER / "audio")
    return folder


def test_a_run_fails_what_is_cut_counts_what_cannot_be_right_and_goes_on_with_a_lost_gpu(
    manifests: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fake").mkdir()
    shutil.copyfile(CASES / "fake_pynvml_gpu_lost.py", tmp_path / "fake" / "pynvml.py")
    before = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "fake"), before]))
    manifest = str(manifests / "cut.json")
    done = bench("edge", tmp_path, "--clock=modelled", "--dataset-path", manifest)
    assert done.returncode == 1
    assert "1 of 4 samples failed" in done.stdout
    assert (
        "2 of 4 recordings cannot be right: 1 far beyond full scale, 1 silent once mixed down"
        in done.stdout
    )
    found = result(tmp_path, "edge_results")
    rows = {row["file_id"]: row for row in found["detailed_results"]}
    assert {name: row["status"] for name, row in rows.items()} == {
        "full": "ok",
        "cut": "failed",
        "scaled": "ok",
        "antiphase": "ok",
    }
    assert "cut off" in rows["cut"]["error"]["message"]
    assert {name: [*row["audio_notes"]] for name, row in rows.items()} == {
        "full": [],
        "cut": [],
        "scaled": ["beyond_full_scale"],
        "antiphase": ["silent"],
    }
    assert "device 1" in found["environment"]["reasons"]["devices.gpus.1"]


def test_a_manifest_without_references_in_the_language_is_told_the_flag(
    manifests: Path, tmp_path: Path
) -> None:
    manifest = str(manifests / "en_in_zh.json")
    done = bench("edge", tmp_path, "--clock=modelled", "--dataset-path", manifest)
    assert done.returncode == 0, done.stdout + done.stderr
    told = [line for line in done.stdout.splitlines() if line.startswith("warning: ")]
    assert told[-1].endswith("no reference in chinese, so nothing was scored; --language english?")


def checked(config: Config) -> None:
    """Check a run as bench does before anything is loaded."""
    with ExitStack() as holding:
        check_run({"edge": config}, holding=holding)


def config_of(manifest: Path, tmp_path: Path) -> Config:
    return resolve({"dataset_path": str(manifest), "output_dir": str(tmp_path / "out")})


@pytest.mark.parametrize(
    "name, ids", [("rows.jsonl", "abc"), ("int_id.json", ["17"]), ("floatindex.json", "ab")]
)
def test_manifests_as_people_publish_them_are_read(
    manifests: Path, tmp_path: Path, name: str, ids: list[str]
) -> None:
    config = config_of(manifests / name, tmp_path)
    checked(config)
    samples, _ = load_corpus(config)
    assert [sample.file_id for sample in samples] == list(ids)
    assert [sample.index for sample in samples] == list(range(len(samples)))
    assert all(sample.references for sample in samples)


@pytest.mark.parametrize(
    "name, words",
    [
        ("cap_json_string.json", ["entry 0 (a)", "caption is the text of a JSON list"]),
        ("winpath.json", ["does not exist", "write wavs/test-00000.flac", "a path of Windows"]),
        ("case.json", ["does not exist", "of other case", "wavs/test-00000.flac"]),
    ],
)
def test_manifests_that_cannot_be_meant_are_refused_with_a_hint(
    manifests: Path, tmp_path: Path, name: str, words: list[str]
) -> None:
    with pytest.raises(pytest.UsageError) as caught:
        checked(config_of(manifests / name, tmp_path))
    assert all(word in str(caught.value) for word in words), caught.value


# Scores


@pytest.fixture
def scored(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], dict[str, Any]]:
    def no_java() -> str:
        raise MetricError("there is no Java")  # it takes seconds to start

    monkeypatch.setattr(java, "find_java", no_java)

    def score(name: str) -> dict[str, Any]:
        assert main(["score", str(CASES / "score" / name), "-o", "-"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return score


@pytest.mark.parametrize(
    "name, expected",
    [
        ("curly_negation.json", {"en.emotion_accuracy": 1, "en.simple.bleu_1": 1}),
        ("curly_en.json", {"en.simple.bleu_1": 1}),
        ("negation_zh.json", {"zh.emotion_accuracy": 1, "zh.emotion_recall": 1}),
        ("traditional_both.json", {"zh.emotion_accuracy": 1, "zh.emotion_recall": 1}),
        ("bom.json", {"zh.emotion_accuracy": 1, "zh.jieba.bleu_4": 1}),
    ],
)
def test_pairs_are_scored_as_a_reader_takes_them(
    scored: Callable[[str], dict[str, Any]], name: str, expected: dict[str, float]
) -> None:
    found = scored(name)["corpus"]
    assert {score: found[score] for score in expected} == pytest.approx(expected)


@pytest.mark.parametrize("name, count", [("leak_miss.json", 2), ("leak_false.json", 0)])
def test_chat_is_told_from_quoted_speech(
    scored: Callable[[str], dict[str, Any]], name: str, count: int
) -> None:
    found = scored(name)["defects"]["zh"]
    assert found["chat_leakage"] == count
    assert sum(found.values()) == count


def test_one_long_word_is_scored_in_time_with_a_note_of_what_was_cut(
    scored: Callable[[str], dict[str, Any]],
) -> None:
    began = time.monotonic()
    found = scored("longword.json")
    assert time.monotonic() - began < 20
    assert any("characters" in str(note) for note in found["notes"].values()), found["notes"]


# The gate


@pytest.mark.parametrize(
    "new, told", [("a", None), ("bom_a", None), ("gc", "disable_gc"), ("other_py", "python")]
)
def test_benchmark_files_of_any_project_are_compared_and_what_differs_is_noted(
    capsys: pytest.CaptureFixture[str], new: str, told: str | None
) -> None:
    status = main(["gate", str(CASES / "gate" / "a.json"), str(CASES / "gate" / f"{new}.json")])
    # The two others were really measured again, and some of their rows are slower.
    assert status == 0 or told is not None
    noted = [line for line in capsys.readouterr().out.splitlines() if "differs: " in line]
    assert len(noted) == (told is not None)
    assert told is None or told in noted[0]


def test_what_the_gate_does_not_read_may_be_no_number() -> None:
    path = str(CASES / "gate" / "real_nan_extra.json")
    assert main(["gate", path, path]) == 0
