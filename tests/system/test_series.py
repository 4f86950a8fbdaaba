"""A series of runs as tox starts it: what its own process imports, and what is left of the processes that it forked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "jieba", "sacrebleu", "pandas", "matplotlib", "hypothesis.core")
PROGRAM = f"""
import json, sys
from bench.series import main
status = main(["edge", "-q", "--max-samples", "2", "--output-dir", sys.argv[1]])
print(json.dumps([status, [name for name in {HEAVY!r} if name in sys.modules]]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="nurseries are for Linux")
def test_a_series_imports_what_is_heavy_in_its_nurseries_alone(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [0, []], done.stdout + done.stderr
    for language, metric in (("chinese", "avg_cider"), ("english", "avg_bertscore_f1")):
        result = json.loads((tmp_path / "results" / f"edge-{language}.json").read_bytes())
        assert result["metrics"][metric] is not None
