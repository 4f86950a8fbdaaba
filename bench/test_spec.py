"""The edge drafts, the cloud verifies what the gate lets through."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.rows import GROUP, REPLAY

if TYPE_CHECKING:
    from bench.recorder import Recorder


@pytest.mark.benchmark(group=GROUP, timer=REPLAY)
def test_spec(arm: str, recorder: Recorder) -> None:
    recorder.record(recorder.run("spec"))
