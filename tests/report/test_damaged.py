"""Results and journals with something wrong in them: a page all the same, or one line that says why not."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgecloud.cli.main import main
from tests.report.pages import write_runs

SEED = 15
DAMAGES = 30
"""A render takes a tenth of a second; thousands of others were tried by :func:`damaged` alone."""
DELETED = object()
DEEP: Any = []
for _ in range(500):
    DEEP = [DEEP]
VALUES: tuple[Any, ...] = (
    *(DELETED, None, True, 0, -1, 1 << 70, 1e308, float("nan"), float("inf")),
    *("", "x", "\ud800", "</script><b>", [], {}, [None], [[]], {"x": None}, DEEP),
)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside."""
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    for key in keys:
        yield (*at, key)
        yield from places(value[key], (*at, key))


def damage(value: Any, rng: random.Random) -> str:
    """Put something else at one place; returns what was done."""
    # By depth, so that the many events of traces are not all there is.
    some = list(places(value))
    depth = rng.choice(sorted({len(at) for at in some}))
    *way, last = rng.choice([at for at in some if len(at) == depth])
    put = rng.choice(VALUES)
    for key in way:
        value = value[key]
    if put is DELETED:
        del value[last]
    else:
        value[last] = put
    return f"{[*way, last]} = {put!r:.40}"


def damaged(folder: Path, rng: random.Random) -> str:
    """Two arms of two samples under ``folder``, one of their four files with a damage."""
    write_runs(folder, 2)
    for name in ("spec-rank", "cloud-rank"):
        (folder / "results" / f"{name}-english.json").unlink()
    path = folder / "results" / "spec-exact-english.json"
    if rng.random() < 0.25:
        path = folder / "journals" / "spec-exact-english.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    number = rng.randrange(len(lines))
    content = json.loads(lines[number])
    done = damage(content, rng)
    lines[number] = json.dumps(content)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"{path.name}, line {number + 1}: {done}"


def test_a_damage_anywhere_is_one_line_or_does_not_matter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(SEED)
    refused = 0
    for number in range(DAMAGES):
        done = damaged(tmp_path / str(number), rng)
        page = tmp_path / f"{number}.html"
        results = str(tmp_path / str(number) / "results")
        status = main(["report", results, "-o", str(page)])
        said = capsys.readouterr().err.splitlines()
        assert status in (0, 2), done
        assert page.is_file() == (status == 0), done
        if status == 2:
            refused += 1
            assert len([line for line in said if line.startswith("edgecloud: ")]) == 1, (done, said)
    assert 0 < refused < DAMAGES, "some matter, and some do not"
