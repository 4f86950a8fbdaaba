"""The unified manifest: a JSON list of entries, or JSON Lines, validated into Samples.

An entry holds ``file_id``, ``dataset``, ``audio_path`` (relative to the manifest's folder),
``caption``, ``transcription``, ``chinese_caption``, ``english_caption``, ``chinese_transcription``,
``english_transcription`` and ``index``. Only ``file_id`` and ``audio_path`` are required, other keys
are ignored, and a caption may be a list of references. ``attributes`` is an object of texts: what is true of the
voice (:data:`edgecloud.quality.attributes.KNOWN`), which scores go by and no model reads.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path
from typing import Any, Final, Literal

from edgecloud.contracts import Language, PromptType, Sample
from edgecloud.datasets.entries import entries, kind
from edgecloud.datasets.lookup import Recordings
from edgecloud.embedded import corpus as embedded
from edgecloud.errors import DataError, ManifestError
from edgecloud.quality.language import detect_language
from edgecloud.textfiles import list_in_text, uncollected

__all__ = [
    "CaptionType",
    "attributes_of",
    "data_hash",
    "embedded_manifest",
    "load_manifest",
    "mistyped_attributes",
    "read_samples",
    "texts",
    "written_out",
]

Entry = Mapping[str, Any]
CaptionType = Literal["original", "audio_only"]

_CAPTIONS: Final = ("caption", "chinese_caption", "english_caption")
_TEXTS: Final = ("dataset", "transcription", "chinese_transcription", "english_transcription")
_TEXT_OR_NULL: Final = (str, type(None))
_KEPT_DIGESTS: Final = 4096
"""Recordings whose digest is remembered within one hash, for manifests that name them often."""


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
        ManifestError: the file is missing, is neither a JSON list nor JSON Lines, or entries are broken;
            lists every problem with its entry and field.
    """
    path = Path(path)
    recordings = Recordings(path.parent)
    return read_samples(
        path,
        lambda entry: [*_mistyped(entry), *_missing(recordings, entry)],
        lambda entry, position: _sample(entry, position, path.parent, language, caption_type),
    )


def read_samples(
    path: Path,
    problems_of: Callable[[Entry], list[str]],
    sample_of: Callable[[Entry, int], Sample],
) -> tuple[Sample, ...]:
    """The entries of the manifest at ``path`` as samples, each an object with a ``file_id`` of its own.

    ``problems_of`` says what else is wrong with an entry, ``sample_of`` makes its sample, by the entry and
    its position. Whole numbers for ids become texts, and ``0.0`` for an index the whole number it is.

    Raises:
        ManifestError: the file is missing, is neither a JSON list nor JSON Lines, or entries are broken;
            lists every problem with its entry and field.
    """
    samples: list[Sample] = []
    seen: dict[str, int] = {}
    problems: list[str] = []
    with uncollected():
        for position, entry in enumerate(entries(path)):
            if isinstance(entry, dict):
                _tidy(entry)
            found = _problems(entry, position, seen, problems_of)
            if found:
                problems += found
                samples.clear()
            elif not problems:
                samples.append(sample_of(entry, position))
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise ManifestError(f"dataset manifest {path} has {count}:", problems)
    return tuple(samples)


def _tidy(entry: dict[str, Any]) -> None:
    """Ids and indices as tables leave them, made what they are."""
    file_id, index = entry.get("file_id"), entry.get("index")
    if isinstance(file_id, float) and file_id.is_integer():
        file_id = int(file_id)
    if isinstance(file_id, int) and not isinstance(file_id, bool):
        entry["file_id"] = str(file_id)
    if isinstance(index, float) and index.is_integer():
        entry["index"] = int(index)
    elif index is None:
        entry.pop("index", None)


def data_hash(samples: Iterable[Sample]) -> str:
    """SHA-256, in hex, over the samples' ids, references, transcriptions and audio content or prompts.

    Two runs with one hash read the same data, wherever it lies. Raises
    :class:`~edgecloud.errors.DataError` when a recording cannot be read.
    """
    digest = hashlib.sha256()
    content_of = lru_cache(maxsize=_KEPT_DIGESTS)(_content_digest)
    for sample in samples:
        digest.update(_as_json(sample).encode("ascii"))
        if sample.audio_path is not None:
            digest.update(content_of(str(sample.audio_path)))
    return digest.hexdigest()


def _as_json(sample: Sample) -> str:
    """A sample's texts as ``json.dumps`` writes the list of them, which takes three times as long."""
    references = ", ".join(map(quoted, sample.references))
    parts = [quoted(sample.file_id), f"[{references}]", _quoted_or_null(sample.transcription)]
    if sample.audio_path is None:
        parts.append(_quoted_or_null(sample.prompt))
    return f"[{', '.join(parts)}]"


