"""How many samples of the cloud alone have a trace that contradicts itself, in several runs.

    python -m bench.delivery [--runs 5] [--output-dir DIR] [options of the experiments]

Runs the cloud alone over the embedded corpus in measured time, and counts the samples whose tokens came
in less time than the cloud took to make them (``latency_metrics.delivered_late_total``). Wanted on
otherwise idle cores: 0 in every run. Exits 1 where there is any.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--output-dir", type=Path, default=Path("reports/delivery"))
    parsed, options = parser.parse_known_args()
    late = 0
    for number in range(1, parsed.runs + 1):
        name = f"cloud-{number}"
        command = [sys.executable, "-m", "pytest", "bench/test_cloud.py", "-q", *options]
        command += ["--output-dir", str(parsed.output_dir), "--output-name", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.stderr.write(done.stdout[-2000:] + done.stderr[-2000:])
            return done.returncode
        path = parsed.output_dir / "results" / f"{name}.json"
        metrics = json.loads(path.read_text(encoding="utf-8"))["metrics"]
        found = metrics["latency_metrics"]["delivered_late_total"]
        count = metrics["num_completed"]
        sys.stdout.write(f"{name}: {found} of {count} samples delivered late\n")
        sys.stdout.flush()
        late += found
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
