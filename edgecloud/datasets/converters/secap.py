"""SECap's own layout to a unified manifest.

SECap (Xu et al., AAAI 2024) publishes 600 Mandarin utterances as a folder ``dataset`` with
``wav/ID.wav`` (24 kHz; two files of 24 bits), ``text.txt`` (``ID transcription`` a line, separated
by a TAB in 251 lines and by a space in 349) and ``fid2captions.json`` (caption by ID).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from edgecloud.datasets.converters.contract import Noted, Progress, converter
from edgecloud.datasets.writing import entry, write_manifest, write_recording
from edgecloud.errors import AudioError, ManifestError
from edgecloud.textfiles import list_in_text, parse_json

__all__ = ["convert"]

_SEPARATOR: Final = re.compile(r"[\t \u3000]+")
_UNSAFE: Final = re.compile(r"[\x00-\x1f/\\:*?\"<>|]")


@converter("secap")
def convert(
    src: Path | str,
    dest: Path | str,
    *,
    progress: Progress | None = None,
    noted: Noted | None = None,
) -> int:
    """Convert SECap: SRC is its folder with text.txt and wav/, or the repository around it.

    Writes ``dest/manifest.json`` and ``dest/audio/ID.flac`` (16 kHz mono, 16 bits). Returns the number
    of utterances. ``noted`` is called with each recording that cannot be right.

    Captions and transcriptions are taken verbatim, but for white space at their ends. The manifest
    is written last and in one piece: while there is one, its recordings are there.

    Raises:
        ManifestError: a file is missing, or entries are broken; lists every problem.
        OutputError: ``dest`` cannot be written.
    """
    source, target = _dataset_folder(Path(src)), Path(dest)
    problems: list[str] = []
    captions = _read_captions(source / "fid2captions.json", problems)
    transcriptions = _read_transcriptions(source / "text.txt", problems)
    recordings = _recordings(source / "wav", problems)
    if recordings is not None:
        problems += _mismatches(recordings, captions, transcriptions)
    if not captions and not problems:
        problems.append("fid2captions.json: holds no captions")
    if problems or recordings is None:
        raise ManifestError(f"{source} cannot be converted:", problems)
    for done, file_id in enumerate(captions):
        try:
            notes = write_recording(recordings[file_id], target, file_id)
        except AudioError as error:
            problems.append(str(error))
        else:
            if notes and noted is not None:
                noted(file_id, notes)
        if progress is not None:
            progress(done + 1, len(captions))
    if problems:
        raise ManifestError(f"{source} cannot be converted:", problems)
    write_manifest(target, _entries(captions, transcriptions))
    return len(captions)


def _dataset_folder(src: Path) -> Path:
    for folder in (src, src / "dataset"):
        if (folder / "fid2captions.json").is_file():
            return folder
    what = (
        "holds no fid2captions.json, nor does its folder dataset"
        if src.is_dir()
        else ("is not a folder" if src.exists() else "does not exist")
    )
    raise ManifestError(f"SECap folder {src} {what}; give SECap's folder dataset")


def _read(path: Path, problems: list[str]) -> str | None:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        problems.append(f"{path.name}: does not exist")
    except UnicodeDecodeError as error:
        problems.append(f"{path.name}: is not UTF-8 text (byte {error.start})")
    except OSError as error:
        problems.append(f"{path.name}: cannot be read ({error.strerror})")
    return None


def _read_captions(path: Path, problems: list[str]) -> dict[str, list[str]]:
    """Captions by id, in the file's order. A value may be one caption or a list of them."""
    text = _read(path, problems)
    if text is None:
        return {}
    try:
        parse_json(text)
        content = json.loads(text, object_pairs_hook=list)
    except ValueError as error:
        problems.append(f"{path.name}: is not JSON: {error}")
        return {}
    if not text.lstrip().startswith("{"):
        problems.append(f"{path.name}: must be an object of captions by id")
        return {}
    captions: dict[str, list[str]] = {}
    for file_id, value in content:
        where = f"{path.name}: {file_id}"
        texts = [value] if isinstance(value, str) else value
        if file_id in captions:
            problems.append(f"{where}: occurs twice")
        if not file_id.strip() or _UNSAFE.search(file_id):
            problems.append(f"{where}: is not an id that can name a file")
        captions[file_id] = _checked(texts, where, problems)
    return captions


def _checked(texts: Any, where: str, problems: list[str]) -> list[str]:
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        problems.append(f"{where}: caption must be text or a list of texts")
        return []
    if any(map(list_in_text, texts)):
        problems.append(f"{where}: caption is the text of a list; write the list itself")
    stripped = [text.strip() for text in texts if text.strip()]
    if not stripped:
        problems.append(f"{where}: caption is empty")
    return stripped


def _read_transcriptions(path: Path, problems: list[str]) -> dict[str, str]:
    """Transcriptions by id; the first TAB or space of a line separates the two."""
    text = _read(path, problems)
    transcriptions: dict[str, str] = {}
    for number, line in enumerate((text or "").split("\n"), start=1):
        if not line.strip():
            continue
        file_id, _, transcription = _SEPARATOR.sub("\t", line.strip(), count=1).partition("\t")
        if not transcription:
            problems.append(f"{path.name} line {number}: no TAB or space after {file_id}")
        elif file_id in transcriptions:
            problems.append(f"{path.name} line {number}: {file_id} occurs twice")
        transcriptions[file_id] = transcription
    return transcriptions


def _recordings(wav: Path, problems: list[str]) -> dict[str, Path] | None:
    """The recordings by id, ``.wav`` in any case; macOS's ``._`` files beside them are none."""
    if not wav.is_dir():
        problems.append("wav: is not a folder")
        return None
    return {
        path.stem: path
        for path in sorted(wav.iterdir())
        if path.suffix.lower() == ".wav" and not path.name.startswith("._")
    }


def _mismatches(
    recordings: Mapping[str, Path], captions: dict[str, list[str]], transcriptions: dict[str, str]
) -> Iterator[str]:
    """Ids that one of the three holds and another does not."""
    for file_id in captions:
        if file_id not in transcriptions:
            yield f"text.txt: no line for {file_id}"
        if file_id not in recordings:
            yield f"wav/{file_id}.wav: does not exist"
    for file_id in transcriptions:
        if file_id not in captions:
            yield f"fid2captions.json: no caption for {file_id} of text.txt"
    for file_id in sorted(recordings.keys() - captions.keys() - transcriptions.keys()):
        yield f"fid2captions.json: no caption for wav/{recordings[file_id].name}"


def _entries(
    captions: dict[str, list[str]], transcriptions: dict[str, str]
) -> list[dict[str, object]]:
    return [
        entry(
            file_id,
            dataset="secap",
            index=index,
            captions=texts,
            transcription=transcriptions[file_id],
            language="chinese",
        )
        for index, (file_id, texts) in enumerate(captions.items())
    ]
