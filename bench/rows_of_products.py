"""What products of a few rows cost at the 1.5B's shapes, by who multiplies: one row is a step of decoding, four to
eight are a verification.

    python -m bench.rows_of_products [--layers 4]

One thread, processor time, all engines in turns, medians. Weights are random; each engine has those of so many
layers of Qwen2.5-1.5B, more than any cache holds, and goes through them once in a reading.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from tabulate import tabulate
from torch import Tensor

from bench.products import Product, dynamic
from edgecloud.models.quantized.weights import quantize

Shapes = tuple[tuple[int, int], ...]
SHAPES: Shapes = ((2048, 1536), (1536, 1536), (17920, 1536), (1536, 8960))
"""Outputs and inputs of a layer's products: queries, keys and values; the way out; gate and up; down."""
COUNTS = (1, 2, 4, 5, 6, 8)
Engine = Callable[[Tensor], object]
"""One product with all matrices of one shape: rows in, ``(n, inputs) float32``."""
VOCABULARY = (151936, 1536)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", help="engines whose names hold this")
    parser.add_argument(
        "--vocabulary", action="store_true", help="the output layer's product alone"
    )
    given = parser.parse_args()
    shapes, layers = ((VOCABULARY,), 1) if given.vocabulary else (SHAPES, given.layers)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = [
        [name, f"{size:g}", *_told(size, times, shapes, layers)]
        for name, size, times in _measured(shapes, layers, given.rounds, given.only or "")
    ]
    heads = [f"{count} rows" for count in COUNTS[1:]]
    told = tabulate(
        rows,
        headers=["engine", "bytes a weight", "1 row, ms", *heads, "GB/s, 1 row"],
        tablefmt="github",
        disable_numparse=True,
    )
    sys.stdout.write(f"{told}\n")


def _told(size: float, times: dict[int, float], shapes: Shapes, layers: int) -> list[str]:
    """One row's milliseconds, the others over it, and the rate at which one row reads the weights."""
    one_s = times[COUNTS[0]]
    read = size * layers * sum(rows * columns for rows, columns in shapes)
    ratios = [f"{times[count] / one_s:.2f}" for count in COUNTS[1:]]
    return [f"{1e3 * one_s:.1f}", *ratios, f"{read / 1e9 / one_s:.1f}"]


def _measured(
    shapes: Shapes, layers: int, rounds: int, only: str
) -> list[tuple[str, float, dict[int, float]]]:
    """Of each engine its bytes a weight, and its seconds by number of rows."""
    matrices = {shape: [torch.randn(shape) / 40 for _ in range(layers)] for shape in shapes}
    engines: dict[str, tuple[float, dict[tuple[int, int], Engine]]] = {}
    for name, (size, make) in _MAKERS.items():
        if only not in name:
            continue
        try:
            engines[name] = size, {shape: make(of) for shape, of in matrices.items()}
        except (ImportError, RuntimeError, NotImplementedError) as error:
            sys.stderr.write(f"{name}: {str(error).splitlines()[0]}\n")
    readings: dict[tuple[str, int], list[float]] = {}
    with torch.inference_mode():
        for turn in range(rounds + 1):
            for count in COUNTS:
                inputs = {shape: torch.randn(count, shape[1]) for shape in shapes}
                for name, (_, by_shape) in engines.items():
                    began_s = time.process_time()
                    for shape in shapes:
                        by_shape[shape](inputs[shape])
                    if turn:
                        taken_s = time.process_time() - began_s
                        readings.setdefault((name, count), []).append(taken_s)
    return [
        (name, size, {count: statistics.median(readings[name, count]) for count in COUNTS})
        for name, (size, _) in engines.items()
    ]


def _float32(matrices: list[Tensor]) -> Engine:
    return lambda rows: [torch.nn.functional.linear(rows, matrix) for matrix in matrices]


def _padded(matrices: list[Tensor]) -> Engine:
    """Never fewer than two rows: another kernel may be chosen."""

    def run(rows: Tensor) -> object:
        more = rows if len(rows) > 1 else torch.cat((rows, rows))
        return [torch.mm(matrix, more.T) for matrix in matrices]

    return run


