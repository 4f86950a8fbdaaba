"""``edgecloud calibrate``: fit the calibrated gate to a pair of models."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add ``edgecloud calibrate`` to ``commands``, the subparsers of the command line."""
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
    calibrate.add_argument(
        "--force",
        action="store_true",
        help="write a fit on too little, or one no better out of sample than a plain threshold, too",
    )
    calibrate.set_defaults(command=_calibrate)


def _calibrate(parsed: argparse.Namespace) -> int:
    from edgecloud.edge.gate_calibration import to_json
    from edgecloud.errors import DataError
    from edgecloud.experiments.calibration import (
        evaluate,
        examples,
        fit,
        no_better,
        too_little,
        unjudged,
    )
    from edgecloud.results.journal import read
    from edgecloud.results.result_file import write_result

    found = examples(parsed.journals)
    for line in found.repeated:
        print(f"warning: {line}", file=sys.stderr)
    problems = too_little(found)
    if problems and not parsed.force:
        raise DataError(
            "\n  ".join(
                [
                    "too little to fit a gate to; add journals of more recordings "
                    "(--force fits it all the same):",
                    *problems,
                ]
            )
        )
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
    worse = [*no_better(rows), *unjudged(found, rows)]
    if worse and not parsed.force:
        raise DataError(
            "\n  ".join(
                [
                    "on recordings it was not fitted to, this gate is no better than a plain threshold; "
                    "use that, or add journals (--force writes it all the same):",
                    *worse,
                ]
            )
        )
    for line in [*problems, *worse]:
        print(f"warning: {line}", file=sys.stderr)
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
