"""Text files that a user hands over, and JSON or TOML in them: UTF-8 with or without a byte order mark, or
UTF-16 with one, as PowerShell redirects what a program prints; and where files lie that can be made again.

Whatever such a file holds, reading it ends, and ends in a value or in one line of the caller's own error.
"""

from __future__ import annotations

import ast
import gc
import json
import math
import os
import re
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from edgecloud.errors import EdgeCloudError

__all__ = [
    "MAX_DEPTH",
    "cache_folder",
    "check_depth",
    "check_value",
    "json_files",
    "list_in_text",
    "parse_json",
    "parse_object",
    "read_json",
    "read_text",
    "read_toml",
    "uncollected",
]

T = TypeVar("T")

MAX_DEPTH: Final = 100
"""Levels of lists and objects in each other. No file of ours has ten; parsers and whoever walks a value
later call themselves once a level, and end in a RecursionError not far above."""
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_BOM: Final = b"\xef\xbb\xbf"
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_SHAPES: Final = bytes.maketrans(b"123456789E", b"000000000e")
"""Turns every digit into 0: numbers beyond all floats have an exponent of three digits, or with one of two at least 200
digits in a row."""
_LARGE: Final = (b"e000", b"0" * 200)
_NO_BRACKET: Final = bytes(set(range(256)) - set(b'[]{}"\\'))
_MAX_LIST_TEXT: Final = 100_000
_DOTTED: Final = re.compile(
    r"""(?<![\w.'"-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+)"""
    f"{{{MAX_DEPTH}}}"
)
"""A name in TOML of more parts than :data:`MAX_DEPTH`: each is a table in the one before, and the parser's time
grows with their number squared."""


def read_text(path: Path, *, what: str, error: type[EdgeCloudError], advice: str = "") -> str:
    """The text of a UTF-8 or UTF-16 file, without the byte order mark it may begin with.

    ``what`` is how messages call the file (``configuration file``); ``advice`` is their last clause.

    Raises:
        error: the file cannot be read, or is not UTF-8 text.
    """
    after = f"; {advice}" if advice else ""
    try:
        content = path.read_bytes()
    except OSError as failure:
        raise error(f"{what} {path}: {failure.strerror or failure}{after}") from failure
    except ValueError as failure:  # a NUL in the path
        raise error(f"{what} {str(path)!r}: {failure}{after}") from failure
    try:
        return _decoded(content)
    except UnicodeDecodeError as failure:
        raise error(f"{what} {path} is not UTF-8 text (byte {failure.start}){after}") from failure


def read_json(path: Path, *, what: str, error: type[EdgeCloudError], advice: str = "") -> Any:
    """The value in a JSON file; the arguments are those of :func:`read_text`.

    Raises:
        error: the file cannot be read, or is not JSON that can be used.
    """
    text = read_text(path, what=what, error=error, advice=advice)
    try:
        return parse_json(text)
    except ValueError as failure:
        after = f"; {advice}" if advice else ""
        raise error(f"{what} {path} is not JSON: {failure}{after}") from failure


def read_toml(
    path: Path, *, what: str, error: type[EdgeCloudError], advice: str = ""
) -> dict[str, Any]:
    """The tables in a TOML file; the arguments are those of :func:`read_text`.

    Raises:
        error: the file cannot be read, or is not TOML that can be used.
    """
    text = read_text(path, what=what, error=error, advice=advice)
    after = f"; {advice}" if advice else ""
    if _DOTTED.search(text):
        raise error(f"{what} {path} is nested more than {MAX_DEPTH} deep{after}")
    try:
        content = tomllib.loads(text)
    except RecursionError as failure:
        raise error(f"{what} {path} is nested too deeply{after}") from failure
    except ValueError as failure:  # not TOML, or a number or date out of range
        raise error(f"{what} {path} is not TOML: {failure}{after}") from failure
    if _deeper(content, MAX_DEPTH):
        raise error(f"{what} {path} is nested more than {MAX_DEPTH} deep{after}")
    return content


def json_files(folder: Path) -> list[Path]:
    """The ``*.json`` of a folder, by name. macOS's notes on other files (``._*.json``) are none.

    Raises:
        OSError: the folder cannot be listed.
    """
    return sorted(path for path in folder.glob("*.json") if not path.name.startswith("._"))


def parse_json(text: str | bytes, *, finite: bool = False) -> Any:
    """The value of a JSON text; bytes are those of a file. A byte order mark in front is no part of it.

    With ``finite``, NaN and infinite numbers are refused; Python's parser reads them.

    Raises:
        ValueError: it is not JSON, nested more than :data:`MAX_DEPTH` deep, or holds half a character
            (an unpaired surrogate, which no file can be written with); says so in one line.
    """
    if isinstance(text, bytes):
        text = _decoded(text)
    text = text.removeprefix("\ufeff")
    hooks: dict[str, Any] = {"parse_constant": _refuse} if finite else {}
    if finite and _has_large(text):
        hooks["parse_float"] = _finite  # three times as slow
    try:
        value = json.loads(text, **hooks)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise ValueError(f"nested more than {MAX_DEPTH} deep") from None
    check_value(value, text, 0, len(text))
    return value


