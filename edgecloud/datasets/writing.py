"""A dataset in the unified format, as converters write it: ``manifest.json`` and ``audio/ID.flac``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from edgecloud.contracts import Language
from edgecloud.errors import OutputError

__all__ = ["MAX_AUDIO_S", "entry", "write_manifest", "write_recording"]

MAX_AUDIO_S: Final = 600.0
"""The longest recording that a converter takes."""


def write_recording(source: Path, folder: Path, file_id: str) -> Mapping[str, str]:
    """Write ``folder/audio/ID.flac`` (16 kHz mono, 16 bits) from a recording. Returns the notes on it, why it
    cannot be right (:func:`edgecloud.datasets.sanity.notes_on`).

    Raises:
        AudioError: the recording cannot be decoded, or is too short or long.
        OutputError: the file cannot be written.
    """
    import soundfile  # slow, and not needed to list converters

    from edgecloud.datasets.audio import SAMPLE_RATE_HZ, read_recording

    recording = read_recording(source, max_audio_s=MAX_AUDIO_S)
    part = folder / "audio" / f".{file_id}.part"
    with _written(folder, part, soundfile.SoundFileError):
        part.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(part, recording.waveform, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
        part.replace(part.with_name(f"{file_id}.flac"))
    return recording.notes


def entry(
    file_id: str,
    *,
    dataset: str,
    index: int,
    captions: Sequence[str],
    language: Language,
    transcription: str = "",
) -> dict[str, object]:
    """The manifest's entry of a recording that :func:`write_recording` wrote; its captions and transcription
    are in ``language``."""
    caption = captions[0] if len(captions) == 1 else list(captions)
    texts = {"caption": caption, "transcription": transcription}
    by_language = {
        f"{name}_{what}": text if name == language else ""
        for what, text in texts.items()
        for name in ("chinese", "english")
    }
    return {
        "file_id": file_id,
        "dataset": dataset,
        "audio_path": f"audio/{file_id}.flac",
        **texts,
        **by_language,
        "index": index,
    }


def write_manifest(folder: Path, entries: Sequence[Mapping[str, object]]) -> None:
    """Write ``folder/manifest.json`` whole or not at all: last, so that while it is there, its recordings are.

    Raises:
        OutputError: the file cannot be written.
    """
    path = folder / "manifest.json"
    part = path.with_name(f".{path.name}.part")
    with _written(folder, part):
        with part.open("w", encoding="utf-8", newline="\n") as stream:
            json.dump(list(entries), stream, ensure_ascii=False, indent=1)
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)


@contextmanager
def _written(folder: Path, part: Path, *failures: type[Exception]) -> Iterator[None]:
    kinds: tuple[type[Exception], ...] = (OSError, *failures)
    try:
        yield
    except kinds as error:
        raise OutputError(
            f"cannot write to {folder}: {error}; give a folder that can be written"
        ) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
