"""The unified manifest: a JSON list of entries, validated into Samples.

An entry holds ``file_id``, ``dataset``, ``audio_path`` (relative to the manifest's folder),
``caption``, ``transcription``, ``chinese_caption``, ``english_caption``, ``chinese_transcription``,
``english_transcription`` and ``index``. Only ``file_id`` and ``audio_path`` are required, other keys
are ignored, and a caption may be a list of references.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from edgecloud.contracts import Language, PromptType, Sample
from edgecloud.datasets import embedded
from edgecloud.errors import DataError, ManifestError
from edgecloud.quality.language import detect_language

__all__ = [
    "CaptionType",
    "check_entries",
    "data_hash",
    "embedded_manifest",
    "kind",
    "load_manifest",
    "texts",
]

CaptionType = Literal["original", "audio_only"]

_CAPTIONS: Final = ("caption", "chinese_caption", "english_caption")
_TEXTS: Final = ("dataset", "transcription", "chinese_transcription", "english_transcription")
_CHUNK_BYTES: Final = 1 << 20


def embedded_manifest(language: Language, prompt_type: PromptType = "default") -> Path:
    """The manifest of the corpus that comes with the package, with captions of a language and type."""
    return embedded.FOLDER / embedded.manifest_name(language, prompt_type)


def load_manifest(
    path: Path | str, *, language: Language, caption_type: CaptionType
) -> tuple[Sample, ...]:
    """Every entry of a manifest, in its order.

    ``original`` reads ``caption``, whose language is detected; where a list mixes languages, the
    references in ``language`` are taken. ``audio_only`` reads ``chinese_caption`` or
    ``english_caption``. References in another language than ``language`` are kept and say so: they
    give no scores. Blank captions are no references.

    Raises:
        ManifestError: the file is missing, is not JSON or not a list, or entries are broken; lists
            every problem with its entry and field.
    """
    path = Path(path)
    entries = check_entries(path, lambda entry: [*_mistyped(entry), *_missing(path.parent, entry)])
    return tuple(
        _sample(entry, position, path.parent, language, caption_type)
        for position, entry in enumerate(entries)
    )


def check_entries(
    path: Path, problems_of: Callable[[Mapping[str, Any]], list[str]]
) -> list[Mapping[str, Any]]:
    """The entries of the JSON list at ``path``, each an object with a ``file_id`` of its own.

    ``problems_of`` says what else is wrong with an entry.

    Raises:
        ManifestError: the file is missing, is not JSON or not a list, or entries are broken; lists
            every problem with its entry and field.
    """
    entries = _read(path)
    seen: dict[str, int] = {}
    problems: list[str] = []
    for position, entry in enumerate(entries):
        problems += _problems(entry, position, seen, problems_of)
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise ManifestError(f"dataset manifest {path} has {count}:", problems)
    return entries


def data_hash(samples: Iterable[Sample]) -> str:
    """SHA-256, in hex, over the samples' ids, references, transcriptions and audio content or prompts.

    Two runs with one hash read the same data, wherever it lies. Raises
    :class:`~edgecloud.errors.DataError` when a recording cannot be read.
    """
    digest = hashlib.sha256()
    for sample in samples:
        text = [sample.file_id, list(sample.references), sample.transcription]
        if sample.audio_path is None:
            text.append(sample.prompt)
        digest.update(json.dumps(text, ensure_ascii=True).encode("ascii"))
        if sample.audio_path is None:
            continue
        audio = hashlib.sha256()
        try:
            with sample.audio_path.open("rb") as stream:
                while chunk := stream.read(_CHUNK_BYTES):
                    audio.update(chunk)
        except OSError as error:
            raise DataError(f"cannot read {sample.audio_path}: {error.strerror}") from error
        digest.update(audio.digest())
    return digest.hexdigest()


def _read(path: Path) -> list[Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ManifestError(
            f"dataset manifest {path} does not exist; check --dataset-path"
        ) from None
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"dataset manifest {path} is not UTF-8 text (byte {error.start}); check --dataset-path"
        ) from None
    except OSError as error:
        raise ManifestError(
            f"dataset manifest {path} cannot be read ({error.strerror}); check --dataset-path"
        ) from None
    try:
        entries = json.loads(text)
    except json.JSONDecodeError as error:
        raise ManifestError(
            f"dataset manifest {path} is not JSON: line {error.lineno}, column {error.colno}: "
            f"{error.msg}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"dataset manifest {path} is not usable JSON: {error}") from None
    if not isinstance(entries, list):
        raise ManifestError(
            f"dataset manifest {path} must be a JSON list of entries, not {kind(entries)}"
        )
    if not entries:
        raise ManifestError(f"dataset manifest {path} holds no entries")
    return entries


def _problems(
    entry: Any,
    position: int,
    seen: dict[str, int],
    problems_of: Callable[[Mapping[str, Any]], list[str]],
) -> list[str]:
    """What is wrong with one entry; ``seen`` holds the position of each id so far."""
    if not isinstance(entry, dict):
        return [f"entry {position}: must be an object, not {kind(entry)}"]
    file_id = entry.get("file_id")
    where = f"entry {position}" + (f" ({file_id})" if isinstance(file_id, str) and file_id else "")
    problems = [f"{where}: {problem}" for problem in problems_of(entry)]
    if isinstance(file_id, str) and file_id:
        first = seen.setdefault(file_id, position)
        if first != position:
            problems.append(f"{where}: file_id is that of entry {first} as well")
    return problems


def _mistyped(entry: Mapping[str, Any]) -> list[str]:
    problems = []
    for field in ("file_id", "audio_path"):
        if field not in entry:
            problems.append(f"{field} is missing")
        elif not isinstance(entry[field], str):
            problems.append(f"{field} must be text, not {kind(entry[field])}")
        elif not entry[field].strip():
            problems.append(f"{field} is empty")
    problems += [
        f"{field} must be text, not {kind(entry[field])}"
        for field in _TEXTS
        if not isinstance(entry.get(field), str | None)
    ]
    for field in _CAPTIONS:
        caption = entry.get(field)
        if isinstance(caption, list):
            problems += [
                f"{field}[{i}] must be text, not {kind(text)}"
                for i, text in enumerate(caption)
                if not isinstance(text, str)
            ]
        elif not isinstance(caption, str | None):
            problems.append(f"{field} must be text or a list of texts, not {kind(caption)}")
    index = entry.get("index", 0)
    if isinstance(index, bool) or not isinstance(index, int):
        problems.append(f"index must be a whole number, not {kind(index)}")
    elif index < 0:
        problems.append(f"index must not be negative, it is {index}")
    return problems


def _missing(folder: Path, entry: Mapping[str, Any]) -> list[str]:
    """What is wrong with the recording's path."""
    audio_path = entry.get("audio_path")
    if not isinstance(audio_path, str) or not audio_path.strip():
        return []
    full = folder / audio_path
    try:
        if full.is_file():
            return []
        problem = f"{full} is not a file" if full.exists() else f"{full} does not exist"
    except (OSError, ValueError) as error:  # too long, a NUL inside, or no right to look
        problem = f"{audio_path!r} cannot be used: {error}"
    return [f"audio_path {problem}"]


