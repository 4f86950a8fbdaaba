"""``edgecloud gate``: fail when a new run is worse than its baseline."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecloud.errors import ConfigError, EdgeCloudError, OutputError

if TYPE_CHECKING:
    from edgecloud.regression.model import Report
    from edgecloud.regression.tolerances import Policy

__all__ = ["add"]

_POLICY = Path("bench/gate.toml")


def add(commands: Any) -> None:
    """Add ``edgecloud gate`` to ``commands``, the subparsers of the command line."""
    gate = commands.add_parser(
        "gate",
        help="fail when a run is worse than its baseline",
        description="Exit status: 0 as good as the baseline, 1 worse or not comparable, 2 a file is "
        "broken. Files are results, baselines or pytest-benchmark JSON; a folder stands for its *.json.",
    )
    gate.add_argument("baseline", type=Path, metavar="BASELINE")
    gate.add_argument("new", type=Path, metavar="NEW")
    gate.add_argument(
        "--policy",
        type=Path,
        help=f"tolerances, TOML; {_POLICY} where that exists, else built-in values",
    )
    gate.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="WHAT",
        help="let data, models, settings, scorers or hardware differ, or one field: settings.k",
    )
    gate.add_argument(
        "--format",
        choices=("text", "github", "junit", "markdown"),
        default="text",
        help="github: annotations, and a job summary in $GITHUB_STEP_SUMMARY",
    )
    gate.add_argument("--output", type=Path, help="write to this file instead of standard output")
    gate.set_defaults(command=_gate)


def _gate(parsed: argparse.Namespace) -> int:
    from edgecloud.regression.reading import read
    from edgecloud.regression.verdict import judge
    from edgecloud.regression.wording import error_annotation

    try:
        report = judge(
            read(parsed.baseline),
            read(parsed.new),
            _policy(parsed),
            names=(str(parsed.baseline), str(parsed.new)),
        )
        _say(report, parsed)
    except EdgeCloudError as error:
        if parsed.format == "github":
            print(error_annotation(str(error), str(parsed.new)))
        raise
    return 0 if report.passed else 1


def _policy(parsed: argparse.Namespace) -> Policy:
    from edgecloud.regression.model import ASPECTS
    from edgecloud.regression.tolerances import Policy, load_policy

    for entry in parsed.allow:
        if entry.partition(".")[0] not in ASPECTS:
            raise ConfigError(f"--allow {entry}: is none of {', '.join(ASPECTS)}")
    path = parsed.policy or (_POLICY if _POLICY.is_file() else None)
    policy = Policy() if path is None else load_policy(path)
    return replace(policy, allow=(*policy.allow, *parsed.allow))


def _say(report: Report, parsed: argparse.Namespace) -> None:
    from edgecloud.regression import wording

    words = {
        "text": wording.text,
        "github": lambda found: (
            f"{wording.text(found)}\n{wording.github_annotations(found)}".rstrip()
        ),
        "junit": wording.junit,
        "markdown": wording.markdown,
    }[parsed.format](report)
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if parsed.format == "github" and summary:
        _write(Path(summary), wording.markdown(report), append=True)
    if parsed.output is None:
        print(words)
        return
    declaration = '<?xml version="1.0" encoding="utf-8"?>\n' if parsed.format == "junit" else ""
    _write(parsed.output, f"{declaration}{words}\n")
    if not report.passed:
        print(f"{parsed.output}: {len(report.failures)} reasons to fail", file=sys.stderr)


def _write(path: Path, content: str, *, append: bool = False) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a" if append else "w", encoding="utf-8", newline="\n") as handle:
            handle.write(content)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
