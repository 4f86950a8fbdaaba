"""The engine: its import, its settings, and the few operations from which the graphs are built."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgecloud.errors import ModelError

try:
    import openvino as ov
    from openvino import opset15 as op
except ImportError as error:
    raise ModelError(
        "--edge-quantization int8 and int4 need OpenVINO; install the extra: "
        "pip install 'edgecloud[openvino]'"
    ) from error

from edgecloud.models.quantized.shapes import GROUP
from edgecloud.models.quantized.weights import Matrix

__all__ = ["VERSION", "compiled", "ints", "linear", "number", "op", "ov", "parameter", "result"]

VERSION: str = ov.__version__.split("-")[0]


def compiled(model: Any) -> Any:
    """``model`` for this CPU, on as many threads as torch has: the cap of cores sets those.

    Activations are quantised in groups as they come; everything else, the cache of keys and values
    included, stays in float32, or a sequence that was rolled back would not be the one it was. Threads are not
    pinned, so that they stay on the cores that the process was given.
    """
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": "f32",
        "KV_CACHE_PRECISION": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": GROUP,
    }
    try:
        return ov.Core().compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise ModelError(
            f"OpenVINO {VERSION} cannot compile the model: {' '.join(str(error).split())[:300]}"
        ) from error


def parameter(name: str, shape: list[int], kind: type[np.generic] = np.float32) -> Any:
    """A named input; -1 is any size."""
    node = op.parameter(shape, kind)
    node.output(0).set_names({name})
    return node


def result(node: Any, name: str) -> Any:
    """A named output."""
    found = op.result(node)
    found.output(0).set_names({name})
    return found


def ints(*values: int) -> Any:
    """A constant of the graph, int64 ``(len(values),)``."""
    return op.constant(np.array(values, np.int64))


def number(value: float) -> Any:
    """A scalar constant of the graph, float32."""
    return op.constant(np.float32(value))


def linear(x: Any, matrix: Matrix, bias: NDArray[np.float32] | None = None) -> Any:
    """``x (…, columns)`` times the transposed matrix, plus ``bias (rows,)``.

    Written the way the engine recognises as compressed weights. The matrix's memory is shared: it has
    to live as long as the model that is built.
    """
    rows, columns = matrix.shape
    groups = matrix.scales.shape[1]
    shape = [rows, columns] if groups == 1 else [rows, groups, columns // groups]
    kind = ov.Type.i4 if matrix.bits == 4 else ov.Type.i8
    values = op.constant(ov.Tensor(matrix.values, ov.Shape(shape), kind))
    scales = matrix.scales if groups == 1 else matrix.scales[:, :, None]
    weights = op.multiply(op.convert(values, ov.Type.f32), op.constant(np.array(scales)))
    if groups > 1:
        weights = op.reshape(weights, ints(rows, columns), special_zero=False)
    product = op.matmul(x, weights, transpose_a=False, transpose_b=True)
    return product if bias is None else op.add(product, op.constant(np.array(bias)))
