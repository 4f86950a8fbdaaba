"""A suite of another project, as pytest-benchmark users write them: ten rows of the standard library's speed, and of
two quality figures in ``extra_info``."""

from __future__ import annotations

import difflib
import hashlib
import json
import random
import re
import sqlite3
import statistics
import textwrap
import zlib
from collections.abc import Callable
from typing import Any

import pytest

_DRAW = random.Random(0)
WORDS = ["".join(_DRAW.choices("abcdefgh", k=_DRAW.randint(2, 9))) for _ in range(4000)]
TEXT = " ".join(WORDS)
ROWS = [
    {"id": number, "name": word, "tags": WORDS[number : number + 4]}
    for number, word in enumerate(WORDS)
]
DOCUMENT = json.dumps(ROWS)
NUMBERS = [_DRAW.random() for _ in range(4000)]


def _query() -> int:
    with sqlite3.connect(":memory:") as base:
        base.execute("create table words (name text)")
        base.executemany("insert into words values (?)", [(word,) for word in WORDS])
        return len(base.execute("select name, count(*) from words group by name").fetchall())


WORK: dict[str, Callable[[], Any]] = {
    "dump": lambda: json.dumps(ROWS),
    "load": lambda: json.loads(DOCUMENT),
    "sort": lambda: sorted(WORDS),
    "search": lambda: re.findall(r"\b[a-d]+\b", TEXT),
    "compress": lambda: zlib.compress(TEXT.encode(), 6),
    "hash": lambda: hashlib.sha256(TEXT.encode() * 40).hexdigest(),
    "query": _query,
    "match": lambda: difflib.get_close_matches("abcdef", WORDS[:300]),
    "wrap": lambda: textwrap.fill(TEXT[:8000]),
    "median": lambda: statistics.pstdev(NUMBERS[:1500]),
}


@pytest.mark.parametrize("name", WORK)
def test_speed(benchmark: Any, name: str) -> None:
    benchmark(WORK[name])
    if name == "compress":
        packed = zlib.compress(TEXT.encode(), 6)
        benchmark.extra_info["quality"] = {
            "saved": 1 - len(packed) / len(TEXT),
            "bytes": len(packed),
        }
