"""Ranges and choices of values, each said once: in the type of a field.

The fields of the algorithm's dataclasses and the options of flags and files are declared by the same types, so
that what is built in code is held to what flags are. Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, fields
from functools import cache
from numbers import Integral, Real
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from edgecloud.errors import ConfigError

__all__ = [
    "WHOLE_CAPTIONS",
    "Count",
    "DraftLength",
    "ExpectedLength",
    "GateScope",
    "LogProbability",
    "Nats",
    "NgramLength",
    "OwnDraftLength",
    "Probability",
    "Range",
    "RankThreshold",
    "RepetitionPenalty",
    "SentenceLimit",
    "Share",
    "TokenCount",
    "Unbounded",
    "ValueType",
    "VerifyScope",
    "check_fields",
    "value_types",
]


@dataclass(frozen=True, slots=True)
class Range:
    """From ``minimum`` to ``maximum``, both included; more than ``above``. A number is finite, unless the maximum
    is infinity itself."""

    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None

    def check(self, number: float) -> None:
        """Raises ValueError for a number that is outside."""
        infinite = number in (-math.inf, math.inf) and number != self.maximum
        if infinite or number != number:  # no number at all
            raise ValueError(f"{number!r} is not a finite number")
        if self.minimum is not None and number < self.minimum:
            raise ValueError(f"{number} is below {self.minimum:g}")
        if self.maximum is not None and number > self.maximum:
            raise ValueError(f"{number} is above {self.maximum:g}")
        if self.above is not None and number <= self.above:
            raise ValueError(f"{number} is not above {self.above:g}")


DraftLength = Annotated[int, Range(1, 64)]
"""Draft tokens a round."""
OwnDraftLength = Annotated[int, Range(0, 64)]
"""Tokens that the cloud drafts at a time for itself; 0: none."""
TokenCount = Annotated[int, Range(0, 4096)]
"""Tokens that the cloud chooses in one go."""
ExpectedLength = Annotated[int, Range(1)]
RankThreshold = Annotated[int, Range(1)]
SentenceLimit = Annotated[int, Range(1)]
Count = Annotated[int, Range(0)]
Nats = Annotated[float, Range(0.0)]
LogProbability = Annotated[float, Range(maximum=0.0)]
Probability = Annotated[float, Range(0.0, 1.0)]
Share = Annotated[float, Range(maximum=1.0, above=0.0)]
NgramLength = Annotated[int, Range(0, 32)]
RepetitionPenalty = Annotated[float, Range(maximum=100.0, above=0.0)]
Unbounded = Annotated[float, Range(0.0, math.inf)]
"""From 0 on, infinity included: no limit."""
GateScope = Literal["block", "token", "start", "caption"]
WHOLE_CAPTIONS: Final[frozenset[GateScope]] = frozenset({"start", "caption"})
"""Scopes of a gate that is asked once: a caption is the edge's or the cloud's as a whole."""
VerifyScope = Literal["block", "since-last-call"]

_KINDS: dict[type, tuple[type, str]] = {
    bool: (bool, "true or false"),
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    str: (str, "text"),
}


@dataclass(frozen=True, slots=True)
class ValueType:
    """A field's type, read from its annotation: ``int``, ``str | None``, ``Literal[...]``, one of the types above."""

    kind: type[Any]
    nullable: bool
    choices: Collection[str]
    range: Range

    @classmethod
    def of(cls, hint: Any) -> ValueType:
        """The type that ``hint`` names, with extras (``get_type_hints(..., include_extras=True)``)."""
        parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        (kind,) = (part for part in parts if part is not type(None))
        within = Range()
        if get_origin(kind) is Annotated:
            kind, within = get_args(kind)
        literal = get_args(kind) if get_origin(kind) is Literal else ()
        return cls(str if literal else kind, type(None) in parts, literal, within)

    def check(self, value: object) -> None:
        """Raises ValueError for a value of another type, choice or range. Nothing is converted."""
        if value is None and self.nullable:
            return
        if type(value) is not self.kind:  # numpy's numbers are numbers, too; booleans are none
            kind, name = _KINDS[self.kind]
            if not isinstance(value, kind) or isinstance(value, bool):
                raise ValueError(f"{value!r} is not {name}")
        if self.choices and value not in self.choices:
            raise ValueError(f"{value!r} is not one of {', '.join(self.choices)}")
        if self.kind in (int, float):
            self.range.check(value)  # type: ignore[arg-type]


def check_fields(made: Any, **choices: Collection[str]) -> None:
    """Check the fields of a dataclass against their types; those that hold no plain value are passed over.
    ``choices`` are known when the program runs alone, such as a registry, by the field's name.

    Raises:
        ConfigError: lists every field that is wrong.
    """
    wrong = []
    for name, kind in value_types(made.__class__).items():
        value = getattr(made, name)
        try:
            kind.check(value)
            if name in choices and value not in choices[name]:
                raise ValueError(f"{value!r} is not one of {', '.join(choices[name])}")
        except ValueError as error:
            wrong.append(f"{name}: {error}")
    if wrong:
        raise ConfigError(f"{type(made).__name__}: {'; '.join(wrong)}")


@cache
def value_types(declared: type[Any]) -> dict[str, ValueType]:
    """The types of a dataclass's fields that hold a plain value, by name."""
    hints = get_type_hints(declared, include_extras=True)
    found = {each.name: _value_type(hints[each.name]) for each in fields(declared)}
    return {name: kind for name, kind in found.items() if kind is not None}


def _value_type(hint: Any) -> ValueType | None:
    plain = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    if get_origin(plain) in (None, Literal, Union, UnionType):
        found = ValueType.of(hint)
        return found if found.kind in _KINDS else None
    return None  # a mapping, a tuple
