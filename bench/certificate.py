"""Does a certificate keep its promise, and what does it cost?

    edgecloud data synthetic dev DIR --clips 4000
    python -m bench.certificate DIR/english.json [--draws 1000]

All recordings of the manifest are the population: each is decoded once by the cloud alone and with the gate at every
threshold, so that each threshold's true mean loss is known. Then calibration sets are drawn from it (with replacement:
each draw is of the whole population), each chooses a threshold as `edgecloud certify` does, and the *population's* loss
at that threshold is looked at. A promise of 95% confidence is broken in at most 5% of the draws. Calls are those of the
population at the chosen threshold over the fewest calls of a threshold that keeps the risk, which is known with hindsight
alone (nothing is compared where none keeps it). In modelled time; what is decoded is kept in ``-o``, and a command that was stopped goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from edgecloud.experiments.certificate import LOSSES, Floats, learn_then_test
from edgecloud.experiments.certify import Asked, Decoded, check, decoded, loss_matrix
from edgecloud.results.result_file import write_result
from edgecloud.settings.config import resolve

SIZES = (250, 500, 1000)
RISK, CONFIDENCE = 0.02, 0.95
POLICIES: dict[str, dict[str, Any]] = {
    "attributes": {},
    "cider": {},
    "tokens": {"acceptance": "exact"},
}
"""Settings beside the preset `frontier`, by loss: bounded acceptance changes tokens with every threshold."""


def asked_of(manifest: Path, loss: str, language: str) -> Asked:
    """The policy that is certified by ``loss``."""
    settings = {"language": language, "dataset_path": str(manifest), **POLICIES[loss]}
    return check(resolve(settings, preset="frontier"), loss=loss, risk=RISK, confidence=CONFIDENCE)


def calls_of(asked: Asked, found: Decoded) -> Floats:
    """Mean calls of the cloud a caption at each threshold, of the samples that were completed."""
    rows = [captions for captions in found.rows if captions is not None]
    return np.array(
        [np.mean([row[n + 1]["calls"] for row in rows]) for n in range(len(asked.thresholds))]
    )


def drawn(
    matrix: Floats, calls: Floats, *, size: int, draws: int, risk: float, confidence: float
) -> dict[str, Any]:
    """What ``draws`` calibration sets of ``size`` samples choose, beside the whole population's loss and calls.

    ``exceeded`` is the share of draws whose threshold has more than ``risk`` over the population; ``none`` that of draws
    that certify nothing. ``calls_ratio`` are 5th, 50th and 95th percentile of calls over hindsight's; ``hindsight`` is the
    place of its threshold. Where no threshold keeps the risk over the population, these are None.
    """
    rng = np.random.default_rng(size)
    truth = matrix.mean(axis=1)
    kept = np.flatnonzero(truth <= risk)
    best = int(kept[np.argmin(calls[kept])]) if kept.size else None
    chosen = []
    for _ in range(draws):
        some = rng.integers(0, matrix.shape[1], size)
        chosen.append(learn_then_test(matrix[:, some], risk=risk, confidence=confidence).index)
    found = np.array([index for index in chosen if index is not None], dtype=int)
    ratios = np.array([]) if best is None else calls[found] / calls[best]
    return {
        "size": size,
        "draws": draws,
        "exceeded": float((truth[found] > risk).sum()) / draws,
        "none": 1 - len(found) / draws,
        "hindsight": best,
        "loss": float(truth[found].mean()) if found.size else None,
        "calls_ratio": [float(q) for q in np.quantile(ratios, [0.05, 0.5, 0.95])]
        if ratios.size
        else None,
        "mean_calls_ratio": float(ratios.mean()) if ratios.size else None,
    }


def population(asked: Asked, matrix: Floats, calls: Floats) -> str:
    """The table of what is true of each threshold."""
    rows = [
        [f"{t:g}", f"{loss:.4f}", f"{c:.2f}"]
        for t, loss, c in zip(asked.thresholds, matrix.mean(axis=1), calls, strict=True)
    ]
    return tabulate(rows, headers=["threshold", "mean loss", "calls"], disable_numparse=True)


def _row(found: Mapping[str, Any], thresholds: Sequence[float]) -> list[str]:
    low, middle, high = found["calls_ratio"] or [float("nan")] * 3
    return [
        str(found["size"]),
        f"{found['exceeded']:.1%}",
        f"{found['none']:.1%}",
        "none" if found["hindsight"] is None else f"{thresholds[found['hindsight']]:g}",
        f"{found['mean_calls_ratio'] or float('nan'):.3f}",
        f"{middle:.3f} ({low:.3f} … {high:.3f})",
    ]


def _told(what: str, done: int, total: int) -> None:
    if done % 50 == 0 or done == total:
        print(f"{done}/{total} {what}", file=sys.stderr, flush=True)  # noqa: T201


def main() -> int:
    """Print tables, and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--language", default="english")
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=["attributes", "cider"])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("-o", "--output", type=Path, default=Path("reports/certificate"))
    parsed = parser.parse_args()
    written: dict[str, Any] = {}
    for loss in parsed.losses:
        asked = asked_of(parsed.manifest, loss, parsed.language)
        folder = parsed.output / POLICIES[loss].get("acceptance", "bounded")
        found = decoded(asked, folder, told=_told)
        matrix, calls = loss_matrix(asked, found), calls_of(asked, found)
        rows = [
            drawn(matrix, calls, size=size, draws=parsed.draws, risk=RISK, confidence=CONFIDENCE)
            for size in SIZES
        ]
        head = (
            f"\n{loss}: {len(asked.samples)} recordings, risk {RISK:g}, confidence {CONFIDENCE:g}"
        )
        print(head)  # noqa: T201
        print(population(asked, matrix, calls))  # noqa: T201
        heads = [
            "samples",
            "risk exceeded",
            "nothing certified",
            "hindsight",
            "calls ÷",
            "median (5 … 95%)",
        ]
        table = [_row(row, asked.thresholds) for row in rows]
        print(tabulate(table, headers=heads, disable_numparse=True))  # noqa: T201
        written[loss] = {
            "samples": len(asked.samples),
            "thresholds": asked.thresholds,
            "mean_loss": matrix.mean(axis=1).tolist(),
            "calls": calls.tolist(),
            "draws": rows,
        }
    print(write_result(parsed.output / "certificate.json", written, flag="-o"))  # noqa: T201
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
