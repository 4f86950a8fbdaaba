"""JSON that may be broken, read strictly: every complaint names file and field."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from edgecloud.errors import DataError
from edgecloud.textfiles import check_depth

__all__ = ["Fields", "NotFinite", "flatten", "read_json", "unique"]

Json = dict[str, Any]


def read_json(path: Path) -> Json:
    """The object in a JSON file, of any of JSON's encodings, with a byte order mark or without.

    Where the file holds NaN or an infinite number, the object holds a :class:`NotFinite`, which
    :class:`Fields` refuses when that field is read, and not before: other projects keep such numbers
    in fields that nobody reads here.

    Raises:
        DataError: it cannot be read, is not JSON, or is no object.
    """
    try:
        content = json.loads(path.read_bytes(), parse_constant=NotFinite, parse_float=_float)
        check_depth(content)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; check the path") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON ({error}); make the file again") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds no JSON object; give a result or pytest-benchmark file")
    return content


class NotFinite(str):
    """A number that JSON has no word for, as its file spells it: equal to itself, unlike a NaN."""

    __slots__ = ()


def _float(text: str) -> float | NotFinite:
    value = float(text)
    return value if math.isfinite(value) else NotFinite(text)


class Fields:
    """Typed access to an object of a file; anything missing or of another type is a ``DataError``."""

    def __init__(self, content: Mapping[str, Any], where: str) -> None:
        self.content = content
        self.where = where

    def _wrong(self, key: str, expected: str) -> DataError:
        value = self.content.get(key)
        state = "is missing" if key not in self.content else f"is not {expected}"
        if isinstance(value, NotFinite):
            state = f"is {value}, not {expected}"
        return DataError(f"{self.where}: {key} {state}; the file is broken, make it again")

    def text(self, key: str) -> str:
        """The text of ``key``.

        Raises:
            DataError: missing or of another type.
        """
        value = self.content.get(key)
        if not _is_text(value):
            raise self._wrong(key, "text")
        return value

    def mapping(self, key: str) -> Fields:
        """The object of ``key``.

        Raises:
            DataError: missing or of another type.
        """
        value = self.content.get(key)
        if not isinstance(value, dict):
            raise self._wrong(key, "an object")
        return Fields(value, f"{self.where}, {key}")

    def optional(self, key: str) -> Fields:
        """As :meth:`mapping`; empty when the field is absent or null."""
        return Fields({}, self.where) if self.content.get(key) is None else self.mapping(key)

    def rows(self, key: str) -> list[Fields]:
        """The objects of the list of ``key``.

        Raises:
            DataError: missing or of another type.
        """
        value = self.content.get(key)
        if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
            raise self._wrong(key, "a list of objects")
        return [Fields(row, f"{self.where}, {key}[{i}]") for i, row in enumerate(value)]

    def number(self, key: str) -> float:
        """The number of ``key``.

        Raises:
            DataError: missing or of another type.
        """
        value = self.maybe_number(key)
        if value is None:
            raise self._wrong(key, "a number")
        return value

    def maybe_number(self, key: str) -> float | None:
        """The number of ``key``, None where it is missing or null.

        Raises:
            DataError: of another type.
        """
        value = self.content.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(key, "a number")
        try:
            return float(value)
        except OverflowError:
            raise self._wrong(key, "a number in range") from None

    def numbers(self, key: str) -> tuple[float, ...]:
        """The numbers of the list of ``key``.

        Raises:
            DataError: missing or of another type.
        """
        value = self.content.get(key)
        if not isinstance(value, list):
            raise self._wrong(key, "a list of numbers")
        indexed = Fields({str(i): item for i, item in enumerate(value)}, f"{self.where}, {key}")
        return tuple(indexed.number(str(i)) for i in range(len(value)))

    def texts(self, key: str) -> tuple[str, ...]:
        """The texts of the list of ``key``, all different.

        Raises:
            DataError: missing, of another type, or one of them twice.
        """
        value = self.content.get(key)
        if not isinstance(value, list) or not all(_is_text(item) for item in value):
            raise self._wrong(key, "a list of texts")
        unique(value, f"{self.where}, {key}")
        return tuple(value)


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and not isinstance(value, NotFinite)


def unique(names: Iterable[str], where: str) -> None:
    """Raises ``DataError`` when a name comes twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"{where}: {name} comes twice; the file is broken, make it again")
        seen.add(name)


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves of nested objects by dotted path; lists count as leaves.

    >>> flatten({"edge": {"sha256": "ab", "dtype": "float32"}, "cloud": None})
    {'edge.sha256': 'ab', 'edge.dtype': 'float32', 'cloud': None}
    """
    if not isinstance(value, Mapping):
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, item in value.items():
        found.update(flatten(item, f"{prefix}.{key}" if prefix else str(key)))
    return found
