"""The cloud alone: the ceiling of quality, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.rows import GROUP, REPLAY

if TYPE_CHECKING:
    from bench.recorder import Recorder


@pytest.mark.benchmark(group=GROUP, timer=REPLAY)
def test_cloud(arm: str, recorder: Recorder) -> None:
    recorder.record(recorder.run("cloud"))
