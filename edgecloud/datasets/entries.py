"""Entries of a manifest one by one, from a JSON list or JSON Lines, whatever the file's size.

The text is decoded entry by entry: neither it nor all of its objects are ever in memory at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TextIO

from edgecloud.errors import ManifestError
from edgecloud.textfiles import check_value

__all__ = ["entries", "kind"]

_CHARACTERS: Final = 1 << 18
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_ADVICE: Final = "check --dataset-path"
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")
_LINES: Final = (".jsonl", ".ndjson", ".jsonlines")


def entries(path: Path) -> Iterator[Any]:
    """The values in a manifest file: those of its JSON list, or one after the other (JSON Lines).

    Raises:
        ManifestError: the file is missing, is not JSON, neither a list nor lines of objects, or empty.
    """
    count = 0
    try:
        with path.open("rb") as stream:
            encoding = "utf-16" if stream.read(2) in _UTF16 else "utf-8-sig"
        with path.open(encoding=encoding, newline="") as text:
            for value in _Values(path, text).read():
                count += 1
                yield value
    except FileNotFoundError:
        raise ManifestError(f"dataset manifest {path} does not exist; {_ADVICE}") from None
    except UnicodeDecodeError:
        aside = "; files that begin with ._ are macOS's notes" if path.name.startswith("._") else ""
        raise ManifestError(
            f"dataset manifest {path} is not UTF-8 text; {_ADVICE}{aside}"
        ) from None
    except OSError as error:
        raise ManifestError(
            f"dataset manifest {path} cannot be read ({error.strerror}); {_ADVICE}"
        ) from None
    if not count:
        raise ManifestError(f"dataset manifest {path} holds no entries")


class _Values:
    """The values of one file, over a window of its text."""

    def __init__(self, path: Path, text: TextIO) -> None:
        self._path = path
        self._text = text
        self._decoder = json.JSONDecoder()
        self._window = ""
        self._place = 0
        self._ended = False
        self._line, self._column = 1, 1
        """Start of the window in the file."""

    def read(self) -> Iterator[Any]:
        begins = self._next_character()
        if begins == "[":
            self._place += 1
            yield from self._listed()
        elif begins == "{":
            yield from self._in_lines()
        else:
            value = self._value()
            raise ManifestError(
                f"dataset manifest {self._path} must be a JSON list of entries or JSON Lines, not "
                f"{kind(value)}"
            )

    def _listed(self) -> Iterator[Any]:
        if self._next_character() != "]":
            yield self._value()
            while self._next_character() == ",":
                self._place += 1
                self._next_character()
                yield self._value()
        if self._next_character() != "]":
            raise self._broken("Expecting ',' delimiter", self._place)
        self._place += 1
        if self._next_character():
            raise self._broken("Extra data", self._place)

    def _in_lines(self) -> Iterator[Any]:
        first = self._value()
        alone = not self._next_character()
        known = isinstance(first, dict) and {"audio_path", "prompt"} & first.keys()
        if alone and not known and self._path.suffix.lower() not in _LINES:
            raise ManifestError(
                f"dataset manifest {self._path} must be a JSON list of entries, not {kind(first)}"
            )
        yield first
        while self._next_character():
            yield self._value()

    def _next_character(self) -> str:
        """The next character that is no space, not yet taken; empty at the end."""
        while True:
            found = _SPACE.match(self._window, self._place)
            self._place = found.end() if found else self._place
            if self._place < len(self._window):
                return self._window[self._place]
            if not self._more():
                return ""

    def _value(self) -> Any:
        while True:
            try:
                value, end = self._decoder.raw_decode(self._window, self._place)
            except json.JSONDecodeError as error:
                # Cut off by the window, or truly broken: only near the window's end is that the question.
                near = error.pos > len(self._window) - 100 or "Unterminated" in error.msg
                if near and self._more():
                    continue
                raise self._broken(error.msg, error.pos) from None
            except (ValueError, RecursionError) as error:
                deep = isinstance(error, RecursionError)
                raise self._unusable(
                    "an entry is nested too deep" if deep else str(error)
                ) from None
            if end == len(self._window) and self._more():
                continue  # a number may go on
            try:
                check_value(value, self._window, self._place, end)
            except ValueError as error:
                raise self._unusable(str(error)) from None
            self._place = end
            return value

    def _more(self) -> bool:
        """Take in more of the text, and drop what is done with; false at its end."""
        if self._ended:
            return False
        kept = len(self._window) - self._place
        # As much again as is left over: whoever needs a long entry does not read it many times.
        added = self._text.read(max(_CHARACTERS, kept))
        if not added:
            self._ended = True
            return False
        self._line, self._column = self._position(self._place)
        self._window = self._window[self._place :] + added
        self._place = 0
        return True

    def _position(self, place: int) -> tuple[int, int]:
        """Line and column of a place in the window."""
        lines = self._window.count("\n", 0, place)
        if not lines:
            return self._line, self._column + place
        return self._line + lines, place - self._window.rfind("\n", 0, place)

    def _broken(self, what: str, place: int) -> ManifestError:
        line, column = self._position(place)
        return ManifestError(
            f"dataset manifest {self._path} is not JSON: line {line}, column {column}: {what}"
        )

    def _unusable(self, what: str) -> ManifestError:
        line, _ = self._position(self._place)
        return ManifestError(
            f"dataset manifest {self._path} is not usable JSON: line {line}: {what}"
        )


def kind(value: Any) -> str:
    """A JSON value's type in words."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
    names |= {int: "a number", float: "a number", type(None): "null"}
    return names.get(type(value), type(value).__name__)
