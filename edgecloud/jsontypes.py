"""Frozen dataclasses from JSON and back, by their annotations: one declaration reads, checks, writes and
describes what a file holds.

A field may be annotated with ``str``, ``int``, ``float``, ``bool``, ``Any``, a ``Literal``, a dataclass,
``X | None``, a union of dataclasses with a ``kind`` each, ``tuple[X, ...]`` (a list in JSON), ``Mapping[str, X]``,
and ``Annotated[X, Range(...)]``. :func:`inline`, :func:`rest`, :func:`whole` and :func:`unless` are fields that
stand in a file in another way than under their name. What a file has beyond a type's fields is ignored.
"""

from __future__ import annotations

import math
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

if TYPE_CHECKING:
    from edgecloud.contracts.ranges import Range  # whose package is written with what is here

__all__ = ["Mismatch", "inline", "read", "rest", "schema", "unless", "whole", "write"]

T = TypeVar("T")
Reader = Callable[[Any], Any]
_KIND = "kind"
"""The class variable that tells the members of a union apart."""
_PLAIN = frozenset({str, int, float, bool, type(None)})
"""Types of values that stand in JSON as they are."""


class Mismatch(ValueError):
    """A value that its type does not take: ``state`` says what is wrong with it, ``path`` where it is."""

    def __init__(self, state: str, *path: str | int) -> None:
        self.state = state
        self.path = path
        super().__init__(f"{self.place} {state}".strip())

    @property
    def place(self) -> str:
        """The path in words: ``trace[3].tokens``."""
        words = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path)
        return "".join(words).removeprefix(".")

    def under(self, part: str | int) -> Mismatch:
        """The same, seen from one level further out."""
        return Mismatch(self.state, part, *self.path)


def inline(make: Callable[[], Any]) -> Any:
    """A field that is a dataclass, by default what ``make`` gives, whose own fields stand among the others."""
    return field(default_factory=make, metadata={"inline": True})


def rest(**more: Any) -> Any:
    """A ``Mapping[str, X]`` of all that a type has no other field for, at this place when written."""
    return field(metadata={"rest": True}, **more)


def whole() -> Any:
    """A ``Mapping[str, Any]`` of all that an object of a file holds, the other fields too, which are read out of
    it: it is written as it was."""
    return field(metadata={"whole": True}, default_factory=dict)


def unless(default: Any) -> Any:
    """A field that is written only where it is not ``default``."""
    return field(default=default, metadata={"unless": True})


def read(kind: type[T], value: Any) -> T:
    """The dataclass that a value of JSON is.

    Raises:
        Mismatch: a field is missing, of another type or out of range.
    """
    found: T = _reader(kind)(value)
    return found


def write(value: Any) -> Any:
    """The JSON of a dataclass or of values in it: what :func:`read` gives the same of."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is tuple or kind is list:
        return [item if type(item) in _PLAIN else write(item) for item in value]
    if isinstance(value, Mapping):
        return {key: write(item) for key, item in value.items()}
    if not is_dataclass(kind):
        return value
    if (only := _only(kind)) is not None:
        return write(getattr(value, only))
    name = _kind_of(kind)
    row: dict[str, Any] = {} if name is None else {_KIND: name}
    for entry in _plan(kind):
        its = getattr(value, entry.name)
        if entry.whole:
            return write(its)
        if entry.inline or entry.rest:
            row |= write(its)
        elif not (entry.unless and its == entry.default):
            row[entry.name] = its if type(its) in _PLAIN else write(its)
    return row


def schema(kind: Any) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a type, with ``$defs`` for the dataclasses in it."""
    known: dict[str, Any] = {}
    own = _schema(kind, known)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **own, "$defs": known}


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    hint: Any
    default: Any
    make: Any
    inline: bool
    rest: bool
    unless: bool
    whole: bool

    @property
    def spread(self) -> bool:
        return self.inline or self.rest or self.whole

    @property
    def needed(self) -> bool:
        return self.default is MISSING and self.make is MISSING and not self.spread


