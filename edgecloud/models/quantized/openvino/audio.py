"""The audio tower's graph.

The family splits a recording into windows of ``2 * n_window`` frames that do not attend to each other.
Here the windows are rows of a batch, the last one padded: ``frames (windows, mel bins, length)``;
``valid (windows, 1, length)``, 1 where there is a frame; ``mask (windows, 1, 1, length after the first
convolutions)``, added to the attention scores; ``count (1,)``, how many embeddings the recording has.
Output: ``(count, output)``.

A tower that attends to whole recordings has one window, as long as the recording and the frames of silence
after it that its last embedding touches; the silence is computed and not listened to.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import SinusoidsPositionEmbedding

from edgecloud.models.features import CONTEXT_FRAMES, audio_token_count
from edgecloud.models.quantized.openvino.runtime import (
    ints,
    linear,
    number,
    op,
    ov,
    parameter,
    result,
)
from edgecloud.models.quantized.shapes import AudioShape
from edgecloud.models.quantized.weights import Weights

__all__ = ["audio_inputs", "audio_model"]

_EPSILON = 1e-5
"""Epsilon of the family's layer norms."""


def audio_model(shape: AudioShape, weights: Weights) -> Any:
    """The graph, on the memory of ``weights``."""
    frames = parameter("frames", [-1, shape.mel_bins, -1])
    valid = parameter("valid", [-1, 1, -1])
    mask = parameter("mask", [-1, 1, 1, -1])
    count = parameter("count", [1], np.int64)
    # The second convolution must not see what the first makes of the padding.
    first = op.multiply(_convolved(frames, weights, "audio.conv1", stride=1), valid)
    second = _convolved(first, weights, "audio.conv2", stride=2)
    table = (
        weights.vector("audio.positions")
        if shape.whole
        else SinusoidsPositionEmbedding(shape.positions, shape.width).positional_embedding.numpy()  # type: ignore[no-untyped-call]
    )
    by_time = op.transpose(second, ints(0, 2, 1))
    length = op.gather(op.shape_of(by_time), ints(1), op.constant(np.int64(0)))
    places = op.slice(op.constant(np.array(table)), ints(0), length, ints(1), ints(0))
    hidden = op.add(by_time, op.unsqueeze(places, ints(0)))
    for index in range(shape.layers):
        name = f"audio.layers.{index}"
        normed = _layer_norm(hidden, weights, f"{name}.self_attn_layer_norm")
        mixed = _attention(shape, weights, name, normed, mask)
        hidden = op.add(hidden, _linear(mixed, weights, f"{name}.out"))
        normed = _layer_norm(hidden, weights, f"{name}.final_layer_norm")
        inner = op.gelu(_linear(normed, weights, f"{name}.fc1"), "erf")
        hidden = op.add(hidden, _linear(inner, weights, f"{name}.fc2"))
    rows = op.reshape(hidden, ints(-1, shape.width), special_zero=False)
    # Only the last window is padded, so what is real comes first.
    real = op.slice(rows, ints(0), op.multiply(count, ints(2)), ints(1), ints(0))
    pairs = op.reshape(real, ints(-1, 2, shape.width), special_zero=False)
    pooled = op.reduce_mean(pairs, ints(1), keep_dims=False)
    embedded = _linear(_layer_norm(pooled, weights, "audio.ln_post"), weights, "audio.proj")
    if shape.deep:
        embedded = _linear(op.gelu(embedded, "erf"), weights, "audio.proj2")
    return ov.Model([result(embedded, "embedded")], [frames, valid, mask, count], "audio")


def audio_inputs(shape: AudioShape, features: NDArray[np.float16]) -> list[NDArray[Any]]:
    """The graph's inputs for log-mel ``(mel bins, T)``."""
    if shape.whole:
        return _whole_inputs(shape, features)
    total = features.shape[1]
    size = 2 * shape.window
    windows = -(-total // size)
    length = min(total, size)
    frames = np.zeros((shape.mel_bins, windows * length), np.float32)
    frames[:, :total] = features
    frames = np.ascontiguousarray(frames.reshape(-1, windows, length).swapaxes(0, 1))
    tail = total - (windows - 1) * length
    valid = np.ones((windows, 1, length), np.float32)
    valid[-1, 0, tail:] = 0
    mask = np.zeros((windows, 1, 1, (length - 1) // 2 + 1), np.float32)
    mask[-1, 0, 0, (tail - 1) // 2 + 1 :] = -np.inf
    return [frames, valid, mask, np.array([audio_token_count(total)])]


def _whole_inputs(shape: AudioShape, features: NDArray[np.float16]) -> list[NDArray[Any]]:
    """The same for a recording of ``T - CONTEXT_FRAMES`` frames and the silence after it."""
    heard = (features.shape[1] - CONTEXT_FRAMES - 1) // 2 + 1
    count = audio_token_count(features.shape[1] - CONTEXT_FRAMES)
    frames = features[None, :, : 2 * shape.positions].astype(np.float32)
    length = frames.shape[2]
    mask = np.zeros((1, 1, 1, (length - 1) // 2 + 1), np.float32)
    mask[..., heard:] = -np.inf
    return [frames, np.ones((1, 1, length), np.float32), mask, np.array([count])]


def _convolved(x: Any, weights: Weights, name: str, *, stride: int) -> Any:
    kernel = op.constant(np.array(weights.vector(name)))
    bias = op.constant(weights.vector(f"{name}.bias").reshape(1, -1, 1))
    return op.gelu(op.add(op.convolution(x, kernel, [stride], [1], [1], [1]), bias), "erf")


def _linear(x: Any, weights: Weights, name: str) -> Any:
    return linear(x, weights.matrix(name), weights.vector(f"{name}.bias"))


def _layer_norm(x: Any, weights: Weights, name: str) -> Any:
    normed = op.mvn(x, ints(-1), normalize_variance=True, eps=_EPSILON, eps_mode="INSIDE_SQRT")
    scale, shift = (
        op.constant(np.array(weights.vector(f"{name}.{part}"))) for part in ("weight", "bias")
    )
    return op.add(op.multiply(normed, scale), shift)


def _attention(shape: AudioShape, weights: Weights, name: str, normed: Any, mask: Any) -> Any:
    """Every window's attention to itself, ``(windows, length, width)``."""
    together = _linear(normed, weights, f"{name}.qkv")
    head_dim = shape.width // shape.heads
    parts = [
        op.reshape(part, ints(0, 0, shape.heads, head_dim), special_zero=True)
        for part in op.split(together, op.constant(np.int64(2)), 3).outputs()
    ]
    queries, keys, values = (op.transpose(part, ints(0, 2, 1, 3)) for part in parts)
    scaled = op.multiply(queries, number(head_dim**-0.5))
    scores = op.add(op.matmul(scaled, keys, transpose_a=False, transpose_b=True), mask)
    mixed = op.matmul(op.softmax(scores, -1), values, transpose_a=False, transpose_b=False)
    by_time = op.transpose(mixed, ints(0, 2, 1, 3))
    return op.reshape(by_time, ints(0, 0, shape.width), special_zero=True)
