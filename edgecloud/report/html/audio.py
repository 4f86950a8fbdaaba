"""Recordings for a page, as base64: those of the embedded corpus always, others when asked."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from edgecloud.datasets.manifest import load_manifest
from edgecloud.embedded.corpus import FOLDER
from edgecloud.errors import ManifestError
from edgecloud.report.comparison import Group
from edgecloud.report.texts import Texts

__all__ = ["Recordings", "recordings"]

_TYPES = {
    ".flac": "audio/flac",
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".m4a": "audio/mp4",
    ".aac": "audio/aac",
    ".webm": "audio/webm",
}


@dataclass(slots=True)
class Recordings:
    """``files`` are data URIs by path, each recording once; ``keys`` say which is a sample's own, by
    ``file_id``; ``reason`` says why there are none."""

    files: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    reason: str | None = None


def recordings(group: Group, texts: Texts, *, embed: bool) -> Recordings:
    """The recordings of a group's samples, where they are to be embedded and can be found."""
    result = next(iter(group.arms.values()))
    own = result.experiment_config
    if own.dataset_type == "text":
        return Recordings(reason=texts("audio_none"))
    path = Path(own.dataset_path) if own.dataset_path else FOLDER / f"{group.language}.json"
    shipped = result.data.manifest == "embedded" or path.resolve().parent == FOLDER
    if not (shipped or embed):
        return Recordings(reason=texts("audio_not_asked"))
    try:
        samples = load_manifest(path, language=own.language, caption_type=own.caption_type)
    except ManifestError as error:
        return Recordings(reason=str(error).splitlines()[0])
    wanted = {sample.file_id for r in group.arms.values() for sample in r.samples}
    return _read((s.file_id, s.audio_path or Path()) for s in samples if s.file_id in wanted)


def _read(paths: Iterable[tuple[str, Path]]) -> Recordings:
    found = Recordings()
    for file_id, path in paths:
        kind = _TYPES.get(path.suffix.lower())
        if kind is None:
            found.reason = f"{path.name}: browsers do not play {path.suffix or 'it'}"
            continue
        key = str(path.resolve())
        if key not in found.files:
            try:
                content = path.read_bytes()
            except OSError as error:
                found.reason = f"{path.name}: {error.strerror}"
                continue
            found.files[key] = f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
        found.keys[file_id] = key
    return found
