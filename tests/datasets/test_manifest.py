"""The manifest loader: what it reads, and how it says what is wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecloud.contracts import Sample
from edgecloud.datasets import manifest
from edgecloud.datasets.manifest import data_hash, embedded_manifest, load_manifest
from edgecloud.errors import DataError, ManifestError

ENTRY: dict[str, Any] = {
    "file_id": "a",
    "dataset": "tiny",
    "audio_path": "audio/a.flac",
    "caption": "语气开心",
    "transcription": "你好",
    "chinese_caption": ["语气开心", "很高兴"],
    "english_caption": "sounds happy",
    "chinese_transcription": "你好",
    "english_transcription": "hello",
    "index": 7,
}


def write(folder: Path, entries: Any) -> Path:
    (folder / "audio").mkdir(exist_ok=True)
    for name in "abc":
        (folder / "audio" / f"{name}.flac").write_bytes(b"audio of " + name.encode())
    path = folder / "manifest.json"
    path.write_text(entries if isinstance(entries, str) else json.dumps(entries), encoding="utf-8")
    return path


def problems(path: Path) -> tuple[str, ...]:
    with pytest.raises(ManifestError) as caught:
        load_manifest(path, language="chinese", caption_type="original")
    return caught.value.problems


def test_an_entry_becomes_a_sample(tmp_path: Path) -> None:
    path = write(tmp_path, [ENTRY])
    (sample,) = load_manifest(path, language="chinese", caption_type="audio_only")
    assert sample.file_id == "a"
    assert sample.index == 7
    assert sample.dataset == "tiny"
    assert sample.audio_path == tmp_path / "audio" / "a.flac"
    assert sample.references == ("语气开心", "很高兴")
    assert sample.reference_language == "chinese"
    assert sample.transcription == "你好"


def test_audio_only_reads_the_caption_and_transcription_of_the_language(tmp_path: Path) -> None:
    path = write(tmp_path, [ENTRY])
    (sample,) = load_manifest(path, language="english", caption_type="audio_only")
    assert (sample.references, sample.reference_language) == (("sounds happy",), "english")
    assert sample.transcription == "hello"


def test_original_reads_caption_and_keeps_its_own_language(tmp_path: Path) -> None:
    path = write(tmp_path, [ENTRY])
    (sample,) = load_manifest(path, language="english", caption_type="original")
    assert (sample.references, sample.reference_language) == (("语气开心",), "chinese")


def test_of_a_list_in_two_languages_the_one_generated_is_taken(tmp_path: Path) -> None:
    path = write(tmp_path, [ENTRY | {"caption": ["语气开心", "sounds happy"]}])
    (sample,) = load_manifest(path, language="english", caption_type="original")
    assert (sample.references, sample.reference_language) == (("sounds happy",), "english")


def test_only_id_and_audio_are_required(tmp_path: Path) -> None:
    entries = [
        {"file_id": "b", "audio_path": "audio/b.flac"},
        {"file_id": "a", "audio_path": "audio/a.flac", "caption": None, "extra": 1},
    ]
    first, second = load_manifest(
        write(tmp_path, entries), language="chinese", caption_type="original"
    )
    assert (first.references, first.transcription, first.dataset) == ((), None, "unified")
    assert (first.index, second.index) == (0, 1)


@pytest.mark.parametrize("blank", ["", "  \n", [], ["", " "]])
def test_blank_captions_are_no_references(tmp_path: Path, blank: Any) -> None:
    path = write(tmp_path, [ENTRY | {"caption": blank, "chinese_caption": blank}])
    for caption_type in ("original", "audio_only"):
        (sample,) = load_manifest(path, language="chinese", caption_type=caption_type)  # type: ignore[arg-type]
        assert sample.references == ()
        assert sample.reference_language == "chinese"


def test_a_blank_transcription_of_the_language_falls_back_to_the_general_one(
    tmp_path: Path,
) -> None:
    path = write(tmp_path, [ENTRY | {"english_transcription": " "}])
    (sample,) = load_manifest(path, language="english", caption_type="original")
    assert sample.transcription == "你好"


def test_a_missing_manifest_says_which_option_to_check(tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    with pytest.raises(ManifestError) as caught:
        load_manifest(path, language="chinese", caption_type="original")
    assert str(caught.value) == f"dataset manifest {path} does not exist; check --dataset-path"


@pytest.mark.parametrize(
    "text, says",
    [
        ("[{]", "is not JSON: line 1, column 3"),
        ('{"file_id": "a"}', "must be a JSON list of entries, not an object"),
        ("[]", "holds no entries"),
        ("[" * 100_000, "is not"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ManifestError) as caught:
        load_manifest(write(tmp_path, text), language="chinese", caption_type="original")
    assert says in str(caught.value)


def test_a_folder_and_bytes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="cannot be read"):
        load_manifest(tmp_path, language="chinese", caption_type="original")
    path = tmp_path / "bytes.json"
    path.write_bytes(b"[\xff]")
    with pytest.raises(ManifestError, match="not UTF-8"):
        load_manifest(path, language="chinese", caption_type="original")


def test_all_problems_are_listed_at_once_with_entry_and_field(tmp_path: Path) -> None:
    entries = [
        ENTRY,
        ENTRY,
        "text",
        {"audio_path": "audio/none.flac"},
        ENTRY | {"file_id": "b", "caption": 3, "english_caption": ["fine", 4], "index": True},
        ENTRY | {"file_id": "c", "audio_path": ["x"], "transcription": {}, "index": -1},
        ENTRY | {"file_id": "", "audio_path": "audio"},
    ]
    assert problems(write(tmp_path, entries)) == (
        "entry 1 (a): file_id is that of entry 0 as well",
        "entry 2: must be an object, not text",
        "entry 3: file_id is missing",
        f"entry 3: audio_path {tmp_path}/audio/none.flac does not exist",
        "entry 4 (b): caption must be text or a list of texts, not a number",
        "entry 4 (b): english_caption[1] must be text, not a number",
        "entry 4 (b): index must be a whole number, not true or false",
        "entry 5 (c): audio_path must be text, not a list",
        "entry 5 (c): transcription must be text, not an object",
        "entry 5 (c): index must not be negative, it is -1",
        "entry 6: file_id is empty",
        f"entry 6: audio_path {tmp_path}/audio is not a file",
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@given(st.lists(st.dictionaries(st.sampled_from(sorted(ENTRY)), JSON) | JSON, max_size=3))
def test_no_manifest_escapes_as_another_error(
    tmp_path_factory: pytest.TempPathFactory, entries: Any
) -> None:
    path = write(tmp_path_factory.getbasetemp(), entries)
    try:
        load_manifest(path, language="chinese", caption_type="original")
    except ManifestError as error:
        assert str(path) in str(error)  # noqa: PT017


def test_the_hash_follows_content_not_place(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    hashes = []
    for folder in (first, second):
        folder.mkdir()
        path = write(folder, [ENTRY])
        hashes.append(data_hash(load_manifest(path, language="chinese", caption_type="original")))
    assert hashes[0] == hashes[1]
    samples = load_manifest(second / "manifest.json", language="chinese", caption_type="original")
    (second / "audio" / "a.flac").write_bytes(b"other audio")
    assert data_hash(samples) != hashes[0]
    path = write(second, [ENTRY | {"caption": "语气生气"}])
    assert data_hash(load_manifest(path, language="chinese", caption_type="original")) != hashes[0]


def test_hashing_a_recording_that_went_away_says_which(tmp_path: Path) -> None:
    path = write(tmp_path, [ENTRY])
    samples = load_manifest(path, language="chinese", caption_type="original")
    samples[0].audio_path.unlink()
    with pytest.raises(DataError, match=r"a\.flac"):
        data_hash(samples)


def test_the_embedded_manifests_are_of_the_package() -> None:
    assert embedded_manifest("chinese").parts[-3:] == ("embedded", "corpus", "chinese.json")
    assert embedded_manifest("english", "detailed").name == "english-detailed.json"


@pytest.mark.parametrize("language", ["chinese", "english"])
@pytest.mark.parametrize("prompt_type", ["default", "detailed", "concise"])
def test_the_embedded_corpus_has_three_references_a_sample_in_the_language(
    language: Any, prompt_type: Any
) -> None:
    path = embedded_manifest(language, prompt_type)
    if not path.is_file():
        pytest.skip(f"{path} has not been built")
    for caption_type in ("original", "audio_only"):
        samples = load_manifest(path, language=language, caption_type=caption_type)  # type: ignore[arg-type]
        assert len(samples) >= 120
        for sample in samples:
            assert len(sample.references) == 3, sample.file_id
            assert sample.reference_language == language, sample.file_id


def test_the_shared_secap_manifest_loads() -> None:
    folder = os.environ.get("EDGECLOUD_TEST_DATA")
    if not folder or not (path := Path(folder) / "secap" / "manifest.json").is_file():
        pytest.skip("EDGECLOUD_TEST_DATA is not set, or holds no secap/manifest.json")
    samples = load_manifest(path, language="chinese", caption_type="audio_only")
    assert len(samples) == 120
    assert all(len(sample.references) == 1 for sample in samples)
    assert {s.reference_language for s in samples} == {"chinese"}
    english = load_manifest(path, language="english", caption_type="original")
    assert {s.reference_language for s in english} == {"chinese"}


@given(
    st.text(),
    st.lists(st.text(), max_size=3),
    st.none() | st.text(),
    st.none() | st.text(),
    st.booleans(),
)
def test_what_is_hashed_of_a_sample_is_json(
    file_id: str, references: list[str], said: str | None, prompt: str | None, is_text: bool
) -> None:
    path = None if is_text else Path("a.wav")
    sample = Sample(file_id, 0, "d", path, tuple(references), "english", said, prompt)
    whole = [file_id, references, said, *([prompt] if is_text else [])]
    assert manifest._as_json(sample) == json.dumps(whole)
