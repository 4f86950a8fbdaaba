"""What 10,000 samples cost, in units of a loop of the same process: bounds that what scores them keeps to.

Runs when it is named: ``pytest bench/test_scale.py``. ``python -m bench.scale`` prints these figures and those of the
cases that have no bound here: reports, journals and rescoring.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.conftest import TABLES
from bench.scale import SAMPLES, measured

LIMITS: dict[str, tuple[float, float]] = {
    # Most reference loops, most MB above the process's start.
    "interval": (7, 100),
    "settings": (20, 50),
    # Two runs on busy cores took 66 and 102 loops; what is sharp here is the memory, 256 MB before.
    "captions": (150, 230),
}


@pytest.mark.parametrize("case", LIMITS)
def test_ten_thousand_samples_cost_no_more(
    case: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    (tmp_path / "samples").write_text(str(SAMPLES), encoding="utf-8")
    loops, above_mb = LIMITS[case]
    cost = measured(case, tmp_path)
    pytestconfig.stash[TABLES].append(
        f"{case}: {cost.loops:.1f} loops of {loops:g}, {cost.above_start_mb:.0f} MB of {above_mb:g}"
    )
    assert cost.loops <= loops
    assert cost.above_start_mb <= above_mb
