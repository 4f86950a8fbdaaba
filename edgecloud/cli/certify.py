"""``edgecloud certify``: the threshold of a gate that keeps a risk with a confidence."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from edgecloud.cli.settings_of import print_progress, settings_over
from edgecloud.settings.options import add_options

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add ``edgecloud certify`` to ``commands``, the subparsers of the command line."""
    certify = commands.add_parser(
        "certify",
        help="choose the threshold of a gate that keeps the loss against the cloud at most at a risk, with a confidence",
        usage="edgecloud certify MANIFEST [--risk R] [--confidence C] [--loss L] [SETTINGS] -o CERTIFIED.json",
        description="Decodes a calibration manifest by the cloud alone and with the gate at several thresholds, and takes "
        "the one that asks the cloud least among those that keep the mean loss at the risk (learn then test). The file "
        "is a calibration like those of `edgecloud calibrate` with the statement in it: a run with --calibration "
        "CERTIFIED.json, the same models and the same settings shows it, and says where its data are of another kind. "
        "Status 1: no threshold was found to keep the risk, and the file says so (docs/certificate.md).",
    )
    certify.add_argument(
        "manifest", metavar="MANIFEST", help="samples drawn at random from data like those to come"
    )
    certify.add_argument(
        "--risk", type=float, default=0.02, metavar="R", help="most of the mean loss (0.02)"
    )
    certify.add_argument(
        "--confidence",
        type=float,
        default=0.95,
        metavar="C",
        help="share of calibration sets for which the statement is to be true (0.95)",
    )
    certify.add_argument(
        "--loss",
        choices=("attributes", "tokens", "cider"),
        default="attributes",
        help="attributes that the cloud has right and the caption has not (the manifest says what is true); tokens "
        "that do not match the cloud's; CIDEr lost, divided by 10",
    )
    certify.add_argument(
        "--thresholds",
        metavar="T,T,…",
        help="thresholds to test; fix them before you have seen these samples (a dozen over the gate's range)",
    )
    certify.add_argument(
        "--document-frequencies",
        type=Path,
        metavar="MANIFEST",
        help="--loss cider: other samples, over whose references n-grams are counted (the embedded corpus's)",
    )
    certify.add_argument("-o", "--output", type=Path, required=True, metavar="CERTIFIED.json")
    add_options(certify.add_argument)
    certify.set_defaults(command=_certify)


def _certify(parsed: argparse.Namespace) -> int:
    from edgecloud.experiments.certify import certify, check
    from edgecloud.results.result_file import write_result

    asked = check(
        settings_over(parsed, "certify"),
        loss=parsed.loss,
        risk=parsed.risk,
        confidence=parsed.confidence,
        thresholds=parsed.thresholds,
        document_frequencies=parsed.document_frequencies,
    )
    found = certify(asked, parsed.output.with_suffix(".certify"), told=print_progress)
    certificate = found["certificate"]
    _show(certificate)
    print(f"calibration: {write_result(parsed.output, found, flag='-o')}")
    if certificate["threshold"] is None:
        return 1
    flag = asked.option.replace("_", "-")
    print(
        f"use it with the same settings and --calibration {parsed.output} --{flag} {certificate['threshold']:g}"
    )
    return 0


def _show(certificate: dict[str, Any]) -> None:
    """What was tested, in order, what came of it, and the statement."""
    from tabulate import tabulate

    kept = [row["p_value"] <= 1 - certificate["confidence"] for row in certificate["tested"]]
    tested = kept.index(False) + 1 if False in kept else len(kept)
    rows = [
        [
            f"{row['threshold']:g}",
            f"{row['mean_loss']:.4f}",
            f"{row['p_value']:.3g}",
            f"{row['mean_calls']:.2f}",
            "not asked" if place >= tested else "yes" if kept[place] else "not shown",
        ]
        for place, row in enumerate(certificate["tested"])
    ]
    heads = ["threshold", f"mean {certificate['loss']} loss", "p", "calls a caption"]
    heads.append(f"at most {certificate['risk']:g}?")
    print(tabulate(rows, headers=heads, disable_numparse=True))
    print(certificate["statement"])
