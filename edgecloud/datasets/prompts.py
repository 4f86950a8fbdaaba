"""The text manifest: a JSON list of prompts without recordings, for ``--dataset-type text``.

An entry holds ``file_id`` and ``prompt`` (the user's turn, word for word), and may hold ``references``
(a text or a list of texts), its ``language`` (``chinese`` or ``english``; when it is left out, that of
its references, and without any the run's), ``dataset`` and ``index``. Other keys are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, get_args

from edgecloud.contracts import Language, Sample
from edgecloud.datasets.entries import kind
from edgecloud.datasets.manifest import (
    attributes_of,
    mistyped_attributes,
    read_samples,
    required_text,
    texts,
    written_out,
)
from edgecloud.quality.language import detect_language

__all__ = ["load_prompts", "stated_languages"]

_LANGUAGES: Final = get_args(Language)


def load_prompts(path: Path | str, *, language: Language) -> tuple[Sample, ...]:
    """Every entry of a text manifest, in its order. Blank references are none. An entry that states no language is
    in ``language`` where one of its references is, or none can be told; else in that of its references.

    Raises:
        ManifestError: the file is missing, is not JSON or not a list, or entries are broken; lists
            every problem with its entry and field.
    """
    return read_samples(
        Path(path), _mistyped, lambda entry, position: _sample(entry, position, language)
    )


def stated_languages(path: Path | str) -> dict[str, Language]:
    """The languages that entries of a text manifest say they are in, by ``file_id``; those that say none are
    left out.

    Raises:
        ManifestError: as for :func:`load_prompts`.
    """
    found: dict[str, Language] = {}

    def noted(entry: Mapping[str, Any], position: int) -> Sample:
        sample = _sample(entry, position, "chinese")
        if entry.get("language") is not None:
            found[sample.file_id] = sample.reference_language
        return sample

    read_samples(Path(path), _mistyped, noted)
    return found


def _mistyped(entry: Mapping[str, Any]) -> list[str]:
    problems = []
    for field in ("file_id", "prompt"):
        problems += required_text(entry, field)
    references = entry.get("references")
    problems += written_out("references", references)
    listed = references if isinstance(references, list) else [references]
    problems += [
        f"references must be a text or a list of texts, not {kind(reference)}"
        for reference in listed
        if not isinstance(reference, str) and references is not None
    ]
    if entry.get("language") not in (None, *_LANGUAGES):
        problems.append(f"language must be {' or '.join(_LANGUAGES)}, not {entry['language']!r}")
    if not isinstance(entry.get("dataset"), str | None):
        problems.append(f"dataset must be text, not {kind(entry['dataset'])}")
    problems += mistyped_attributes(entry)
    index = entry.get("index", 0)
    if isinstance(index, bool) or not isinstance(index, int) or index < 0:
        problems.append(f"index must be a whole number from 0 on, not {index!r}")
    return problems


def _sample(entry: Mapping[str, Any], position: int, language: Language) -> Sample:
    references = texts(entry.get("references"))
    found = [its for text in references if (its := detect_language(text)) is not None]
    own = language if language in found or not found else found[0]
    return Sample(
        file_id=entry["file_id"],
        index=entry.get("index", position),
        dataset=entry.get("dataset") or "text",
        audio_path=None,
        references=references,
        reference_language=entry.get("language") or own,
        prompt=entry["prompt"],
        attributes=attributes_of(entry),
    )
