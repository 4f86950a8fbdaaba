"""Why 4 bits are not twice as fast as 8: what a step reads, and what unpacking costs where nothing has to be read.

    python -m bench.int4_step CHECKPOINT

Products of one token with random matrices of the checkpoint's shape on our own kernels, in 8 and in 4 bits, in turns:
of all layers one after the other, so that memory is read; of one layer again and again, so that it lies in the caches
where they hold it; of the output layer, which is 8 bits in both. One thread, medians of processor milliseconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate

from bench.products import Product
from edgecloud.models.quantized.shapes import group_size
from edgecloud.models.quantized.weights import Matrix

Shapes = Sequence[tuple[int, int]]
"""``(rows, columns)`` of matrices."""


@dataclass(frozen=True)
class Text:
    """The shape of a text model."""

    layer: Shapes
    layers: int
    output: tuple[int, int]

    @classmethod
    def of(cls, folder: Path) -> Text:
        """As config.json says."""
        config: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
        config = config.get("text_config", config)
        heads, hidden = config["num_attention_heads"], config["hidden_size"]
        size, feed = config.get("head_dim") or hidden // heads, config["intermediate_size"]
        return cls(
            (
                ((heads + 2 * config["num_key_value_heads"]) * size, hidden),
                (hidden, heads * size),
                (2 * feed, hidden),
                (hidden, feed),
            ),
            config["num_hidden_layers"],
            (config["vocab_size"], hidden),
        )


def products(shapes: Shapes, bits: int) -> tuple[Callable[[], None], int]:
    """All products with one token, and the bytes of their weights and scales."""
    draw = np.random.default_rng(0)
    made, size = [], 0
    for rows, columns in shapes:
        values = draw.integers(0, 256, (rows, columns * bits // 8), dtype=np.uint8)
        scales = np.full((rows, columns // group_size(columns, bits)), 1e-3, np.float32)
        made.append(
            (Product(Matrix(values.view(np.int8) if bits == 8 else values, scales, bits)), columns)
        )
        size += values.nbytes + scales.nbytes
    tokens = {columns: torch.randn(1, columns) for _, columns in shapes}

    def run() -> None:
        for product, columns in made:
            product(tokens[columns])

    return run, size


def timed(runs: Sequence[Callable[[], None]], repeat: int, turns: int) -> list[float]:
    """Medians of processor milliseconds of each, in turns."""
    spent: list[list[float]] = [[] for _ in runs]
    for turn in range(turns + 1):
        for run, readings in zip(runs, spent, strict=True):
            began_s = time.process_time()
            for _ in range(repeat):
                run()
            if turn:
                readings.append((time.process_time() - began_s) / repeat * 1e3)
    return [statistics.median(readings) for readings in spent]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--turns", type=int, default=15)
    given = parser.parse_args()
    torch.set_num_threads(1)
    text = Text.of(given.checkpoint)
    rows = []
    for what, shapes, all_bits, repeat in (
        ("all layers", [*text.layer] * text.layers, (8, 4), 1),
        ("one layer, again and again", text.layer, (8, 4), 20),
        ("output layer", [text.output], (8,), 1),
    ):
        made = [products(shapes, bits) for bits in all_bits]
        found = timed([run for run, _ in made], repeat, given.turns)
        rows += [
            [what, bits, f"{size / 1e6:.1f}", f"{ms:.2f}", f"{size / ms / 1e6:.1f}"]
            for bits, (_, size), ms in zip(all_bits, made, found, strict=True)
        ]
    heads = ["products of one token", "bits", "MB", "CPU ms", "GB/s"]
    told = tabulate(rows, headers=heads, tablefmt="github", disable_numparse=True)
    sys.stdout.write(f"{told}\n")


if __name__ == "__main__":
    main()
