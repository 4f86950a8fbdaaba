"""The shape of a journal's records, checked before anybody computes with them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, get_args

from edgecloud.contracts import Language
from edgecloud.results.floors import unusable_floors

__all__ = ["unusable", "unusable_facts"]

Check = Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _list_of(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _or_null(check: Check) -> Check:
    return lambda value: value is None or check(value)


_RECORD: Final[Mapping[str, tuple[Check, str]]] = {
    "file_id": (_is_text, "text"),
    "index": (_or_null(_is_count), "a whole number"),
    "dataset": (_or_null(_is_text), "text"),
    "status": (lambda value: value in ("ok", "failed"), "ok or failed"),
    "error": (_or_null(_is_object), "an object"),
    "audio_notes": (_or_null(_is_object), "an object"),
    "audio_s": (_or_null(_is_number), "a number"),
    "input_tokens": (_or_null(_is_count), "a whole number"),
    "tokens": (_list_of(_is_count), "a list of whole numbers"),
    "origins": (_list_of(_is_text), "a list of texts"),
    "text": (_or_null(_is_text), "text"),
    "stop": (_or_null(_is_text), "text"),
    "trace": (_list_of(_is_object), "a list of objects"),
    "references": (_list_of(_is_text), "a list of texts"),
    "reference_language": (_or_null(_is_text), "text"),
    "resources": (_or_null(_is_object), "an object"),
}
"""Entries of a record and their types; one that lacks an entry is of an older version."""
_NEEDED: Final = ("text", "stop", "trace", "references", "reference_language")
"""Entries of a completed sample's record that a result is made of."""
_ANY_EVENT: Final[Mapping[str, Check]] = {
    "kind": _is_text,
    "start_s": _is_number,
    "end_s": _is_number,
}
_EVENTS: Final[Mapping[str, Mapping[str, Check]]] = {
    "commit": {"tokens": _list_of(_is_count), "origins": _list_of(_is_text)},
    "draft": {"tokens": _list_of(_is_count)},
    "verify": {"drafted": _is_count, "kept": _is_count, "token": _or_null(_is_count)},
    "degrade": {"error": _is_text, "reason": _is_text},
}
"""Fields of every event, and of those of a kind, as far as metrics read them."""


_FACTS: Final[Mapping[str, tuple[Check, str]]] = {
    "config": (_is_object, "an object"),
    "setup": (_is_object, "an object"),
    "environment": (_is_object, "an object"),
    "floors": (_or_null(_is_object), "an object"),
    "samples": (_list_of(_is_text), "a list of texts"),
    "corpus": (_list_of(_is_object), "a list of objects"),
    "others": (_or_null(_list_of(_list_of(_is_text))), "a list of lists of texts"),
}
_CORPUS: Final[Mapping[str, Check]] = {
    "file_id": _is_text,
    "references": _list_of(_is_text),
    "language": _is_text,
}


def language_of(record: Mapping[str, Any], *, text: bool, default: Language) -> Language:
    """The language that a sample was generated in: the run's, and of a prompt of ``text`` its own."""
    own = record.get("reference_language") if text else None
    languages: tuple[Language, ...] = get_args(Language)
    return next((language for language in languages if language == own), default)


def unusable_facts(facts: Any) -> str | None:
    """The reason why no result can be made of ``facts``, a journal's first line; ``None``: they are sound."""
    if not isinstance(facts, Mapping):
        return "facts is not an object"
    for name, (check, expected) in _FACTS.items():
        if not check(facts.get(name)):
            return f"facts.{name} is not {expected}"
    if facts["floors"] is not None and (wrong := unusable_floors(facts["floors"])) is not None:
        return f"facts.floors: {wrong}"
    for place, row in enumerate(facts["corpus"]):
        for name, sound in _CORPUS.items():
            if not sound(row.get(name)):
                return f"facts.corpus[{place}].{name} is missing or of another type"
    return None


def unusable(record: Mapping[str, Any], *, whole: bool = False) -> str | None:
    """The reason why a record cannot be used; ``None``: its shape is sound.

    What is there must be of its type; with ``whole``, all that a result is made of must be there too.

    >>> unusable({"file_id": ["a"], "status": "ok"})
    'file_id is not text'
    """
    needed = ("file_id", "status", *(_NEEDED if whole and record.get("status") == "ok" else ()))
    missing = next((name for name in needed[: None if whole else 1] if name not in record), None)
    if missing is not None:
        return f"{missing} is missing"
    for name, value in record.items():
        check, expected = _RECORD.get(name, (None, ""))
        if check is not None and not check(value):
            return f"{name} is not {expected}"
    if whole and record["status"] == "ok" and record["text"] is None:
        return "text is null"
    for place, event in enumerate(record.get("trace", ())):
        fields = {**_ANY_EVENT, **_EVENTS.get(str(event.get("kind")), {})}
        for name, sound in fields.items():
            if name not in event:
                if whole or name == "kind":
                    return f"trace[{place}].{name} is missing"
            elif not sound(event[name]):
                return f"trace[{place}].{name} is of another type"
    return None
