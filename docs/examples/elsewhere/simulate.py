"""How often the gate is right on recorded rounds of a suite.

    pytest docs/examples/elsewhere/test_speed.py --benchmark-min-rounds=300 --benchmark-json=rounds.json
    python docs/examples/elsewhere/simulate.py rounds.json [--tolerance 0.02] [--slowdown 0.05] [--trials 400]

Rounds of both sides are drawn from those recorded of a row, anew for each trial; one side is slowed down, or neither
is (A/A). A row that is undecided runs again with as many rounds as its verdict names, up to four times.
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
AGAIN = 4


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
    for _ in range(AGAIN):
        old, new = draw.choice(pool, count), (1 + slowdown) * draw.choice(pool, count)
        check = decided(list(old), list(new), policy, level)
        if check.verdict != "undecided" or check.more is None:
            break
        count += check.more
    return check.verdict, check.n or count


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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("rounds", type=Path)
    parser.add_argument("--tolerance", type=float, default=0.02)
    parser.add_argument("--slowdown", type=float, default=0.05)
    parser.add_argument("--trials", type=int, default=400)
    parsed = parser.parse_args()
    rounds = recorded(parsed.rounds)
    policy = Policy(wall_tolerance=parsed.tolerance, wall_resamples=1000)
    print(
        "row, rounds recorded: caught at the slowdown, median rounds a side | false alarms in A/A, same"
    )
    slowed = simulate(rounds, parsed.slowdown, policy=policy, trials=parsed.trials)
    equal = simulate(rounds, 0.0, policy=policy, trials=parsed.trials, seed=1)
    for one, other in zip(slowed, equal, strict=True):
        print(
            f"{one.row}, {len(rounds[one.row])}: {one.share('regression'):.1%}, "
            f"{np.median(one.rounds):.0f} | {other.share('regression'):.1%}, {other.share('same'):.1%}"
        )
    caught = np.mean([one.share("regression") for one in slowed])
    alarms = np.mean(
        [any(one.verdicts[i] == "regression" for one in equal) for i in range(parsed.trials)]
    )
    print(
        f"all rows: {caught:.1%} of slowed rows caught; {alarms:.1%} of A/A files with any false alarm"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
