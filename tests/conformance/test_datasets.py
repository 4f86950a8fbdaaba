"""What every converter obeys: a manifest that loads, recordings that decode, the same bytes again, and
all problems of a broken source at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgecloud.datasets.audio import SAMPLE_RATE_HZ, load_audio
from edgecloud.datasets.converters import secap
from edgecloud.datasets.manifest import load_manifest
from edgecloud.errors import ManifestError, OutputError
from tests.datasets import test_secap as secap_layout

FIELDS = (
    "file_id",
    "dataset",
    "audio_path",
    "caption",
    "transcription",
    "chinese_caption",
    "english_caption",
    "chinese_transcription",
    "english_transcription",
    "index",
)
"""Of the unified format, in its order."""


@dataclass(frozen=True)
class Converter:
    """``convert(src, dest)``; ``source(folder)`` lays out a miniature of the dataset, of ``utterances``,
    and says what ``src`` is; ``broken(src)`` breaks two of its recordings."""

    convert: Callable[[Path, Path], int]
    source: Callable[[Path], Path]
    utterances: int
    broken: Callable[[Path], None]


def _break_secap(src: Path) -> None:
    for path in sorted((src / "wav").iterdir())[:2]:
        path.write_bytes(b"not audio")


CONVERTERS: dict[str, Converter] = {
    "secap": Converter(secap.convert, secap_layout.layout, 3, _break_secap),
}
"""Add a new converter here."""


@pytest.fixture(params=CONVERTERS)
def converter(request: pytest.FixtureRequest) -> Converter:
    return CONVERTERS[request.param]


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_manifest_loads_in_every_caption_type_and_every_recording_decodes(
    converter: Converter, tmp_path: Path
) -> None:
    count = converter.convert(converter.source(tmp_path / "src"), tmp_path / "dest")
    assert count == converter.utterances
    for caption_type in ("original", "audio_only"):
        samples = load_manifest(
            tmp_path / "dest" / "manifest.json", language="chinese", caption_type=caption_type
        )
        assert len(samples) == count
        assert len({sample.file_id for sample in samples}) == count
        assert [sample.index for sample in samples] == list(range(count))
    for sample in samples:
        assert sample.audio_path.suffix == ".flac"
        assert len(load_audio(sample.audio_path, max_audio_s=600.0)) > SAMPLE_RATE_HZ // 50


def test_entries_have_the_fields_of_the_unified_format(
    converter: Converter, tmp_path: Path
) -> None:
    converter.convert(converter.source(tmp_path / "src"), tmp_path / "dest")
    entries = json.loads((tmp_path / "dest" / "manifest.json").read_text(encoding="utf-8"))
    assert [tuple(entry) for entry in entries] == [FIELDS] * converter.utterances
    # The folder may be moved: its recordings are named from within.
    assert not any(Path(entry["audio_path"]).is_absolute() for entry in entries)


def test_a_second_conversion_writes_the_same_bytes(converter: Converter, tmp_path: Path) -> None:
    source = converter.source(tmp_path / "src")
    converter.convert(source, tmp_path / "one")
    converter.convert(source, tmp_path / "other")
    first = files(tmp_path / "one")
    assert len(first) == converter.utterances + 1
    assert files(tmp_path / "other") == first
    converter.convert(source, tmp_path / "one")
    assert files(tmp_path / "one") == first


def test_all_problems_are_reported_at_once_and_no_manifest_is_left(
    converter: Converter, tmp_path: Path
) -> None:
    source = converter.source(tmp_path / "src")
    converter.broken(source)
    with pytest.raises(ManifestError) as caught:
        converter.convert(source, tmp_path / "dest")
    assert len(caught.value.problems) == 2
    assert not (tmp_path / "dest" / "manifest.json").exists()


def test_what_is_no_such_dataset_or_cannot_be_written_is_one_error(
    converter: Converter, tmp_path: Path
) -> None:
    with pytest.raises(ManifestError):
        converter.convert(tmp_path / "nowhere", tmp_path / "dest")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        converter.convert(converter.source(tmp_path / "src"), tmp_path / "file")


def test_a_converter_that_breaks_these_laws_is_caught(tmp_path: Path) -> None:
    def careless(src: Path, dest: Path) -> int:
        count = secap.convert(src, dest)
        manifest = dest / "manifest.json"
        entries = json.loads(manifest.read_text(encoding="utf-8"))
        manifest.write_text(json.dumps([{**entry, "seed": str(dest)} for entry in entries]))
        return count

    wrong = Converter(careless, secap_layout.layout, 3, _break_secap)
    with pytest.raises(AssertionError):
        test_entries_have_the_fields_of_the_unified_format(wrong, tmp_path / "a")
    with pytest.raises(AssertionError):
        test_a_second_conversion_writes_the_same_bytes(wrong, tmp_path / "b")
