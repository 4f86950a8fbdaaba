"""Text manifests: prompts without recordings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgecloud.datasets.corpus import in_own_language, load_corpus
from edgecloud.datasets.manifest import data_hash
from edgecloud.datasets.prompts import load_prompts
from edgecloud.errors import ConfigError, ManifestError
from edgecloud.settings.config import resolve


def write(folder: Path, entries: Any) -> Path:
    path = folder / "prompts.json"
    path.write_text(json.dumps(entries), encoding="utf-8")
    return path


def test_an_entry_becomes_a_sample_without_a_recording(tmp_path: Path) -> None:
    entry = {
        "file_id": "a",
        "prompt": " Say it.\n",
        "references": ["One.", " ", "Two. "],
        "language": "english",
        "dataset": "d",
        "index": 4,
    }
    (sample,) = load_prompts(write(tmp_path, [entry]), language="chinese")
    assert (sample.prompt, sample.audio_path) == (" Say it.\n", None)
    assert sample.references == ("One.", "Two.")
    assert (sample.reference_language, sample.dataset, sample.index) == ("english", "d", 4)


def test_id_and_prompt_are_enough(tmp_path: Path) -> None:
    path = write(tmp_path, [{"file_id": "a", "prompt": "x"}, {"file_id": "b", "prompt": "y"}])
    samples = load_prompts(path, language="chinese")
    assert [(s.index, s.references, s.reference_language) for s in samples] == [
        (0, (), "chinese"),
        (1, (), "chinese"),
    ]


def test_every_problem_is_listed_with_its_entry_and_field(tmp_path: Path) -> None:
    entries = [
        7,
        {"prompt": "x"},
        {"file_id": "a", "prompt": " "},
        {"file_id": "a", "prompt": 3, "references": [1], "language": "latin", "index": -1},
        {"file_id": "c", "prompt": "x", "references": {}, "dataset": 1},
    ]
    with pytest.raises(ManifestError) as info:
        load_prompts(write(tmp_path, entries), language="chinese")
    assert info.value.problems == (
        "entry 0: must be an object, not a number",
        "entry 1: file_id is missing",
        "entry 2 (a): prompt is empty",
        "entry 3 (a): prompt must be text, not a number",
        "entry 3 (a): references must be a text or a list of texts, not a number",
        "entry 3 (a): language must be chinese or english, not 'latin'",
        "entry 3 (a): index must be a whole number from 0 on, not -1",
        "entry 3 (a): file_id is that of entry 2 as well",
        "entry 4 (c): references must be a text or a list of texts, not an object",
        "entry 4 (c): dataset must be text, not a number",
    )


def test_the_hash_follows_the_prompts(tmp_path: Path) -> None:
    hashes = {
        data_hash(
            load_prompts(write(tmp_path, [{"file_id": "a", "prompt": text}]), language="english")
        )
        for text in ("x", "y", "x")
    }
    assert len(hashes) == 2


def test_a_configuration_leads_to_the_manifest_of_its_type(tmp_path: Path) -> None:
    path = write(tmp_path, [{"file_id": "a", "prompt": "x"}])
    samples, found = load_corpus(resolve({"dataset_type": "text", "dataset_path": str(path)}))
    assert (samples[0].prompt, found) == ("x", path)
    with pytest.raises(ManifestError, match="audio_path is missing"):
        load_corpus(resolve({"dataset_path": str(path)}))


def test_without_a_manifest_there_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="text needs dataset_path"):
        resolve({"dataset_type": "text"})


def test_a_run_in_another_language_than_the_manifests_own_is_refused_with_the_flag(
    tmp_path: Path,
) -> None:
    entry = {"file_id": "a", "prompt": "x", "references": ["y"], "language": "english"}
    path = write(tmp_path, [entry])
    flags = {"dataset_type": "text", "dataset_path": str(path)}
    with pytest.raises(ConfigError, match=r"1 of 1 prompts, 'a' the first.*leave out --language"):
        load_corpus(resolve({**flags, "language": "chinese"}))
    assert len(load_corpus(resolve({**flags, "language": "english"}))[0]) == 1
    mixed = write(tmp_path, [entry, {"file_id": "b", "prompt": "z", "language": "chinese"}])
    for language in ("chinese", "english"):
        with pytest.raises(ConfigError, match="1 of 2 prompts"):
            load_corpus(resolve({**flags, "dataset_path": str(mixed), "language": language}))


def test_an_entry_that_states_no_language_is_in_that_of_its_references(tmp_path: Path) -> None:
    entries = [
        {"file_id": "a", "prompt": "x", "references": ["A calm voice."]},
        {"file_id": "b", "prompt": "x", "references": ["A calm voice.", "平静的声音。"]},
        {"file_id": "c", "prompt": "x", "references": ["42"]},
        {"file_id": "d", "prompt": "x", "references": ["A calm voice."], "language": "chinese"},
    ]
    path = write(tmp_path, entries)
    flags = {"dataset_type": "text", "dataset_path": str(path)}
    for given in ({}, {"language": "chinese"}):
        samples, _ = load_corpus(resolve({**flags, **given}))
        found = [sample.reference_language for sample in samples]
        assert found == ["english", "chinese", "chinese", "chinese"]


def test_what_no_flag_gave_is_the_manifests_own(tmp_path: Path) -> None:
    entry = {"file_id": "a", "prompt": "x", "language": "english"}
    flags = {"dataset_type": "text"}
    path = write(tmp_path, [entry, {"file_id": "b", "prompt": "z"}])
    config = in_own_language(resolve({**flags, "dataset_path": str(path)}))
    samples, _ = load_corpus(config)
    assert (config.data.language, config.to_json().get("given")) == ("english", None)
    assert [sample.reference_language for sample in samples] == ["english", "english"]
    path = write(tmp_path, [entry, {**entry, "file_id": "b", "language": "chinese"}])
    config = in_own_language(resolve({**flags, "dataset_path": str(path)}))
    samples, _ = load_corpus(config)
    assert config.data.language == resolve().data.language
    assert [sample.reference_language for sample in samples] == ["english", "chinese"]
    file = tmp_path / "settings.yaml"
    file.write_text("language: chinese\n", encoding="utf-8")
    given = resolve({**flags, "dataset_path": str(path)}, file=file)
    assert in_own_language(given) is given
    with pytest.raises(ConfigError, match="leave out --language"):
        load_corpus(given)