def parse_object(text: str, *, each: str, take: Callable[[Any], T]) -> tuple[Any, list[T]]:
    """:func:`parse_json` of finite numbers, with the elements of an object's list ``each`` handed to ``take`` one by
    one: never are all of them in memory. Returns the object, that list being empty, and what ``take`` gave.

    Raises:
        ValueError: as :func:`parse_json`; or ``take`` raises it.

    >>> parse_object('{"a": 1, "rows": [[2], [3]]}', each="rows", take=sum)
    ({'a': 1, 'rows': []}, [2, 3])
    """
    decode = json.JSONDecoder(parse_constant=_refuse).raw_decode
    check = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite).raw_decode
    place = 0

    def value() -> Any:
        nonlocal place
        begin = place = _SPACE.match(text, place).end()  # type: ignore[union-attr]
        found, place = decode(text, begin)
        if _has_large(text[begin:place]):
            check(text, begin)
        check_value(found, text, begin, place)
        return found

    def met(mark: str) -> bool:
        """Whether the mark comes next; then it is passed."""
        nonlocal place
        place = _SPACE.match(text, place).end()  # type: ignore[union-attr]
        if not text.startswith(mark, place):
            return False
        place += len(mark)
        return True

    found: dict[str, Any] = {}
    taken: list[T] = []
    try:
        ended = not met("{") or met("}")
        while not ended:
            name = value()
            sound = isinstance(name, str) and met(":")
            if sound and name == each and met("["):
                found[name], taken, empty = [], [], met("]")
                while not empty:
                    taken.append(take(value()))
                    empty = not met(",")
                    sound = not empty or met("]")
            elif sound:
                found[name] = value()
            ended = not (sound and met(","))
        whole = met("}") and not text[place:].strip()
    except (json.JSONDecodeError, RecursionError):
        whole = False
    return (found, taken) if whole else (parse_json(text, finite=True), [])


def check_value(value: Any, text: str, begin: int, end: int) -> None:
    """Refuse a value, read from ``text[begin:end]``, as :func:`parse_json` does.

    Raises:
        ValueError: it is nested too deep, or holds half a character.
    """
    if not _is_shallow(text, begin, end):
        check_depth(value)
    if text.find("\\u", begin, end) >= 0 and _SURROGATE.search(text, begin, end):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            what = "a text in it holds half a character (an unpaired surrogate)"
            raise ValueError(what) from None


def _is_shallow(text: str, begin: int, end: int) -> bool:
    """True where ``text[begin:end]`` is nested at most :data:`MAX_DEPTH` deep; False where that is not seen at a
    glance: its values have to be looked at."""
    if text.count("[", begin, end) + text.count("{", begin, end) <= MAX_DEPTH:
        return True
    left = text[begin:end].encode("utf-8", "surrogatepass").translate(None, _NO_BRACKET)
    left = left.replace(b'""', b"")  # texts without brackets in them
    for _ in range(MAX_DEPTH // 2):
        if not left:
            break
        left = left.replace(b"[]", b"").replace(b"{}", b"")
    return not left


def _has_large(text: str) -> bool:
    """True where a number of the text may be beyond all floats."""
    shape = text.encode("utf-8", "surrogatepass").translate(_SHAPES, b"+")
    return any(mark in shape for mark in _LARGE)


def check_depth(value: Any) -> None:
    """Refuse a value of a file that is nested more than :data:`MAX_DEPTH` deep.

    Raises:
        ValueError: it is.
    """
    if _deeper(value, MAX_DEPTH):
        raise ValueError(f"nested more than {MAX_DEPTH} deep")


def list_in_text(text: str) -> bool:
    """True when ``text`` is a list written out, in JSON or as Python prints it, or Python's tuple of texts: what
    a table's cell becomes when a list was meant.

    >>> list_in_text('["calm", "low"]'), list_in_text("[['calm'], [1]]"), list_in_text("('calm', 'low')")
    (True, True, True)
    >>> list_in_text("[laughs] calm"), list_in_text("(calm)"), list_in_text("(1, 2)")
    (False, False, False)
    """
    stripped = text.strip()
    if stripped[:1] + stripped[-1:] not in ("[]", "()") or len(stripped) > _MAX_LIST_TEXT:
        return False
    found: Any = None
    try:
        found = parse_json(stripped)
    except ValueError:
        try:
            found = ast.literal_eval(stripped)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return False
    if isinstance(found, tuple):
        return bool(found) and all(isinstance(item, str) for item in found)
    return isinstance(found, list)


@contextmanager
def uncollected() -> Iterator[None]:
    """Context manager: no garbage is collected in it. Where all that is made stays, and holds no cycles, half of
    the time goes into looking through it again and again."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _decoded(content: bytes) -> str:
    """The text that a file's bytes are. Raises UnicodeDecodeError, which is a ValueError."""
    if content.startswith(_UTF16):
        return content.decode("utf-16")
    return content.removeprefix(_BOM).decode("utf-8")


def _deeper(value: Any, depth: int) -> bool:
    """True when lists and objects lie in each other more than ``depth`` deep."""
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(depth):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return bool(level)


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is out of range")
    return value


def cache_folder() -> Path:
    """Folder of files that can be made again, under ``XDG_CACHE_HOME``; it may not be there yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "edgecloud")
