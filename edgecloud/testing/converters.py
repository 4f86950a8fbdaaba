"""The laws of dataset converters, of which one has a miniature of its dataset."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgecloud.contracts import Language
from edgecloud.datasets.audio import SAMPLE_RATE_HZ, load_audio
from edgecloud.datasets.converters import Converter
from edgecloud.datasets.manifest import load_manifest
from edgecloud.datasets.writing import MAX_AUDIO_S
from edgecloud.errors import EdgeCloudError, ManifestError, OutputError
from edgecloud.testing.laws import Law, check

__all__ = ["CONVERTER_LAWS", "FIELDS", "ConverterCase", "check_converter"]

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ConverterCase:
    """A converter and a miniature of its dataset.

    ``source(folder)`` lays out ``samples`` recordings with captions in ``language`` under ``folder``, and
    returns what the converter takes; ``harm(src)`` breaks two of them.
    """

    convert: Converter
    source: Callable[[Path], Path]
    samples: int
    harm: Callable[[Path], object]
    language: Language = "chinese"


def _converted(case: ConverterCase, work: Path) -> Path:
    count = case.convert(case.source(work / "src"), work / "dest")
    assert count == case.samples, f"it said that it converted {count} of {case.samples} samples"
    return work / "dest"


def _loads(case: ConverterCase, work: Path) -> None:
    dest = _converted(case, work)
    for caption_type in ("original", "audio_only"):
        try:
            samples = load_manifest(
                dest / "manifest.json", language=case.language, caption_type=caption_type
            )
        except ManifestError as error:
            raise AssertionError(f"the manifest does not load: {error}") from error
        assert len(samples) == case.samples, f"the manifest has {len(samples)} samples"
        assert [sample.index for sample in samples] == list(range(case.samples)), "the indices"
        assert all(sample.references for sample in samples), f"no caption in {case.language}"
    for sample in samples:
        assert sample.audio_path is not None, f"{sample.file_id} has no recording"
        assert sample.audio_path.suffix == ".flac", f"{sample.audio_path.name} is no FLAC"
        length = len(load_audio(sample.audio_path, max_audio_s=MAX_AUDIO_S))
        assert length > SAMPLE_RATE_HZ // 50, f"{sample.audio_path.name} has {length} samples"


def _format(case: ConverterCase, work: Path) -> None:
    entries = json.loads((_converted(case, work) / "manifest.json").read_text(encoding="utf-8"))
    for entry in entries:
        assert tuple(entry) == FIELDS, f"an entry has {', '.join(entry)}"
        assert not Path(entry["audio_path"]).is_absolute(), f"{entry['audio_path']} is absolute"


def _repeats(case: ConverterCase, work: Path) -> None:
    src = case.source(work / "src")
    found = []
    for folder in ("one", "other", "one"):
        case.convert(src, work / folder)
        found.append(_files(work / folder))
    assert found[0] == found[1], "a conversion into another folder wrote other bytes"
    assert found[0] == found[2], "a second conversion into the same folder wrote other bytes"


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _problems(case: ConverterCase, work: Path) -> None:
    src = case.source(work / "src")
    case.harm(src)
    found = _raised(case, src, work / "dest", ManifestError)
    count = len(found.problems) if isinstance(found, ManifestError) else 0
    assert count >= 2, f"two recordings are broken, and it told of {count}"
    assert not (work / "dest" / "manifest.json").exists(), "a broken source left a manifest"


def _errors(case: ConverterCase, work: Path) -> None:
    _raised(case, work / "nowhere", work / "dest", ManifestError)
    (work / "file").touch()
    _raised(case, case.source(work / "src"), work / "file", OutputError)


def _raised(
    case: ConverterCase, src: Path, dest: Path, kind: type[EdgeCloudError]
) -> EdgeCloudError:
    try:
        case.convert(src, dest)
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__} for {src.name} to {dest.name}")


def _in_a_folder(holds: Callable[[ConverterCase, Path], None]) -> Callable[..., None]:
    def law(case: ConverterCase, options: Sequence[str]) -> None:
        with tempfile.TemporaryDirectory() as work:
            holds(case, Path(work))

    return law


CONVERTER_LAWS: tuple[Law[ConverterCase], ...] = (
    Law(
        "loads",
        "the manifest loads, has each sample with a caption, and every recording decodes",
        _in_a_folder(_loads),
    ),
    Law(
        "format",
        "entries have the fields of the unified format, in its order, and paths from within the folder",
        _in_a_folder(_format),
    ),
    Law("repeats", "a second conversion writes the same bytes", _in_a_folder(_repeats)),
    Law(
        "problems",
        "a broken source is one ManifestError with all its problems, and leaves no manifest",
        _in_a_folder(_problems),
    ),
    Law(
        "errors",
        "no source is a ManifestError, and what cannot be written an OutputError",
        _in_a_folder(_errors),
    ),
)
"""What every converter obeys."""


def check_converter(case: ConverterCase) -> None:
    """Hold a converter to :data:`CONVERTER_LAWS`.

    Raises:
        AssertionError: it breaks one; the message has the law and what it was broken by.
    """
    check(CONVERTER_LAWS, case, ())
