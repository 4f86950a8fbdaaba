"""Every registered converter obeys the laws of ``edgecloud.testing.converters``, and a planted violation of each
is caught."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgecloud.datasets.converters import CONVERTERS
from edgecloud.datasets.converters.secap import convert
from edgecloud.errors import EdgeCloudError, ManifestError
from edgecloud.registry import BUILT_IN
from edgecloud.testing import CONVERTER_LAWS, ConverterCase, Law, check_converter
from tests.datasets import test_secap as secap_layout


def _break_secap(src: Path) -> None:
    for path in sorted((src / "wav").iterdir())[:2]:
        path.write_bytes(b"not audio")


CASES: dict[str, ConverterCase] = {
    "secap": ConverterCase(
        convert=CONVERTERS["secap"], source=secap_layout.layout, samples=3, harm=_break_secap
    ),
}
"""The miniature of each dataset, and what breaks it."""


def test_every_converter_has_a_miniature() -> None:
    assert [part.name for part in CONVERTERS.parts() if part.origin == BUILT_IN] == [*CASES]


@pytest.mark.parametrize("law", CONVERTER_LAWS, ids=lambda law: law.name)
@pytest.mark.parametrize("name", CASES)
def test_a_converter_obeys(name: str, law: Law[ConverterCase]) -> None:
    law.check(CASES[name], ())


def unfinished(src: Path, dest: Path, **_: object) -> int:
    count = convert(src, dest)
    next((dest / "audio").iterdir()).unlink()
    return count


def reordered(src: Path, dest: Path, **_: object) -> int:
    count = convert(src, dest)
    entries = json.loads((dest / "manifest.json").read_text(encoding="utf-8"))
    text = json.dumps([dict(reversed(entry.items())) for entry in entries])
    (dest / "manifest.json").write_text(text, encoding="utf-8")
    return count


def careless(src: Path, dest: Path, **_: object) -> int:
    count = convert(src, dest)
    (dest / "log.txt").write_text(str(dest))
    return count


def hasty(src: Path, dest: Path, **_: object) -> int:
    try:
        return convert(src, dest)
    except ManifestError as error:
        raise ManifestError("one of them is broken", error.problems[:1]) from error


def rough(src: Path, dest: Path, **_: object) -> int:
    try:
        return convert(src, dest)
    except EdgeCloudError:
        return 0


@pytest.mark.parametrize(
    "wrong, law",
    [
        (unfinished, "loads"),
        (reordered, "format"),
        (careless, "repeats"),
        (hasty, "problems"),
        (rough, "errors"),
    ],
)
def test_a_converter_that_breaks_a_law_is_found_by_that_law(
    wrong: Callable[..., int], law: str
) -> None:
    case = replace(CASES["secap"], convert=wrong)
    (broken,) = (some for some in CONVERTER_LAWS if some.name == law)
    with pytest.raises(AssertionError):
        broken.check(case, ())
    with pytest.raises(AssertionError, match="broken by"):
        check_converter(case)


def test_every_law_is_broken_by_a_converter_above() -> None:
    (marked,) = test_a_converter_that_breaks_a_law_is_found_by_that_law.pytestmark  # type: ignore[attr-defined]
    assert {law for _, law in marked.args[1]} == {law.name for law in CONVERTER_LAWS}
