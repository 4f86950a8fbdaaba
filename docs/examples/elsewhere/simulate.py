"""How often the gate is right on recorded rounds of a suite.

    pytest docs/examples/elsewhere/test_speed.py --benchmark-min-rounds=300 --benchmark-json=rounds.json
    python docs/examples/elsewhere/simulate.py rounds.json [--tolerance 0.02] [--slowdown 0.05] [--level 0.99]

Rounds of both sides are drawn from those recorded of a row, anew for each trial; one side is slowed down, or neither
is (A/A). What is undecided runs again with as many rounds as its verdict names, up to four times. ``--keep FILE``
writes what is needed of the recording, 500 rounds a row; rounds.json beside this file is one, taken with
``--benchmark-timer=time.process_time``.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgecloud.regression.decide import Comparison, decide, row_level
from edgecloud.regression.model import Benchmark, Check
from edgecloud.regression.tolerances import Policy

START = 40
"""Rounds of the first run."""
RUNS = 5
"""The first, and those with the rounds that verdicts name."""
KEPT = 500
"""Rounds of a row, evenly spread, in a file of ``--keep``."""


@dataclass(frozen=True)
class Found:
    """Verdicts of a row over all trials, and the rounds that it took to reach them."""

    row: str
    verdicts: list[str]
    rounds: list[int]

    def share(self, verdict: str) -> float:
        return self.verdicts.count(verdict) / len(self.verdicts)


def recorded(path: Path) -> dict[str, np.ndarray]:
    """The rounds of each row of a pytest-benchmark file, seconds."""
    rows = json.loads(path.read_text(encoding="utf-8"))["benchmarks"]
    return {row["name"]: np.array(row["stats"]["data"]) for row in rows}


def verdict(
    pool: np.ndarray, slowdown: float, policy: Policy, level: float, draw: np.random.Generator
) -> tuple[str, int]:
    """The verdict on a row, and the rounds on each side that it rests on."""
    count = START
    for _ in range(RUNS):
        # Sorted, which is faster: the order of rounds that do not pair does not count.
        old, new = (np.sort(draw.choice(pool, count)) for _ in range(2))
        check = decided(old.tolist(), ((1 + slowdown) * new).tolist(), policy, level)
        if check.verdict != "undecided" or check.more is None:
            break
        asked, count = count, count + check.more
    else:
        count = asked
    return check.verdict, count


def decided(old: list[float], new: list[float], policy: Policy, level: float) -> Check:
    """As the gate decides a row of plain pytest-benchmark files."""
    about = Benchmark(name="row", kind="pytest-benchmark", source=Path(), modelled=False, times={})
    return decide(Comparison(about, "time", False, "unpaired", old, new), policy, level=level)


def simulate(
    rounds: dict[str, np.ndarray], slowdown: float, *, policy: Policy, trials: int, seed: int = 0
) -> list[Found]:
    """Every row's verdicts when one side is slower by the share ``slowdown``."""
    draw = np.random.default_rng(seed)
    level = row_level(policy.wall_level, len(rounds))
    found = []
    for row, pool in rounds.items():
        some = [verdict(pool, slowdown, policy, level, draw) for _ in range(trials)]
        found.append(Found(row, [one for one, _ in some], [count for _, count in some]))
    return found


def keep(rounds: dict[str, np.ndarray], path: Path) -> None:
    """Write a recording as a small pytest-benchmark file: four digits of evenly spread rounds."""
    rows = [
        {
            "name": row,
            "stats": {
                "data": [
                    float(f"{pool[place]:.4g}")
                    for place in np.linspace(0, len(pool) - 1, min(KEPT, len(pool))).astype(int)
                ]
            },
        }
        for row, pool in rounds.items()
    ]
    path.write_text(json.dumps({"benchmarks": rows}), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("rounds", type=Path)
    parser.add_argument("--tolerance", type=float, default=0.02)
    parser.add_argument("--slowdown", type=float, default=0.05)
    parser.add_argument("--level", type=float, default=0.99)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--keep", type=Path, metavar="FILE")
    parsed = parser.parse_args()
    rounds = recorded(parsed.rounds)
    if parsed.keep is not None:
        keep(rounds, parsed.keep)
        return 0
    policy = Policy(wall_tolerance=parsed.tolerance, wall_level=parsed.level)
    slowed = simulate(rounds, parsed.slowdown, policy=policy, trials=parsed.trials)
    equal = simulate(rounds, 0.0, policy=policy, trials=parsed.trials, seed=1)
    print("row                    caught  rounds 50% 95% | false alarms  same  rounds 50% 95%")
    for one, other in zip(slowed, equal, strict=True):
        print(
            f"{one.row:22} {one.share('regression'):6.1%} {_rounds(one):>14} | "
            f"{other.share('regression'):12.1%} {other.share('same'):5.1%} {_rounds(other):>14}"
        )
    caught = np.mean([one.share("regression") for one in slowed])
    alarms = np.mean(
        [any(one.verdicts[i] == "regression" for one in equal) for i in range(parsed.trials)]
    )
    print(
        f"all rows: {caught:.2%} of slowed rows caught; "
        f"{alarms:.2%} of A/A files of {len(rounds)} rows with any false alarm"
    )
    return 0


def _rounds(found: Found) -> str:
    return "{:.0f} {:.0f}".format(*np.percentile(found.rounds, [50, 95]))


if __name__ == "__main__":
    raise SystemExit(main())
