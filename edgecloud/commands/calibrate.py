"""``edgecloud calibrate``: fit the calibrated gate to a pair of models."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

__all__ = ["add"]


def add(commands: Any) -> None:
    calibrate = commands.add_parser(
        "calibrate",
        help="fit the calibrated gate to journals of a calibration split",
        description="Fits the calibrated gate to journals of runs in which everything was verified "
        "(bench/test_spec.py --gate-type always), on data that nothing is judged on later. It learns "
        "what the acceptance rule of those runs rejects.",
    )
    calibrate.add_argument("journals", nargs="+", type=Path, metavar="JOURNAL.jsonl")
    calibrate.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="CALIBRATION.json",
        help="for --gate-type calibrated --calibration",
    )
    calibrate.set_defaults(command=_calibrate)


def _calibrate(parsed: argparse.Namespace) -> int:
    from edgecloud.harness.calibrating import evaluate, examples, fit
    from edgecloud.measure.journal import read
    from edgecloud.measure.results import write_result
    from edgecloud.models.calibration import to_json

    found = examples(parsed.journals)
    rows = evaluate(found)
    headers = [read(path)[0] for path in parsed.journals]
    content = to_json(
        fit(found),
        tokens=len(found.tokens),
        rejected=sum(found.rejected),
        recordings=len(set(found.recordings)),
        fitted_to=[
            {"models": header["identity"]["models"], "data": header["identity"]["data"]}
            for header in headers
        ],
        acceptance=sorted({header["identity"]["settings"]["acceptance"] for header in headers}),
        cross_validated=rows,
    )
    for kind in dict.fromkeys(row["kind"] for row in rows):
        _table(kind, [row for row in rows if row["kind"] == kind])
    print(
        f"{len(found.tokens)} tokens of {len(set(found.recordings))} recordings, "
        f"{sum(found.rejected)} rejected"
    )
    print(f"calibration: {write_result(parsed.output, content, flag='-o')}")
    return 0


def _table(kind: str, rows: list[dict[str, Any]]) -> None:
    from tabulate import tabulate

    rates = [f"at {at['rate']:.0%}" for at in rows[0]["at"]]
    shown = [
        [row["gate"], f"{row['auc']:.3f}"]
        + [f"{at['precision']:.2f} / {at['recall']:.2f}" for at in row["at"]]
        for row in rows
    ]
    thresholds = [f"{at['threshold']:.3f}" for at in rows[0]["at"]]
    shown.append(["threshold (calibrated)", "", *thresholds])
    print(f"{kind}: precision / recall of rejections, at equal shares of tokens sent to the cloud")
    print(tabulate(shown, headers=["gate", "AUC", *rates], disable_numparse=True))
    print()
