"""Dataclasses from JSON and back: what is read is what was written, and what is not fits in one line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecloud.contracts.ranges import Range
from edgecloud.jsontypes import Mismatch, inline, read, rest, schema, unless, whole, write


@dataclass(frozen=True, slots=True)
class Price:
    cents: int = 0


@dataclass(frozen=True, slots=True)
class Walk:
    kind: ClassVar[str] = "walk"
    steps: Annotated[int, Range(0, 9)]


@dataclass(frozen=True, slots=True)
class Ride:
    kind: ClassVar[str] = "ride"
    line: str
    price: Price = inline(Price)


@dataclass(frozen=True, slots=True)
class Facts:
    name: str | None = None
    all: Mapping[str, Any] = whole()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trip:
    mood: Literal["calm", "glad"] = "calm"
    scores: Mapping[str, float | None] = rest(default_factory=dict)
    late: bool = unless(False)
    parts: tuple[Walk | Ride, ...] = ()
    facts: Facts | None = None
    notes: Mapping[str, str] = field(default_factory=dict)


ROW: dict[str, Any] = {
    "mood": "glad",
    "cider": 1.5,
    "bleu": None,
    "parts": [{"kind": "walk", "steps": 3}, {"kind": "ride", "line": "U2", "cents": 240}],
    "facts": {"of": 1, "name": "n", "more": [{}]},
    "notes": {"a": "b"},
}
trips = st.builds(
    Trip,
    mood=st.sampled_from(["calm", "glad"]),
    scores=st.dictionaries(st.sampled_from("xyz"), st.none() | st.floats(-9, 9)),
    late=st.booleans(),
    parts=st.lists(
        st.builds(Walk, st.integers(0, 9)) | st.builds(Ride, st.text(), st.builds(Price))
    ).map(tuple),
)


def test_a_row_is_read_by_the_annotations_and_written_as_it_was() -> None:
    found = read(Trip, ROW)
    assert found.parts == (Walk(3), Ride("U2", Price(240)))
    assert found.scores == {"cider": 1.5, "bleu": None}
    assert found.facts is not None
    assert found.facts.name == "n"
    assert list(write(found)) == list(ROW)
    assert write(found) == ROW
    assert write(read(Trip, {**ROW, "late": True}))["late"] is True


@given(trips)
def test_what_was_written_is_read_again(trip: Trip) -> None:
    assert read(Trip, write(trip)) == trip


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"mood": "grim"}, "mood 'grim' is not one of calm, glad"),
        ({"mood": 3}, "mood is not text"),
        ({"cider": "good"}, "cider is not a number"),
        ({"cider": True}, "cider is not a number"),
        ({"cider": float("nan")}, "cider is not a number"),
        ({"cider": 10**400}, "cider is not a number"),
        ({"late": 1}, "late is not true or false"),
        ({"parts": {}}, "parts is not a list of objects"),
        ({"parts": [{"kind": "walk", "steps": 3}, {}]}, r"parts\[1\].kind is missing"),
        ({"parts": [{"kind": "fly"}]}, r"parts\[0\].kind is not one of walk, ride"),
        ({"parts": [{"kind": "ride"}]}, r"parts\[0\].line is missing"),
        ({"parts": [{"kind": "walk", "steps": -1}]}, r"parts\[0\].steps is negative"),
        ({"parts": [{"kind": "walk", "steps": 10}]}, r"parts\[0\].steps is out of range"),
        ({"facts": []}, "facts is not an object"),
        ({"notes": {"a": None}}, "notes.a is not text"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(Mismatch, match=said):
        read(Trip, {**ROW, **changes})


def test_a_schema_names_every_field_once() -> None:
    found = schema(Trip)
    trip, ride = found["$defs"]["Trip"], found["$defs"]["Ride"]
    assert set(trip["properties"]) == {"mood", "late", "parts", "facts", "notes"}
    assert trip["required"] == []
    assert trip["additionalProperties"] == {"anyOf": [{"type": "number"}, {"type": "null"}]}
    assert ride["required"] == ["kind", "line"]
    assert ride["properties"]["cents"] == {"type": "integer"}


Small = Annotated[float, Range(0.0, 9.0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    near: Small | None = None
    above: Annotated[float, Range(maximum=9.0, above=0.0)] = 1.0
    free: float = 0.0
    count: int = 0
    moods: tuple[Literal["calm", "glad"], ...] = ()
    some: tuple[Small, ...] = ()
    whole: tuple[int, ...] = ()


@pytest.mark.parametrize(
    "row",
    [
        {"near": None},
        {"near": 0.0, "some": [0.0, 9.0, 4], "whole": [3, 0, 10**30], "count": 10**400},
        {"near": 9, "free": 7, "above": 9.0, "moods": ["glad", "calm", "glad"]},
    ],
)
def test_sound_values_are_taken_as_they_are(row: dict[str, Any]) -> None:
    assert write(read(Numbers, row)) == write(Numbers()) | row


@pytest.mark.parametrize(
    "row",
    [
        *({"near": wrong} for wrong in (-1e-9, 9.1, float("nan"), True, "1")),
        *({"above": wrong} for wrong in (0.0, None, float("inf"))),
        *({"free": wrong} for wrong in (float("nan"), float("inf"), -float("inf"), None, False)),
        *({"count": wrong} for wrong in (1.0, True, None)),
        *({"some": [1.0, wrong]} for wrong in (-1.0, 9.5, float("nan"), None, True, "1")),
        *({"whole": [1, wrong]} for wrong in (1.0, True, None)),
        *({"moods": ["calm", wrong]} for wrong in ("grim", None, 1)),
    ],
)
def test_a_value_that_is_not_sound_at_a_glance_is_looked_at(row: dict[str, Any]) -> None:
    (name,) = row
    with pytest.raises(Mismatch, match=rf"^{name}") as told:
        read(Numbers, row)
    assert "\n" not in str(told.value)