def _sample(
    entry: Mapping[str, Any],
    position: int,
    folder: Path,
    language: Language,
    caption_type: CaptionType,
) -> Sample:
    if caption_type == "audio_only":
        references = texts(entry.get(f"{language}_caption"))
        reference_language = language
    else:
        references, reference_language = _original(entry.get("caption"), language)
    transcription = texts(entry.get(f"{language}_transcription")) or texts(
        entry.get("transcription")
    )
    return Sample(
        file_id=entry["file_id"],
        index=entry.get("index", position),
        dataset=entry.get("dataset") or "unified",
        audio_path=folder / entry["audio_path"],
        references=references,
        reference_language=reference_language,
        transcription=transcription[0] if transcription else None,
    )


def _original(
    caption: str | list[str] | None, language: Language
) -> tuple[tuple[str, ...], Language]:
    references = texts(caption)
    # A text without a letter in it ("…") belongs to no language; it stays with the one asked for.
    languages = [detect_language(text) or language for text in references]
    if not references:
        return (), language
    chosen = language if language in languages else languages[0]
    return (
        tuple(text for text, its in zip(references, languages, strict=True) if its == chosen),
        chosen,
    )


def texts(caption: str | list[str] | None) -> tuple[str, ...]:
    """The caption's texts that are not blank."""
    texts = [caption] if isinstance(caption, str) else caption or []
    return tuple(text.strip() for text in texts if text.strip())


def kind(value: Any) -> str:
    """A JSON value's type in words."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
    names |= {int: "a number", float: "a number", type(None): "null"}
    return names.get(type(value), type(value).__name__)
