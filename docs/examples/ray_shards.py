"""Shards on a Ray cluster, then the merged result.

python docs/examples/ray_shards.py --shards 8 --output-dir /shared/reports -- --acceptance exact

What follows ``--`` goes to every shard. The folder must be one that all nodes share.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import ray

REPOSITORY = Path(__file__).resolve().parents[2]
NAME = "ray"


@ray.remote(max_retries=3)
def shard(part: int, count: int, output_dir: str, options: list[str]) -> int:
    """One shard in a process of its own. A node that dies is no loss: the retry resumes."""
    command = [sys.executable, "-m", "pytest", "bench/test_spec.py", "--resume"]
    command += ["--clock", "modelled", "--output-name", NAME, "--output-dir", output_dir]
    command += ["--shard", f"{part}/{count}", *options]
    return subprocess.run(command, cwd=REPOSITORY, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--cpus", type=int, default=4, help="of each shard")
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("options", nargs="*", help="after --: options of the experiment")
    given = parser.parse_args()
    output, count = given.output_dir.resolve(), given.shards
    ray.init()
    parts = range(1, count + 1)
    task = shard.options(num_cpus=given.cpus)
    codes = ray.get([task.remote(part, count, str(output), given.options) for part in parts])
    if any(codes):
        sys.exit(f"exit codes of the shards: {codes}")
    journals = [str(output / "journals" / f"{NAME}-{part}of{count}.jsonl") for part in parts]
    result = str(output / "results" / f"{NAME}.json")
    return subprocess.run(["edgecloud", "merge", *journals, "-o", result], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
