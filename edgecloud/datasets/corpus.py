"""The samples that a configuration names, whatever format they are kept in."""

from __future__ import annotations

import hashlib
from collections import deque
from functools import lru_cache
from pathlib import Path

from edgecloud.contracts import Language, Sample
from edgecloud.datasets.manifest import CaptionType, data_hash, embedded_manifest, load_manifest
from edgecloud.datasets.prompts import load_prompts, stated_languages
from edgecloud.errors import ConfigError
from edgecloud.settings.config import Config

__all__ = ["hash_once", "in_own_language", "load_corpus"]


def in_own_language(config: Config) -> Config:
    """``config`` in the language that all prompts of its text manifest say they are in, where no
    language was given; as it is where they say none, or several.

    Raises:
        ManifestError: the manifest is missing, broken or empty.
    """
    if config.data.kind != "text" or config.data.path is None or "language" in config.given:
        return config
    stated = set(stated_languages(config.data.path).values())
    return config.changed(language=stated.pop()) if len(stated) == 1 else config


def load_corpus(config: Config) -> tuple[tuple[Sample, ...], Path]:
    """The manifest that ``config`` names, or the embedded corpus in its language, and its path.

    The latest ones are remembered for as long as their files stay as they are: whoever checks a run reads
    them for all of its suites.

    Raises:
        ManifestError: it is missing, broken or empty.
        ConfigError: a language was given, and prompts say that they are in another.
    """
    if config.data.path is None:
        path = embedded_manifest(config.data.language, config.data.prompt_type)
    else:
        path = Path(config.data.path)
    kind, language, captions = config.data.kind, config.data.language, config.data.caption_type
    samples = _samples(path, _version(path), kind, language, captions)
    if kind == "text" and "language" in config.given:
        stated = stated_languages(path)
        others = [file_id for file_id, its in stated.items() if its != language]
        if others:
            raise ConfigError(
                f"dataset manifest {path}: {len(others)} of {len(samples)} prompts, "
                f"{others[0]!r} the first, say they are in {stated[others[0]]}, not "
                f"in {language}; leave out --language: each prompt's own decides"
            )
    return samples, path


def _version(path: Path) -> tuple[int, ...] | None:
    """Times, size and inode of a file, which change with it; ``None``: there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


_HASHED: deque[tuple[tuple[Sample, ...], bytes, str]] = deque(maxlen=4)


def hash_once(samples: tuple[Sample, ...]) -> str:
    """:func:`~edgecloud.datasets.manifest.data_hash` of samples that :func:`load_corpus` gave: their recordings are
    read again only where a file's times, size or place have changed.

    Raises:
        DataError: a recording cannot be read.
    """
    files = hashlib.sha256()
    for path in dict.fromkeys(sample.audio_path for sample in samples):
        if path is not None:
            files.update(repr(_version(path)).encode())
    version = files.digest()
    for its, then, found in _HASHED:
        if its is samples and then == version:
            return found
    _HASHED.append((samples, version, data_hash(samples)))
    return _HASHED[-1][2]


@lru_cache(maxsize=4)
def _samples(
    path: Path, version: object, kind: str, language: Language, captions: CaptionType
) -> tuple[Sample, ...]:
    if kind == "text":
        return load_prompts(path, language=language)
    return load_manifest(path, language=language, caption_type=captions)
