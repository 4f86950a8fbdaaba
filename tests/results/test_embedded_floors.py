"""The floors of the embedded pair lie below what whole runs measured, so that the plain commands pass."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import edgecloud

FLOORS = tomllib.loads(
    (Path(edgecloud.__file__).parent / "embedded" / "floors.toml").read_text("utf-8")
)["floors"]
MEASURED = {
    "chinese": {
        "edge": (0.180, 1.530, 0.547),
        "cloud": (0.875, 2.802, 0.969),
        "spec-rank": (0.344, 1.736, 0.773),
        "spec-exact": (0.602, 2.681, 0.969),
    },
    "english": {
        "edge": (0.172, 1.962, 0.633),
        "cloud": (0.898, 2.768, 0.969),
        "spec-rank": (0.305, 1.964, 0.703),
        "spec-exact": (0.547, 2.731, 0.969),
    },
}
"""By language and row: all attributes right, CIDEr and emotion accuracy of `tox -e edge,cloud,spec` on the whole corpus.
With the default gate exact acceptance judges only what that gate asks about."""


@pytest.mark.parametrize("language", MEASURED)
def test_each_floor_lies_below_what_was_measured_and_not_far_below(language: str) -> None:
    assert set(FLOORS[language]) == set(MEASURED[language])
    for row, reached in MEASURED[language].items():
        floors = FLOORS[language][row]
        for name, value in zip(
            ("attribute_accuracy", "avg_cider", "emotion_accuracy"), reached, strict=True
        ):
            assert 0.7 * value < floors[name] < value, (row, name)
