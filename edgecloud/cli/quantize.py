"""``edgecloud quantize``: a checkpoint in 8 or 4 bits, or what quantisation costs it."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecloud.ending import end_on_sigterm
from edgecloud.errors import ModelError

if TYPE_CHECKING:
    from edgecloud.experiments.quantization import Row
    from edgecloud.results.statistics import Interval

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add ``edgecloud quantize`` to ``commands``, the subparsers of the command line."""
    quantize = commands.add_parser("quantize", help="convert a model to 8 or 4 bits")
    quantize.add_argument(
        "checkpoint",
        nargs="?",
        metavar="CHECKPOINT",
        help="a checkpoint; the embedded edge when not given",
    )
    quantize.add_argument("--bits", type=int, choices=(8, 4), default=8, help="8 when not given")
    quantize.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FOLDER",
        help="a checkpoint folder of its own, for --edge-model; the cache when not given",
    )
    quantize.add_argument(
        "--evaluate",
        action="store_true",
        help="caption the embedded corpus in both languages in every precision, and compare",
    )
    quantize.add_argument(
        "--max-samples", type=int, metavar="N", help="with --evaluate: samples a language"
    )
    quantize.add_argument(
        "--entropy-threshold",
        type=float,
        metavar="NATS",
        help="with --evaluate: the float32 threshold that the others are matched to",
    )
    quantize.add_argument(
        "--json", type=Path, metavar="OUT.json", help="with --evaluate: write the numbers here"
    )
    quantize.add_argument(
        "--list", action="store_true", help="what the cache of converted weights holds"
    )
    quantize.add_argument(
        "--prune",
        nargs="?",
        type=_days,
        const=math.inf,
        metavar="DAYS",
        help="remove what no run can use any more, and with DAYS what was not used for so long",
    )
    quantize.set_defaults(command=_quantize)


def _quantize(parsed: argparse.Namespace) -> int:
    from edgecloud.models.quantized.cache import sweep

    end_on_sigterm()
    if parsed.prune is not None:
        return _prune(parsed.prune)  # it sweeps too, and says what went
    sweep()
    if parsed.list:
        return _list()
    if parsed.evaluate:
        return _evaluate(parsed)
    from edgecloud.experiments.system import model_of
    from edgecloud.models.checkpoint import Checkpoint
    from edgecloud.models.precision import check_precision
    from edgecloud.models.quantized.convert import cached, convert

    checkpoint = Checkpoint.open(model_of(parsed.checkpoint, "edge")[1])
    if checkpoint.quantized is None:  # what it says of one that is fits here as well
        check_precision(checkpoint, device="cpu", dtype="auto", quantization=f"int{parsed.bits}")
    if parsed.output is None:
        folder = cached(checkpoint, parsed.bits)
    else:
        folder = parsed.output
        convert(checkpoint, folder, bits=parsed.bits)
    before = sum(shard.stat().st_size for shard in checkpoint.shards)
    after = (folder / "model.safetensors").stat().st_size
    print(f"{folder}: {after / 1e6:.1f} MB, from a checkpoint of {before / 1e6:.1f} MB")
    return 0


def _list() -> int:
    from tabulate import tabulate

    from edgecloud.models.quantized.cache import kept, root

    found = kept()
    if found:
        rows = [
            [
                f"int{one.bits}" if one.whole else "unfinished",
                f"{one.nbytes / 1e9:.2f} GB",
                f"{one.unused_days:.1f}",
                one.source or "not known",
                one.folder.name,
            ]
            for one in found
        ]
        headers = ["bits", "size", "days unused", "checkpoint", "folder"]
        print(tabulate(rows, headers=headers, disable_numparse=True))
    total = sum(one.nbytes for one in found) / 1e9
    print(f"{root()}: {len(found)} conversion{'' if len(found) == 1 else 's'}, {total:.2f} GB")
    return 0


def _prune(days: float) -> int:
    from edgecloud.models.identity import forget_lost
    from edgecloud.models.quantized.cache import Kept, prune, sweep

    def current(found: Kept) -> bool:
        from edgecloud.models.checkpoint import Checkpoint

        try:
            return Checkpoint.open(found.source or "").fingerprint() == found.source_sha256
        except ModelError:
            return False

    removed = prune(unused_days=None if math.isinf(days) else days, current=current)
    for one, reason in removed:
        print(f"removed {one.folder.name}, {one.nbytes / 1e9:.2f} GB: {reason}")
    sweep()
    total = sum(one.nbytes for one, _ in removed) / 1e9
    print(f"{len(removed)} removed, {total:.2f} GB; {forget_lost()} identities forgotten")
    return 0


def _days(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError("a number of days, 0 or more")
    return value


def _evaluate(parsed: argparse.Namespace) -> int:
    from edgecloud.experiments.quantization import evaluate
    from edgecloud.settings.config import resolve

    rows: list[Row] = []
    for language in ("chinese", "english"):
        config = resolve(
            {
                "language": language,
                "edge_model": parsed.checkpoint,
                "max_samples": parsed.max_samples,
                "entropy_threshold": parsed.entropy_threshold,
            }
        )
        print(f"edgecloud: {language}", file=sys.stderr)
        rows += evaluate(config)
    print(_table(rows))
    if parsed.json is not None:
        from edgecloud.results.result_file import write_result

        # Spelled as in files that are there already.
        spelled = {"quantization": "quantisation"}
        found = [
            {spelled.get(key, key): value for key, value in asdict(row).items()} for row in rows
        ]
        write_result(parsed.json, {"quantisations": found}, flag="--json")
    return 0


def _table(rows: list[Row]) -> str:
    from tabulate import tabulate

    columns: dict[str, Callable[[Row], str]] = {
        "": lambda row: f"{row.language} {row.quantization}",
        "logit error": lambda row: f"{row.logit_error:.4f}",
        "equal tokens": lambda row: f"{row.equal_tokens:.1%}",
        "equal captions": lambda row: f"{row.equal_captions:.0%}",
        "CIDEr": lambda row: f"{row.cider:.3f}",
        "− float32": lambda row: _interval(row.cider_difference),
        "emotion": lambda row: f"{row.emotion_accuracy:.1%}",
        "− float32 ": lambda row: _interval(row.emotion_difference),
        "entropy shift, nats": lambda row: _interval(row.entropy_shift),
        "call rate": lambda row: f"{row.call_rate:.1%}",
        "threshold of equal rate": lambda row: f"{row.threshold:.3f}",
    }
    cells = [[value(row) for value in columns.values()] for row in rows]
    return tabulate(cells, headers=list(columns), disable_numparse=True)


def _interval(found: Interval) -> str:
    if found.low is None or found.high is None or found.estimate is None:
        return "–"
    return f"{found.estimate:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
