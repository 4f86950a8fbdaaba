"""The text model's graph.

The cache comes in as inputs and what is new goes out, so that a sequence is cut back by giving less.
Inputs: ``embedded (1, n, hidden)``; ``cos`` and ``sin (1, n, 1, head dim)`` of the new positions;
``mask (1, 1, n, past + n)``, added to the attention scores; ``wanted (1,)``, of how many tokens, from
the last on, logits are asked; ``keys.i`` and ``values.i (1, past, kv heads, head dim)`` of layer ``i``.
Outputs: ``logits (1, wanted, vocabulary)``, then ``new_keys.i`` and ``new_values.i`` of the ``n``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecloud.models.quantized.openvino.runtime import (
    ints,
    linear,
    number,
    op,
    ov,
    parameter,
    result,
)
from edgecloud.models.quantized.shapes import TextShape
from edgecloud.models.quantized.weights import Weights

__all__ = ["text_model"]


def text_model(shape: TextShape, weights: Weights) -> Any:
    """The graph, on the memory of ``weights``."""
    embedded = parameter("embedded", [1, -1, shape.hidden])
    cos, sin = (parameter(name, [1, -1, 1, shape.head_dim]) for name in ("cos", "sin"))
    mask = parameter("mask", [1, 1, -1, -1])
    wanted = parameter("wanted", [1], np.int64)
    inputs, outputs = [embedded, cos, sin, mask, wanted], []
    hidden = embedded
    for index in range(shape.layers):
        name = f"layers.{index}"
        normed = _rms_norm(hidden, weights.vector(f"{name}.attention_norm"), shape.epsilon)
        queries, keys, values = _projected(shape, weights, name, normed)
        if shape.head_norms:
            queries, keys = (
                _rms_norm(rows, weights.vector(f"{name}.{norm}"), shape.epsilon)
                for rows, norm in ((queries, "q_norm"), (keys, "k_norm"))
            )
        queries, keys = (_rotated(rows, cos, sin, shape.head_dim) for rows in (queries, keys))
        past_shape = [1, -1, shape.kv_heads, shape.head_dim]
        past = [parameter(f"{what}.{index}", past_shape) for what in ("keys", "values")]
        inputs += past
        outputs += [result(keys, f"new_keys.{index}"), result(values, f"new_values.{index}")]
        keys, values = (op.concat(list(pair), 1) for pair in zip(past, (keys, values), strict=True))
        mixed = _attention(shape, queries, keys, values, mask)
        hidden = op.add(hidden, linear(mixed, weights.matrix(f"{name}.out")))
        normed = _rms_norm(hidden, weights.vector(f"{name}.mlp_norm"), shape.epsilon)
        gate, up = _split(linear(normed, weights.matrix(f"{name}.gate_up")), 2)
        mixed = op.multiply(op.swish(gate), up)
        hidden = op.add(hidden, linear(mixed, weights.matrix(f"{name}.down")))
    last = op.slice(hidden, op.negative(wanted), ints(2**31 - 1), ints(1), ints(1))
    normed = _rms_norm(last, weights.vector("norm"), shape.epsilon)
    logits = result(linear(normed, weights.matrix("head")), "logits")
    return ov.Model([logits, *outputs], inputs, "text")


def _rms_norm(x: Any, weight: NDArray[np.float32], epsilon: float) -> Any:
    mean = op.reduce_mean(op.power(x, number(2)), ints(-1), keep_dims=True)
    scale = op.divide(number(1), op.sqrt(op.add(mean, number(epsilon))))
    return op.multiply(op.constant(np.array(weight)), op.multiply(x, scale))


def _projected(shape: TextShape, weights: Weights, name: str, normed: Any) -> list[Any]:
    """Queries, keys and values, ``(1, n, their heads, head dim)``."""
    together = linear(normed, weights.matrix(f"{name}.qkv"), weights.vector(f"{name}.qkv.bias"))
    heads = (shape.heads, shape.kv_heads, shape.kv_heads)
    sizes = ints(*(count * shape.head_dim for count in heads))
    parts = op.variadic_split(together, ints(2), sizes).outputs()
    return [
        op.reshape(part, ints(0, 0, count, shape.head_dim), special_zero=True)
        for part, count in zip(parts, heads, strict=True)
    ]


def _rotated(rows: Any, cos: Any, sin: Any, head_dim: int) -> Any:
    """Rotary positions on ``(1, n, heads, head dim)``."""
    first, second = _split(rows, 3)
    swapped = op.concat([op.multiply(second, number(-1)), first], 3)
    return op.add(op.multiply(rows, cos), op.multiply(swapped, sin))


def _split(x: Any, axis: int) -> list[Any]:
    """The two halves of ``x`` along ``axis``."""
    return list(op.split(x, op.constant(np.int64(axis)), 2).outputs())


def _attention(shape: TextShape, queries: Any, keys: Any, values: Any, mask: Any) -> Any:
    """``(1, n, heads * head dim)``. The heads that share keys are rows of one product, so that keys
    and values are never repeated."""
    count = op.gather(op.shape_of(mask), ints(2), op.constant(np.int64(0)))
    shared = shape.heads // shape.kv_heads
    by_head = op.transpose(queries, ints(0, 2, 1, 3))
    rows = op.reshape(by_head, ints(1, shape.kv_heads, -1, shape.head_dim), special_zero=False)
    keys, values = (op.transpose(x, ints(0, 2, 1, 3)) for x in (keys, values))
    scores = op.matmul(
        op.multiply(rows, number(shape.head_dim**-0.5)), keys, transpose_a=False, transpose_b=True
    )
    apart = op.concat([ints(shape.kv_heads, shared), count, ints(-1)], 0)
    masked = op.add(op.reshape(scores, apart, special_zero=False), mask)
    shares = op.reshape(op.softmax(masked, -1), op.shape_of(scores), special_zero=False)
    mixed = op.matmul(shares, values, transpose_a=False, transpose_b=False)
    by_head = op.reshape(
        mixed, op.concat([ints(1, shape.heads), count, ints(shape.head_dim)], 0), special_zero=False
    )
    together = ints(0, 0, shape.heads * shape.head_dim)
    return op.reshape(op.transpose(by_head, ints(0, 2, 1, 3)), together, special_zero=True)
