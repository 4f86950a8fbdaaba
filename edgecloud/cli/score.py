"""``edgecloud score``: score the captions of any system."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

from edgecloud.errors import ConfigError, DataError
from edgecloud.textfiles import parse_json

__all__ = ["PROGRESS_EVERY_S", "add"]

PROGRESS_EVERY_S: Final = 5.0


def add(commands: Any) -> None:
    """Add ``edgecloud score`` to ``commands``, the subparsers of the command line."""
    score = commands.add_parser("score", help="score captions of any system against references")
    score.add_argument(
        "pairs",
        type=Path,
        metavar="PAIRS.json",
        help='{"pairs": [{"id", "reference" (one or a list), "hypothesis", "language" (zh, en), "attributes" (if known)}]}',
    )
    score.add_argument(
        "-o", "--output", type=Path, metavar="OUT.json", help="corpus and per-pair values; - prints"
    )
    for code, language in (("zh", "Chinese"), ("en", "English")):
        score.add_argument(
            f"--bertscore-model-{code}",
            f"--bertscore_model_{code}",
            dest=f"bertscore_model_{code}",
            metavar="PATH",
            help=f"BERTScore's model for {language}: a folder, or a hub id when online",
        )
    score.add_argument(
        "--bertscore-layers",
        "--bertscore_layers",
        dest="bertscore_layers",
        type=int,
        metavar="N",
        help="layer of the BERTScore model to read",
    )
    score.set_defaults(command=_score)


def _score(parsed: argparse.Namespace) -> int:
    from edgecloud.quality.metrics.bertscore import bertscore_settings
    from edgecloud.quality.pairs import read_pairs, score_pairs
    from edgecloud.results.result_file import write_result

    layers = parsed.bertscore_layers
    if layers is not None and layers < 1:
        raise ConfigError(f"--bertscore-layers {layers}: give a layer from 1 on")
    try:
        pairs = read_pairs(_content(parsed.pairs))
    except DataError as error:
        raise DataError(f"{parsed.pairs}: {error}") from error
    with _progress() as step:
        found = score_pairs(
            pairs,
            bertscore={
                "chinese": bertscore_settings("chinese", parsed.bertscore_model_zh, layers),
                "english": bertscore_settings("english", parsed.bertscore_model_en, layers),
            },
            step=step,
        )
    if str(parsed.output) == "-":
        print(json.dumps(found, ensure_ascii=False, allow_nan=False, indent=1))
        return 0
    _table(found)
    if parsed.output is not None:
        print(f"scores: {write_result(parsed.output, found, flag='-o')}")
    return 0


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Write the stage under way to standard error, every so often for as long as it takes."""
    steps, ended, begun = ["reading"], Event(), time.monotonic()

    def tell() -> None:
        while not ended.wait(PROGRESS_EVERY_S):
            print(f"scoring {steps[-1]}, {time.monotonic() - begun:.0f} s", file=sys.stderr)

    thread = Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield steps.append
    finally:
        ended.set()
        thread.join()


def _content(path: Path) -> Any:
    try:
        return parse_json(path.read_bytes())
    except OSError as error:
        raise DataError(error.strerror or str(error)) from error
    except ValueError as error:
        raise DataError(f"not JSON: {error}") from error


def _table(found: dict[str, Any]) -> None:
    from tabulate import tabulate

    rows = [
        [name, "–" if value is None else f"{value:.6f}", found["info"][name].get("range", "")]
        for name, value in found["corpus"].items()
    ]
    print(tabulate(rows, headers=["score", "corpus", "range"], disable_numparse=True))
    for code, counts in found["defects"].items():
        shown = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
        print(f"{code}: {found['pairs'][code]} pairs; defects: {shown or 'none'}")
    why: dict[str, list[str]] = {}
    for name, note in found["notes"].items():
        why.setdefault(note, []).append(name)
    for note, names in why.items():
        print(f"note: {', '.join(names)}: {note}", file=sys.stderr)
