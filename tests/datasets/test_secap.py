"""The converter from SECap's own layout, on a miniature of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from edgecloud.datasets.converters.secap import convert
from edgecloud.datasets.manifest import load_manifest
from edgecloud.errors import ManifestError, OutputError

CAPTIONS: dict[str, Any] = {
    "tx_emotion_1": "心情平静，不急躁。",
    "tx_emulate_1": "充满嫉妒和羡慕的语气 艳羡不已",
    "tx_xiao_1": ["很开心", "语气欢快"],
}
TEXT = "tx_emotion_1 一年又一年。 \ntx_emulate_1\t太正确了，训练 有素。\ntx_xiao_1 你好。\n"


def layout(folder: Path, *, captions: Any = CAPTIONS, text: str = TEXT) -> Path:
    dataset = folder / "dataset"
    (dataset / "wav").mkdir(parents=True)
    (dataset / "fid2captions.json").write_text(
        json.dumps(captions, ensure_ascii=False), encoding="utf-8"
    )
    (dataset / "text.txt").write_text(text, encoding="utf-8")
    for number, (name, subtype) in enumerate(
        [("tx_emotion_1", "PCM_16"), ("tx_emulate_1", "PCM_24"), ("tx_xiao_1", "PCM_16")]
    ):
        samples = np.random.default_rng(number).uniform(-0.5, 0.5, 24_000)
        soundfile.write(dataset / "wav" / f"{name}.wav", samples, 24_000, subtype=subtype)
    return dataset


def test_the_layout_becomes_a_manifest_that_loads(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    dest = tmp_path / "out"
    count = convert(layout(tmp_path), dest, progress=lambda done, of: steps.append((done, of)))
    assert count == 3
    assert steps == [(1, 3), (2, 3), (3, 3)]
    samples = load_manifest(dest / "manifest.json", language="chinese", caption_type="audio_only")
    assert [s.file_id for s in samples] == list(CAPTIONS)
    assert [s.references for s in samples] == [
        ("心情平静，不急躁。",),
        ("充满嫉妒和羡慕的语气 艳羡不已",),
        ("很开心", "语气欢快"),
    ]
    assert [s.transcription for s in samples] == ["一年又一年。", "太正确了，训练 有素。", "你好。"]
    assert [s.index for s in samples] == [0, 1, 2]
    for sample in samples:
        info = soundfile.info(sample.audio_path)
        assert (info.samplerate, info.channels, info.format) == (16_000, 1, "FLAC")
        assert info.frames == 16_000
    assert sorted(p.name for p in dest.iterdir()) == ["audio", "manifest.json"]


def test_entries_hold_every_field_of_the_unified_format(tmp_path: Path) -> None:
    convert(layout(tmp_path), tmp_path / "out")
    entries = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert entries[0] == {
        "file_id": "tx_emotion_1",
        "dataset": "secap",
        "audio_path": "audio/tx_emotion_1.flac",
        "caption": "心情平静，不急躁。",
        "transcription": "一年又一年。",
        "chinese_caption": "心情平静，不急躁。",
        "english_caption": "",
        "chinese_transcription": "一年又一年。",
        "english_transcription": "",
        "index": 0,
    }


def test_the_repository_around_the_folder_does_too_and_again(tmp_path: Path) -> None:
    layout(tmp_path)
    assert convert(tmp_path, tmp_path / "out") == 3
    before = (tmp_path / "out" / "manifest.json").read_bytes()
    assert convert(tmp_path, tmp_path / "out") == 3
    assert (tmp_path / "out" / "manifest.json").read_bytes() == before


def test_all_problems_are_listed_at_once_and_no_manifest_is_written(tmp_path: Path) -> None:
    captions = CAPTIONS | {"tx_emulate_1": 3, "tx_xiao_1": " ", "gone": "很好", "../up": "很好"}
    text = (
        TEXT.replace("tx_emotion_1 一年又一年。 ", "tx_emotion_1") + "stray 你好。\ntx_xiao_1 再\n"
    )
    dataset = layout(tmp_path, captions=captions, text=text)
    soundfile.write(dataset / "wav" / "extra.wav", np.zeros(24_000), 24_000)
    with pytest.raises(ManifestError) as caught:
        convert(dataset, tmp_path / "out")
    assert caught.value.problems == (
        "fid2captions.json: tx_emulate_1: caption must be text or a list of texts",
        "fid2captions.json: tx_xiao_1: caption is empty",
        "fid2captions.json: ../up: is not an id that can name a file",
        "text.txt line 1: no TAB or space after tx_emotion_1",
        "text.txt line 5: tx_xiao_1 occurs twice",
        "text.txt: no line for gone",
        "wav/gone.wav: does not exist",
        "text.txt: no line for ../up",
        "wav/../up.wav: does not exist",
        "fid2captions.json: no caption for stray of text.txt",
        "fid2captions.json: no caption for wav/extra.wav",
    )
    assert not (tmp_path / "out").exists()


def test_recordings_that_do_not_decode_are_listed_and_no_manifest_is_written(
    tmp_path: Path,
) -> None:
    dataset = layout(tmp_path)
    for name in ("tx_emotion_1", "tx_xiao_1"):
        (dataset / "wav" / f"{name}.wav").write_bytes(b"not audio")
    with pytest.raises(ManifestError) as caught:
        convert(dataset, tmp_path / "out")
    assert len(caught.value.problems) == 2
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize("content", ["[", "[1]", '"text"', "{}"])
def test_captions_of_another_shape_are_refused(tmp_path: Path, content: str) -> None:
    dataset = layout(tmp_path)
    (dataset / "fid2captions.json").write_text(content)
    with pytest.raises(ManifestError, match=r"fid2captions\.json"):
        convert(dataset, tmp_path / "out")


def test_a_folder_that_is_not_secap_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="does not exist; give SECap's folder dataset"):
        convert(tmp_path / "none", tmp_path / "out")
    with pytest.raises(ManifestError, match=r"holds no fid2captions\.json"):
        convert(tmp_path, tmp_path / "out")


def test_missing_parts_are_named(tmp_path: Path) -> None:
    dataset = layout(tmp_path)
    (dataset / "text.txt").unlink()
    with pytest.raises(ManifestError, match=r"text\.txt: does not exist"):
        convert(dataset, tmp_path / "out")


def test_a_destination_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(OutputError, match="cannot write to"):
        convert(layout(tmp_path), tmp_path / "out")


def test_upper_case_endings_are_read_and_the_notes_of_macos_are_not(tmp_path: Path) -> None:
    dataset = layout(tmp_path)
    (dataset / "wav" / "tx_xiao_1.wav").rename(dataset / "wav" / "tx_xiao_1.WAV")
    (dataset / "wav" / "._tx_xiao_1.wav").write_bytes(b"\0\5\x16\7")
    assert convert(dataset, tmp_path / "out") == 3


def test_a_recording_cut_short_is_refused_and_one_that_cannot_be_right_is_noted(
    tmp_path: Path,
) -> None:
    dataset = layout(tmp_path)
    silent = dataset / "wav" / "tx_xiao_1.wav"
    soundfile.write(silent, np.zeros(24_000), 24_000)
    heard: list[str] = []
    convert(dataset, tmp_path / "out", noted=lambda file_id, notes: heard.extend([file_id, *notes]))
    assert heard == ["tx_xiao_1", "silent"]
    silent.write_bytes(silent.read_bytes()[:20_000])
    with pytest.raises(ManifestError, match="cut off"):
        convert(dataset, tmp_path / "again")


def test_a_caption_that_is_the_text_of_a_list_is_refused(tmp_path: Path) -> None:
    captions = CAPTIONS | {"tx_xiao_1": '["很开心","语气欢快"]'}
    with pytest.raises(ManifestError, match="caption is the text of a list"):
        convert(layout(tmp_path, captions=captions), tmp_path / "out")
