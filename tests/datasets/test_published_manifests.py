"""Manifests as people publish them: read where their meaning is plain, refused with a hint where not."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from edgecloud.contracts import Sample
from edgecloud.datasets.manifest import load_manifest
from edgecloud.datasets.prompts import load_prompts
from edgecloud.errors import ManifestError

ROWS: list[dict[str, Any]] = [
    {"file_id": name, "audio_path": f"wavs/{name}.flac", "caption": "语气平静\u2028，语速适中。"}
    for name in "abc"
]


def put(folder: Path, content: str | bytes, name: str = "manifest.json") -> Path:
    (folder / "wavs").mkdir(exist_ok=True)
    for recording in "abc":
        (folder / "wavs" / f"{recording}.flac").write_bytes(b"audio")
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def load(path: Path) -> tuple[Sample, ...]:
    return load_manifest(path, language="chinese", caption_type="original")


def refusal(path: Path) -> str:
    with pytest.raises(ManifestError) as caught:
        load(path)
    return str(caught.value)


def lines(*rows: Any, end: str = "\n") -> str:
    return end.join(json.dumps(row, ensure_ascii=False) for row in rows) + end


LISTED = json.dumps(ROWS, ensure_ascii=False)


@pytest.mark.parametrize(
    "content, name",
    [
        (LISTED, "manifest.json"),
        (json.dumps(ROWS, indent=2), "manifest.json"),
        ("\ufeff" + LISTED, "manifest.json"),
        (LISTED.encode("utf-16"), "manifest.json"),
        (lines(*ROWS), "manifest.jsonl"),
        (lines(*ROWS), "manifest.json"),
        ("\ufeff" + lines(*ROWS, end="\r\n"), "manifest.jsonl"),
        (lines(*ROWS).replace("\n", "\n\n").rstrip("\n"), "manifest.ndjson"),
        (" \n" + LISTED + " \n", "manifest.json"),
    ],
    ids=range(9),
)
def test_lists_and_lines_are_read_alike(tmp_path: Path, content: str | bytes, name: str) -> None:
    samples = load(put(tmp_path, content, name))
    assert [sample.file_id for sample in samples] == ["a", "b", "c"]
    assert [sample.index for sample in samples] == [0, 1, 2]
    assert samples[0].references == (ROWS[0]["caption"],)


def test_a_single_line_is_a_manifest_of_one(tmp_path: Path) -> None:
    assert len(load(put(tmp_path, lines(ROWS[0]), "one.jsonl"))) == 1
    assert len(load(put(tmp_path, lines(ROWS[0]), "one.json"))) == 1
    path = put(tmp_path, lines({"file_id": "p", "prompt": "hi"}), "p.jsonl")
    assert load_prompts(path, language="english")[0].prompt == "hi"


@pytest.mark.parametrize(
    "content, says",
    [
        (lines(*ROWS) + '{"file_id": "d", ', "line 4"),
        (lines(*ROWS[:2]) + "nonsense\n" + lines(ROWS[2]), "line 3, column 1"),
        (LISTED[:-1], "Expecting ',' delimiter"),
        (LISTED[:-40], "is not JSON"),
        (LISTED + "x", "Extra data"),
        (LISTED.replace("},", "}", 1), "Expecting ',' delimiter"),
        ('[{"file_id": ' + "[" * 5000, "nested"),
        ('[{"file_id": "a", "x": ' + "[" * 200 + "]" * 200 + "}]", "nested more than 100 deep"),
        (r'[{"file_id": "\ud83d", "audio_path": "wavs/a.flac"}]', "half a character"),
        ('[{"file_id": ' + "9" * 5000 + "}]", "4300"),
        ("", "is not JSON: line 1, column 1"),
        ("3", "not a number"),
        ("{}", "not an object"),
    ],
    ids=range(13),
)
def test_what_cannot_be_read_names_its_line(tmp_path: Path, content: str, says: str) -> None:
    found = refusal(put(tmp_path, content))
    assert says in found
    assert "\n" not in found


@pytest.mark.parametrize("size", [250_000, 262_130, 262_140, 262_150, 600_000])
def test_entries_across_the_windows_of_reading_are_whole(tmp_path: Path, size: int) -> None:
    rows = [
        ROWS[0] | {"note": "x" * size, "index": 12345},
        ROWS[1] | {"index": 7},
        ROWS[2] | {"a": "\\" * 9},
    ]
    for content in (json.dumps(rows), lines(*rows)):
        assert [s.index for s in load(put(tmp_path, content))] == [12345, 7, 2]
    broken = json.dumps(rows).replace('"index": 7', '"index" 7')
    assert "Expecting ':' delimiter" in refusal(put(tmp_path, broken))


def test_ids_and_indices_as_tables_leave_them_are_read(tmp_path: Path) -> None:
    rows = [
        ROWS[0] | {"file_id": 17, "index": 0.0},
        ROWS[1] | {"file_id": 18.0, "index": 4.0},
        ROWS[2] | {"index": None},
    ]
    samples = load(put(tmp_path, json.dumps(rows)))
    assert [(s.file_id, s.index) for s in samples] == [("17", 0), ("18", 4), ("c", 2)]
    path = put(tmp_path, json.dumps([{"file_id": 3, "prompt": "hi", "index": 2.0}]))
    (prompt,) = load_prompts(path, language="english")
    assert (prompt.file_id, prompt.index) == ("3", 2)


@pytest.mark.parametrize("change", [{"file_id": True}, {"file_id": 1.5}, {"index": 0.5}])
def test_ids_and_indices_that_are_none_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    assert f"{next(iter(change))} must be" in refusal(put(tmp_path, json.dumps([ROWS[0] | change])))


def test_an_id_that_is_no_whole_number_is_told_what_ids_are(tmp_path: Path) -> None:
    said = "file_id must be text or a whole number, not the number 1.5"
    assert said in refusal(put(tmp_path, json.dumps([ROWS[0] | {"file_id": 1.5}])))
    path = put(tmp_path, json.dumps([{"file_id": 1.5, "prompt": "hi"}]))
    with pytest.raises(ManifestError, match=said):
        load_prompts(path, language="english")


def test_a_number_and_its_text_are_one_id(tmp_path: Path) -> None:
    rows = [ROWS[0] | {"file_id": 17}, ROWS[1] | {"file_id": "17"}]
    assert "file_id is that of entry 0" in refusal(put(tmp_path, json.dumps(rows)))


@pytest.mark.parametrize(
    "text",
    ['["语气平静","声音低沉"]', "['calm', 'low']", " [] ", '["one"]', '[["a"],["b"]]', "('a','b')"],
)
@pytest.mark.parametrize("field", ["caption", "chinese_caption", "english_caption"])
def test_a_caption_that_is_the_text_of_a_list_is_refused_by_name(
    tmp_path: Path, text: str, field: str
) -> None:
    for caption in (text, ["fine", text]):
        found = refusal(put(tmp_path, json.dumps([ROWS[0] | {field: caption}])))
        assert f"entry 0 (a): {field} is the text of a JSON list" in found
    path = put(tmp_path, json.dumps([{"file_id": "p", "prompt": "hi", "references": text}]))
    with pytest.raises(ManifestError, match="references is the text of a JSON list"):
        load_prompts(path, language="english")


def test_brackets_in_a_caption_are_no_list(tmp_path: Path) -> None:
    rows = [ROWS[0] | {"caption": "[laughs] a calm voice [sighs]"}]
    assert load(put(tmp_path, json.dumps(rows)))[0].references == (rows[0]["caption"],)


@pytest.mark.parametrize(
    "audio_path, hint",
    [
        ("wavs\\a.flac", "it has backslashes; write wavs/a.flac"),
        ("WAVS\\A.FLAC", "it has backslashes; write wavs/a.flac"),
        (".\\wavs\\none.flac", "it has backslashes; write wavs/none.flac"),
        ("C:\\data\\x.wav", "backslashes make it a path of Windows"),
        ("C:/data/x.wav", "drive letter makes it a path of Windows"),
        ("\\\\server\\share\\x.wav", "make it a path of Windows"),
        ("wavs/A.FLAC", "a file of other case or composition of letters lies there: wavs/a.flac"),
        ("Wavs/a.flac", "lies there: wavs/a.flac"),
        ("wavs/cafe\u0301.flac", "lies there: wavs/caf\u00e9.flac"),
        ("wavs/._a.flac", "macOS's notes on another file; name wavs/a.flac"),
        ("wavs/._b.flac", "macOS's notes on another file; name wavs/b.flac"),
    ],
)
def test_a_path_that_leads_nowhere_has_a_hint(tmp_path: Path, audio_path: str, hint: str) -> None:
    path = put(tmp_path, json.dumps([ROWS[0] | {"audio_path": audio_path}]))
    (tmp_path / "wavs" / "caf\u00e9.flac").write_bytes(b"audio")
    (tmp_path / "wavs" / "._b.flac").write_bytes(b"\0\5\x16\7" + bytes(40))
    found = refusal(path)
    assert hint in found
    assert "does not exist" in found or "is no recording" in found


def test_no_hint_is_made_up(tmp_path: Path) -> None:
    path = put(tmp_path, json.dumps([ROWS[0] | {"audio_path": "wavs/other.flac"}]))
    assert refusal(path).endswith("wavs/other.flac does not exist")


def test_a_manifest_of_many_broken_entries_shows_the_first_hundred(tmp_path: Path) -> None:
    path = put(tmp_path, json.dumps([{"file_id": str(n)} for n in range(1000)]))
    with pytest.raises(ManifestError) as caught:
        load(path)
    assert len(caught.value.problems) == 1000
    assert str(caught.value).endswith("and 900 more")


def test_reading_takes_memory_for_its_samples_not_for_the_file(tmp_path: Path) -> None:
    rows = [ROWS[n % 3] | {"file_id": str(n), "extra": "x" * 2000} for n in range(4000)]
    path = put(tmp_path, lines(*rows))
    tracemalloc.start()
    try:
        assert len(load(path)) == 4000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < path.stat().st_size


CASES = Path(os.environ.get("EDGECLOUD_TEST_DATA") or "none", "cases", "manifests")


@pytest.mark.parametrize("name", ["rows.jsonl", "int_id.json", "floatindex.json"])
def test_published_cases_are_read(tmp_path: Path, name: str) -> None:
    if not CASES.is_dir():
        pytest.skip("EDGECLOUD_TEST_DATA is not set, or holds no cases/manifests")
    path = put(tmp_path, (CASES / name).read_bytes(), name)
    for number in range(3):
        (tmp_path / "wavs" / f"test-{number:05}.flac").write_bytes(b"audio")
    assert load(path)
