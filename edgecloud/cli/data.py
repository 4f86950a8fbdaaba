"""``edgecloud data``: converters to the unified manifest."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgecloud.datasets.converters import CONVERTERS
from edgecloud.errors import ConfigError
from edgecloud.registry import guarded

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add ``edgecloud data`` and its converters to ``commands``, the subparsers of the command line."""
    data = commands.add_parser("data", help="datasets").add_subparsers(
        required=True, metavar="DATASET"
    )
    for part in CONVERTERS.parts():
        convert = data.add_parser(part.name, help=part.summary, description=part.summary)
        convert.add_argument("src", type=Path, metavar="SRC", help="what was downloaded")
        convert.add_argument("dest", type=Path, metavar="DEST", help="folder to write")
        convert.set_defaults(command=_convert, converter=part.name)
    synthetic = data.add_parser(
        "synthetic",
        help="speak a split of the embedded corpus's kind again (extra: build), with manifests",
    )
    synthetic.add_argument(
        "split", choices=("dev", "test", "unseen"), help="test is the embedded corpus itself"
    )
    synthetic.add_argument("dest", type=Path, metavar="DEST", help="folder to write")
    synthetic.add_argument(
        "--clips", type=int, default=192, metavar="N", help="recordings, from the first on (192)"
    )
    synthetic.set_defaults(command=_synthetic)


def _convert(parsed: argparse.Namespace) -> int:
    from edgecloud.results.audio_notes import sentence

    def progress(done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{done}/{total} recordings", end="", file=sys.stderr, flush=True)

    found: list[dict[str, Any]] = []

    def noted(file_id: str, notes: Mapping[str, str]) -> None:
        found.append({"audio_notes": notes})
        for note in notes.values():
            print(f"edgecloud: {file_id}: note: {note}", file=sys.stderr)

    part = CONVERTERS.part(parsed.converter)
    count = guarded(part, part.object)(parsed.src, parsed.dest, progress=progress, noted=noted)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    if (said := sentence([*found, *({} for _ in range(count - len(found)))])) is not None:
        print(f"edgecloud: note: {said}", file=sys.stderr)
    print(f"{count} samples: {parsed.dest / 'manifest.json'}")
    return 0


def _synthetic(parsed: argparse.Namespace) -> int:
    from edgecloud.embedded.factory.manifests import synthesize_split
    from edgecloud.textfiles import json_files

    if parsed.clips < 1:
        raise ConfigError(f"--clips {parsed.clips}: give a number from 1 on")
    synthesize_split(parsed.split, parsed.dest, clips=parsed.clips)
    for path in json_files(parsed.dest):
        if path.name != "attributes.json":
            print(f"{parsed.clips} samples: {path}")
    return 0