def _bfloat16(matrices: list[Tensor]) -> Engine:
    own = [matrix.bfloat16() for matrix in matrices]
    return lambda rows: [torch.nn.functional.linear(rows.bfloat16(), matrix) for matrix in own]


def _packed(dtype: torch.dtype) -> Callable[[list[Tensor]], Engine]:
    """oneDNN's own order of weights."""

    def make(matrices: list[Tensor]) -> Engine:
        ops: Any = torch.ops.mkldnn
        own = [ops._reorder_linear_weight(matrix.to(dtype), 8) for matrix in matrices]
        return lambda rows: [
            ops._linear_pointwise(rows.to(dtype), matrix, None, "none", [], "") for matrix in own
        ]

    return make


def _dynamic(matrices: list[Tensor]) -> Engine:
    """Torch's dynamic quantisation: int8 weights, activations in 8 bits as they come."""
    layers = []
    for matrix in matrices:
        linear = torch.nn.Linear(matrix.shape[1], matrix.shape[0], bias=False)
        linear.weight = torch.nn.Parameter(matrix)
        layers.append(dynamic(linear))
    return lambda rows: [layer(rows) for layer in layers]


def _weight_only(matrices: list[Tensor]) -> Engine:
    """The kernel behind torchao's int8 weight-only form on a CPU."""
    own = []
    for matrix in matrices:
        scales = matrix.abs().amax(1) / 127
        own.append(((matrix / scales[:, None]).round().to(torch.int8), scales.bfloat16()))
    return lambda rows: [torch._weight_int8pack_mm(rows.bfloat16(), *each) for each in own]


def _openvino(bits: str, group: int) -> Callable[[list[Tensor]], Engine]:
    """OpenVINO: int8 weights with a scale a row; activations in 8 bits in groups, or in float32 (0)."""

    def make(matrices: list[Tensor]) -> Engine:
        import openvino as ov
        from openvino import opset13 as op

        runs = []
        for matrix in matrices:
            given = op.parameter([-1, matrix.shape[1]], np.float32)
            if bits == "f32":
                held = op.constant(matrix.numpy())
            else:
                scales = (matrix.abs().amax(1, keepdim=True) / 127).numpy()
                rounded = np.round(matrix.numpy() / scales).astype(np.int8)
                held = op.multiply(
                    op.convert(op.constant(rounded), np.float32), op.constant(scales)
                )
            found = op.matmul(given, held, False, True)
            settings = {
                "INFERENCE_NUM_THREADS": 1,
                "DYNAMIC_QUANTIZATION_GROUP_SIZE": group,
                "INFERENCE_PRECISION_HINT": "f32",
                "PERFORMANCE_HINT": "LATENCY",
                "ENABLE_CPU_PINNING": False,
            }
            compiled = ov.Core().compile_model(ov.Model([found], [given]), "CPU", settings)
            runs.append(compiled.create_infer_request())
        return lambda rows: [run.infer([rows.numpy()], share_inputs=True) for run in runs]

    return make


def _own(bits: int) -> Callable[[list[Tensor]], Engine]:
    """Our own kernels: weights with a scale a row (4 bits: for 128 of it), activations rounded as
    :func:`edgecloud.models.quantized.own.parts.quantize` does it, in groups of 128."""

    def make(matrices: list[Tensor]) -> Engine:
        products = [Product(quantize(matrix.numpy(), bits)) for matrix in matrices]
        return lambda rows: [product(rows) for product in products]

    return make


_MAKERS: dict[str, tuple[float, Callable[[list[Tensor]], Engine]]] = {
    "torch float32": (4, _float32),
    "torch float32, matrix first": (4, _padded),
    "torch bfloat16": (2, _bfloat16),
    "oneDNN float32, packed": (4, _packed(torch.float32)),
    "oneDNN bfloat16, packed": (2, _packed(torch.bfloat16)),
    "torch dynamic int8": (1, _dynamic),
    "torch int8 weights, bfloat16": (1, _weight_only),
    "OpenVINO float32": (4, _openvino("f32", 0)),
    "OpenVINO int8, float32 activations": (1, _openvino("i8", 0)),
    "OpenVINO int8, groups of 128": (1, _openvino("i8", 128)),
    "our own int8, groups of 128": (1, _own(8)),
    "our own int4, groups of 128": (0.5, _own(4)),
}


if __name__ == "__main__":
    main()
