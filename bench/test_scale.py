"""What 10,000 samples cost, in units of a loop of the same process: bounds that what reads, scores and reports them
keeps to.

Runs when it is named: ``pytest bench/test_scale.py``, some minutes. ``python -m bench.scale`` prints these figures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from bench.conftest import TABLES
from bench.scale import SAMPLES, measured, write

LIMITS: Final[dict[str, tuple[float, float]]] = {
    # Most reference loops, most MB above the process's start. Loops of two runs on cores that others use differ by
    # half; memory is sharp.
    "report": (700, 450),
    "captions": (80, 170),
    "rescore": (800, 320),
    "resume": (850, 330),
    "journal": (150, 170),
    "interval": (8, 85),
    "settings": (7, 20),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs with their journals."""
    folder = tmp_path_factory.mktemp("runs")
    write(folder, SAMPLES)
    return folder


@pytest.mark.parametrize("case", LIMITS)
def test_ten_thousand_samples_cost_no_more(
    case: str, runs: Path, pytestconfig: pytest.Config
) -> None:
    loops, above_mb = LIMITS[case]
    cost = measured(case, runs)
    pytestconfig.stash[TABLES].append(
        f"{case}: {cost.cpu_s:.2f} s, {cost.loops:.1f} loops of {loops:g}, "
        f"{cost.above_start_mb:.0f} MB of {above_mb:g}"
    )
    assert cost.loops <= loops
    assert cost.above_start_mb <= above_mb