def _quoted_or_null(text: str | None) -> str:
    return "null" if text is None else quoted(text)


def _content_digest(path: str) -> bytes:
    try:
        with Path(path).open("rb", buffering=0) as stream:
            return hashlib.file_digest(stream, "sha256").digest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


def _problems(
    entry: Any,
    position: int,
    seen: dict[str, int],
    problems_of: Callable[[Entry], list[str]],
) -> list[str]:
    """The problems of one entry; ``seen`` holds the position of each id so far."""
    if not isinstance(entry, dict):
        return [f"entry {position}: must be an object, not {kind(entry)}"]
    problems = problems_of(entry)
    file_id = entry.get("file_id")
    name = file_id if isinstance(file_id, str) else ""
    first = seen.setdefault(name, position) if name else position
    if first != position:
        problems.append(f"file_id is that of entry {first} as well")
    if not problems:
        return problems
    where = f"entry {position} ({name})" if name else f"entry {position}"
    return [f"{where}: {problem}" for problem in problems]


def _mistyped(entry: Entry) -> list[str]:
    problems = []
    for field in ("file_id", "audio_path"):
        problems += required_text(entry, field)
    problems += [
        f"{field} must be text, not {kind(entry[field])}"
        for field in _TEXTS
        if not isinstance(entry.get(field), _TEXT_OR_NULL)
    ]
    for field in _CAPTIONS:
        caption = entry.get(field)
        if caption is None:
            continue
        problems += written_out(field, caption)
        if isinstance(caption, list):
            problems += [
                f"{field}[{i}] must be text, not {kind(text)}"
                for i, text in enumerate(caption)
                if not isinstance(text, str)
            ]
        elif not isinstance(caption, str):
            problems.append(f"{field} must be text or a list of texts, not {kind(caption)}")
    problems += mistyped_attributes(entry)
    index = entry.get("index", 0)
    if isinstance(index, bool) or not isinstance(index, int):
        problems.append(f"index must be a whole number, not {kind(index)}")
    elif index < 0:
        problems.append(f"index must not be negative, it is {index}")
    return problems


def _missing(recordings: Recordings, entry: Entry) -> list[str]:
    """The problem with the recording's path."""
    audio_path = entry.get("audio_path")
    if not isinstance(audio_path, str) or not audio_path.strip():
        return []
    problem = recordings.problem(audio_path)
    return [] if problem is None else [f"audio_path {problem}"]


def _sample(
    entry: Entry,
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
        dataset=sys.intern(entry.get("dataset") or "unified"),
        audio_path=folder / entry["audio_path"],
        references=references,
        reference_language=reference_language,
        transcription=transcription[0] if transcription else None,
        attributes=attributes_of(entry),
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


def written_out(field: str, caption: Any) -> list[str]:
    """A problem where a caption, or one in a list of them, is the text of a list."""
    if isinstance(caption, str) and not caption.rstrip().endswith(("]", ")")):
        return []  # as good as every caption, and looked at once an entry
    listed = caption if isinstance(caption, list) else [caption]
    return [
        f"{field} is the text of a JSON list, brackets and all; write the list itself"
        for text in listed
        if isinstance(text, str) and list_in_text(text)
    ][:1]


def mistyped_attributes(entry: Entry) -> list[str]:
    """A problem where an entry's ``attributes`` are no object of texts."""
    attributes = entry.get("attributes")
    if attributes is None:
        return []
    if not isinstance(attributes, dict):
        return [f"attributes must be an object, not {kind(attributes)}"]
    return [
        f"attributes.{name} must be text, not {kind(value)}"
        for name, value in attributes.items()
        if not isinstance(value, str)
    ]


def attributes_of(entry: Entry) -> tuple[tuple[str, str], ...]:
    """The truth about what is heard, as a sample holds it."""
    return tuple(
        (sys.intern(name), sys.intern(value))
        for name, value in (entry.get("attributes") or {}).items()
    )


def required_text(entry: Entry, field: str) -> list[str]:
    """A problem where an entry's ``field`` is missing, empty or no text."""
    if field not in entry:
        return [f"{field} is missing"]
    if not isinstance(entry[field], str):
        wanted = "text or a whole number" if field == "file_id" else "text"
        return [f"{field} must be {wanted}, not {_shown(entry[field])}"]
    return [] if entry[field].strip() else [f"{field} is empty"]


def _shown(value: Any) -> str:
    return f"the number {value}" if isinstance(value, float) else kind(value)


def texts(caption: str | list[str] | None) -> tuple[str, ...]:
    """The caption's texts that are not blank."""
    if not caption:
        return ()
    if isinstance(caption, str):
        text = caption.strip()
        return (text,) if text else ()
    return tuple(text.strip() for text in caption if text.strip())
