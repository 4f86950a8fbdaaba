"""Why 4 bits are not twice as fast as 8: what a step reads, and what unpacking costs where nothing has to be read.

    python -m bench.int4_step CHECKPOINT

Products of one token with random matrices of the checkpoint's shape, by OpenVINO, in 8 and in 4 bits, in turns: of all
layers one after the other, so that memory is read; of one layer again and again, so that it lies in the caches; of the
output layer, which is 8 bits in both. Medians of wall and CPU milliseconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate

from edgecloud.models.quantized.openvino.runtime import (
    compiled,
    ints,
    linear,
    op,
    ov,
    parameter,
    result,
)
from edgecloud.models.quantized.shapes import group_size
from edgecloud.models.quantized.weights import Matrix

TURNS = 15


@dataclass(frozen=True)
class Text:
    """The shape of a text model."""

    hidden: int
    feed_forward: int
    projected: int
    attended: int
    layers: int
    vocabulary: int

    @classmethod
    def of(cls, folder: Path) -> Text:
        """As config.json says."""
        config: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
        config = config.get("text_config", config)
        heads, hidden = config["num_attention_heads"], config["hidden_size"]
        size = config.get("head_dim") or hidden // heads
        return cls(
            hidden,
            config["intermediate_size"],
            (heads + 2 * config["num_key_value_heads"]) * size,
            heads * size,
            config["num_hidden_layers"],
            config["vocab_size"],
        )

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """``(rows, columns)`` of a layer's matrices."""
        return (
            (self.projected, self.hidden),
            (self.hidden, self.attended),
            (2 * self.feed_forward, self.hidden),
            (self.hidden, self.feed_forward),
        )


def matrix(shape: tuple[int, int], bits: int, draw: np.random.Generator) -> Matrix:
    """A random one."""
    rows, columns = shape
    stored = columns * bits // 8
    values = draw.integers(0, 256, (rows, stored), dtype=np.uint8)
    groups = columns // group_size(columns, bits)
    scales = np.full((rows, groups), 1e-3, np.float32)
    return Matrix(values.view(np.int8) if bits == 8 else values, scales, bits)


def read_bytes(matrices: list[Matrix]) -> int:
    """Bytes of weights and scales."""
    return sum(each.values.nbytes + each.scales.nbytes for each in matrices)


def layers_graph(text: Text, bits: int, count: int) -> tuple[Callable[[], Any], int]:
    """The products of ``count`` layers with one token, and the bytes of their weights."""
    draw = np.random.default_rng(0)
    x = parameter("x", [1, text.hidden])
    state, used = x, []
    for _ in range(count):
        own = [matrix(shape, bits, draw) for shape in text.shapes]
        used += own
        attended = _first(linear(state, own[0]), text.attended)
        state = op.add(state, linear(attended, own[1]))
        state = op.add(state, linear(_first(linear(state, own[2]), text.feed_forward), own[3]))
    return _runner(state, x, text.hidden, used), read_bytes(used)


def output_graph(text: Text) -> tuple[Callable[[], Any], int]:
    """The product of the output layer."""
    own = matrix((text.vocabulary, text.hidden), 8, np.random.default_rng(0))
    x = parameter("x", [1, text.hidden])
    return _runner(linear(x, own), x, text.hidden, [own]), read_bytes([own])


def _first(rows: Any, count: int) -> Any:
    return op.slice(rows, ints(0), ints(count), ints(1), ints(1))


def _runner(node: Any, x: Any, width: int, used: list[Matrix]) -> Callable[[], Any]:
    request = compiled(ov.Model([result(node, "y")], [x])).create_infer_request()
    token = np.full((1, width), 1e-3, np.float32)

    def run(kept: list[Matrix] = used) -> None:
        request.infer([token])

    return run


def timed(runs: dict[str, Callable[[], Any]], repeat: int) -> dict[str, tuple[float, float]]:
    """Medians of wall and CPU milliseconds of each, in turns."""
    wall: dict[str, list[float]] = {name: [] for name in runs}
    cpu: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(TURNS + 2):
        for name, run in runs.items():
            began, spent = time.perf_counter(), time.process_time()
            for _ in range(repeat):
                run()
            if turn >= 2:
                wall[name].append((time.perf_counter() - began) / repeat * 1e3)
                cpu[name].append((time.process_time() - spent) / repeat * 1e3)
    return {name: (statistics.median(wall[name]), statistics.median(cpu[name])) for name in runs}


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parsed = parser.parse_args()
    torch.set_num_threads(parsed.threads)
    text = Text.of(parsed.checkpoint)
    rows = []
    for what, count, repeat in (
        ("all layers", text.layers, 1),
        ("one layer, in the caches", 1, 50),
    ):
        built = {f"int{bits}": layers_graph(text, bits, count) for bits in (8, 4)}
        found = timed({name: run for name, (run, _) in built.items()}, repeat)
        rows += [_row(what, name, built[name][1], *found[name]) for name in built]
    run, size = output_graph(text)
    rows.append(_row("output layer", "int8 in both", size, *timed({"": run}, 1)[""]))
    heads = ["products", "weights", "MB", "wall ms", "CPU ms", "GB/s"]
    print(tabulate(rows, headers=heads, disable_numparse=True))  # noqa: T201
    return 0


def _row(what: str, name: str, size: int, wall_ms: float, cpu_ms: float) -> list[str]:
    rate = f"{size / wall_ms / 1e6:.1f}"
    return [what, name, f"{size / 1e6:.1f}", f"{wall_ms:.2f}", f"{cpu_ms:.2f}", rate]


if __name__ == "__main__":
    raise SystemExit(main())