def _once(function: Callable[[Any], T]) -> Callable[[Any], T]:
    """The function, computed once for each type."""
    known: dict[Any, T] = {}

    def remembered(hint: Any) -> T:
        if hint not in known:
            known[hint] = function(hint)
        return known[hint]

    return remembered


@_once
def _plan(kind: Any) -> tuple[_Field, ...]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return tuple(
        _Field(
            entry.name,
            hints[entry.name],
            entry.default,
            entry.default_factory,
            *(bool(entry.metadata.get(mark)) for mark in ("inline", "rest", "unless", "whole")),
        )
        for entry in fields(kind)
    )


def _kind_of(kind: type[Any]) -> str | None:
    """The name in a union; ``None``: it needs none."""
    found = kind.__dict__.get(_KIND)
    return found if isinstance(found, str) else None


def _only(kind: type[Any]) -> str | None:
    """The field whose value is all that stands in a file: a class may name it in ``json_is``."""
    found: str | None = kind.__dict__.get("json_is")
    return found


def _words(hint: Any) -> str:
    """What a value ought to be."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _words(args[0])
    if origin in (Union, types.UnionType):
        return _words(next(one for one in args if one is not type(None)))
    if origin is tuple:
        plural = {str: "texts", int: "whole numbers", float: "numbers"}
        inner = args[0]
        if get_origin(inner) is Annotated:
            inner = get_args(inner)[0]
        return f"a list of {plural.get(inner, 'objects')}"
    simple = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    return simple.get(hint, "an object")


@_once
def _reader(hint: Any) -> Reader:
    """The function that checks a value of JSON and turns it into ``hint``."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return lambda value: value
    if origin is Annotated:
        return _bounded(_reader(args[0]), args[1])
    if origin is Literal:
        return _choice(args)
    if origin in (Union, types.UnionType):
        return _union(args)
    if origin is tuple:
        return _list(args[0], hint)
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(args[1], hint)
    if is_dataclass(hint):
        assert isinstance(hint, type)
        return _object(hint)
    return _checked(_CHECKS[hint], hint)


def _is_number(value: Any) -> bool:
    if isinstance(value, float):  # numpy's are, too
        return math.isfinite(value)
    return type(value) is int and abs(value) < 1 << 1000  # else beyond all floats


_CHECKS: Mapping[Any, Callable[[Any], bool]] = {
    str: lambda value: type(value) is str,
    bool: lambda value: type(value) is bool,
    int: lambda value: type(value) is int,
    float: _is_number,
}
"""A text may be of no class derived from ``str``: such a one stands for a number that JSON lacks."""
_EXACT = frozenset({str, bool, int, float})


@dataclass(frozen=True, slots=True)
class _Glance:
    """Values that are sound at a glance, and are taken as they are: ``None`` if ``nullable``, and those of exactly the
    type ``kind`` from ``low`` to ``high``, where it has such ends."""

    kind: Any = None
    low: float | None = None
    high: float = math.inf
    nullable: bool = False

    @classmethod
    def of(cls, hint: Any) -> _Glance:
        """That of a type; of some types no value is sound at a glance."""
        nullable = False
        if get_origin(hint) in (Union, types.UnionType):
            some = [one for one in get_args(hint) if one is not type(None)]
            if len(some) > 1:
                return cls()
            nullable, hint = True, some[0]
        low, high = -sys.float_info.max, sys.float_info.max
        if get_origin(hint) is Annotated:
            hint, within = get_args(hint)
            if within.above is not None:
                return cls(nullable=nullable)
            low = low if within.minimum is None else within.minimum
            high = high if within.maximum is None else min(within.maximum, high)
        elif hint is int:
            return cls(int, nullable=nullable)
        if hint not in _EXACT:
            return cls(nullable=nullable)
        return cls(hint, low if hint in (int, float) else None, high, nullable)


def _checked(check: Callable[[Any], bool], hint: Any) -> Reader:
    def reader(value: Any) -> Any:
        if not check(value):
            raise Mismatch(f"is not {_words(hint)}")
        return value

    return reader


