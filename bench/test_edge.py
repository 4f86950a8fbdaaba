"""The edge alone, under its caps: what the small model reaches by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.rows import GROUP, REPLAY

if TYPE_CHECKING:
    from bench.recorder import Recorder


@pytest.mark.benchmark(group=GROUP, timer=REPLAY)
def test_edge(arm: str, recorder: Recorder) -> None:
    recorder.record(recorder.run("edge"))