def _choice(choices: tuple[str, ...]) -> Reader:
    known = {choice: choice for choice in choices}

    def reader(value: Any) -> Any:
        if type(value) is not str:
            raise Mismatch("is not text")
        # The type's own text: a file's stand in memory a thousand times over.
        if (found := known.get(value)) is None:
            raise Mismatch(f"{value!r:.40} is not one of {', '.join(choices)}")
        return found

    return reader


def _bounded(inner: Reader, within: Range) -> Reader:
    def reader(value: Any) -> Any:
        found = inner(value)
        try:
            within.check(found)
        except ValueError:
            state = "is negative" if within.minimum == 0 and found < 0 else "is out of range"
            raise Mismatch(state) from None
        return found

    return reader


def _union(args: tuple[Any, ...]) -> Reader:
    some = [one for one in args if one is not type(None)]
    if len(some) == 1:
        inner = _reader(some[0])
        return lambda value: None if value is None else inner(value)
    members = {_kind_of(one): _reader(one) for one in some}

    def reader(value: Any) -> Any:
        if not isinstance(value, dict):
            raise Mismatch("is not an object")
        kind = value.get(_KIND)
        if type(kind) is not str or kind not in members:
            state = (
                "is missing"
                if _KIND not in value
                else f"is not one of {', '.join(map(str, members))}"
            )
            raise Mismatch(state, _KIND)
        return members[kind](value)

    return reader


def _list(item: Any, hint: Any) -> Reader:
    inner = _reader(item)
    kind, low, high = (glance := _Glance.of(item)).kind, glance.low, glance.high
    choices = {one: one for one in get_args(item)} if get_origin(item) is Literal else {}
    plain = _CHECKS.get(get_args(item)[0] if get_origin(item) is Annotated else item)

    def sound(value: list[Any]) -> bool:
        for one in value:
            if type(one) is not kind or not (low is None or low <= one <= high):
                return False
        return True

    def chosen(value: list[Any]) -> list[Any]:
        return [choices.get(one) if type(one) is str else None for one in value]

    def reader(value: Any) -> Any:
        if type(value) is not list:
            raise Mismatch(f"is not {_words(hint)}")
        if kind is not None and sound(value):
            return tuple(value)
        if choices and None not in (known := chosen(value)):
            return tuple(known)
        if plain is not None and not all(map(plain, value)):
            raise Mismatch(f"is not {_words(hint)}")
        found = []
        for number, one in enumerate(value):
            try:
                found.append(inner(one))
            except Mismatch as error:
                raise error.under(number) from None
        return tuple(found)

    return reader


def _mapping(item: Any, hint: Any) -> Reader:
    inner = _reader(item)
    glance = _Glance.of(item)
    kind, low, high = (None if item is str else glance.kind), glance.low, glance.high

    def reader(value: Any) -> Any:
        if type(value) is not dict:
            raise Mismatch(f"is not {_words(hint)}")
        if item is Any:
            return value
        found = {}
        for key, one in value.items():
            if (one is None and glance.nullable) or (
                type(one) is kind and (low is None or low <= one <= high)
            ):
                found[sys.intern(key)] = one
                continue
            try:
                # Once in memory, however many objects of a file have the same.
                found[sys.intern(key)] = sys.intern(inner(one)) if item is str else inner(one)
            except Mismatch as error:
                raise error.under(key) from None
        return found

    return reader


def _object(kind: type[Any]) -> Reader:
    only = _only(kind)
    plan = _plan(kind)
    if only is not None:
        inner = _reader(next(entry.hint for entry in plan if entry.name == only))
        return lambda value: kind(inner(value))
    known = _keys(kind)
    names: dict[str, Any] = {"kind": kind, "Mismatch": Mismatch, "MISSING": MISSING}
    lines = ["def reader(value):", "    if type(value) is not dict:"]
    lines.append("        raise Mismatch('is not an object')")
    for number, entry in enumerate(plan):
        its = f"its{number}"
        names[f"read{number}"] = _field(entry, known)
        if entry.spread:
            lines.append(f"    {its} = read{number}(value)")
            continue
        lines.append(f"    {its} = value.get({entry.name!r}, MISSING)")
        glance = _Glance.of(entry.hint)
        names |= {
            f"kind{number}": glance.kind,
            f"low{number}": glance.low,
            f"high{number}": glance.high,
        }
        sound = [f"type({its}) is kind{number}"] if glance.kind is not None else []
        sound += [f"low{number} <= {its} <= high{number}"] if glance.low is not None else []
        either = [" and ".join(sound)] if sound else []
        either += [f"{its} is None"] if glance.nullable else []
        if either:
            lines.append(f"    if not ({' or '.join(either)}):")
        lines.append(f"    {'    ' if either else ''}{its} = read{number}({its})")
    given = ", ".join(f"{entry.name}=its{number}" for number, entry in enumerate(plan))
    lines.append(f"    return kind({given})")
    # A loop over the fields takes twice the time; what is written here are names of fields alone.
    exec("\n".join(lines), names)
    found: Reader = names["reader"]
    return found


def _field(entry: _Field, known: frozenset[str]) -> Reader:
    """The function that gives a field's value: of one that stands among the others from the whole object, else from what
    stands under its name, or from ``MISSING``. ``known`` are the names of all fields."""
    inner, name = _reader(entry.hint), entry.name
    if entry.inline:
        return inner
    if entry.whole:
        return lambda value: value
    if entry.rest:
        return lambda value: inner({k: v for k, v in value.items() if k not in known})

    def reader(its: Any) -> Any:
        if its is MISSING:
            if entry.needed:
                raise Mismatch("is missing", name)
            return entry.default if entry.make is MISSING else entry.make()
        try:
            return inner(its)
        except Mismatch as error:
            raise error.under(name) from None

    return reader


def _keys(kind: type[Any]) -> frozenset[str]:
    """The names that a type's fields have in a file."""
    found: set[str] = {_KIND} if _kind_of(kind) is not None else set()
    for entry in _plan(kind):
        if entry.inline:
            found |= _keys(entry.hint)
        elif not entry.spread:
            found.add(entry.name)
    return frozenset(found)


def _schema(hint: Any, known: dict[str, Any]) -> dict[str, Any]:
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return {}
    if origin is Annotated:
        ends = {"minimum": args[1].minimum, "maximum": args[1].maximum}
        return _schema(args[0], known) | {k: v for k, v in ends.items() if v is not None}
    if origin is Literal:
        return {"enum": list(args)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(one, known) for one in args]}
    if origin is tuple:
        return {"type": "array", "items": _schema(args[0], known)}
    if origin is not None and issubclass(origin, Mapping):
        inner = _schema(args[1], known)
        return {"type": "object", **({"additionalProperties": inner} if inner else {})}
    if is_dataclass(hint):
        assert isinstance(hint, type)
        if (only := _only(hint)) is not None:
            return _schema(next(e.hint for e in _plan(hint) if e.name == only), known)
        if hint.__name__ not in known:
            known[hint.__name__] = {}
            known[hint.__name__] = _object_schema(hint, known)
        return {"$ref": f"#/$defs/{hint.__name__}"}
    names = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
    return {"type": names[hint]}


def _object_schema(kind: type[Any], known: dict[str, Any]) -> dict[str, Any]:
    name = _kind_of(kind)
    properties: dict[str, Any] = {} if name is None else {_KIND: {"const": name}}
    needed = list(properties)
    others: dict[str, Any] = {}
    for entry in _plan(kind):
        if entry.rest:
            inner = _schema(get_args(entry.hint)[1], known)
            others = {"additionalProperties": inner} if inner else {}
        elif entry.whole:
            pass
        elif entry.inline:
            own = _object_schema(entry.hint, known)
            properties |= own["properties"]
            needed += own["required"]
        else:
            properties[entry.name] = _schema(entry.hint, known)
            needed += [entry.name] if entry.needed else []
    about = (kind.__doc__ or "").partition("\n\n")[0]
    return {
        "description": " ".join(about.split()),
        "type": "object",
        "properties": properties,
        "required": needed,
        **others,
    }
