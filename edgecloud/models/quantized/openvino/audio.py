"""The audio tower's graph.

The family splits a recording into windows of ``2 * n_window`` frames that do not attend to each other.
Here the windows are rows of a batch, the last one padded: ``frames (windows, mel bins, length)``;
``valid (windows, 1, length)``, 1 where there is a frame; ``mask (windows, 1, 1, length after the first
convolutions)``, added to the attention scores; ``count (1,)``, how many embeddings the recording has.
Output: ``(count, output)``.

A tower that attends to whole recordings has one window, as long as the recording and the frames of silence
after it that its last embedding touches; the silence is computed and not listened to.

A tower that convolves over frequencies takes pieces of ``2 * n_window`` frames, ``frames (pieces, 1, mel bins,
length)``, the last one padded with zeros, as the family does; those of one run attend to each other, ``n_window_infer``
frames at most, and longer recordings are several runs. Its convolutions are float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import SinusoidsPositionEmbedding

from edgecloud.models.features import CONTEXT_FRAMES, asr_token_count, audio_token_count
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

__all__ = ["audio_model", "audio_runs"]

_EPSILON = 1e-5
"""Epsilon of the family's layer norms."""


def audio_model(shape: AudioShape, weights: Weights) -> Any:
    """The graph, on the memory of ``weights``."""
    return (_over_frequencies if shape.channels else _over_time)(shape, weights)


def _over_time(shape: AudioShape, weights: Weights) -> Any:
    frames = parameter("frames", [-1, shape.mel_bins, -1])
    valid = parameter("valid", [-1, 1, -1])
    mask = parameter("mask", [-1, 1, 1, -1])
    count = parameter("count", [1], np.int64)
    # The second convolution must not see what the first makes of the padding.
    first = op.multiply(_convolved(frames, weights, "audio.conv1", [1]), valid)
    second = _convolved(first, weights, "audio.conv2", [2])
    table = weights.vector("audio.positions") if shape.whole else _sinusoids(shape)
    by_time = op.transpose(second, ints(0, 2, 1))
    length = op.gather(op.shape_of(by_time), ints(1), op.constant(np.int64(0)))
    places = op.slice(op.constant(np.array(table)), ints(0), length, ints(1), ints(0))
    hidden = op.add(by_time, op.unsqueeze(places, ints(0)))
    rows = _encoded(shape, weights, hidden, mask)
    # Only the last window is padded, so what is real comes first.
    real = op.slice(rows, ints(0), op.multiply(count, ints(2)), ints(1), ints(0))
    pairs = op.reshape(real, ints(-1, 2, shape.width), special_zero=False)
    pooled = op.reduce_mean(pairs, ints(1), keep_dims=False)
    embedded = _projected(shape, weights, pooled)
    return ov.Model([result(embedded, "embedded")], [frames, valid, mask, count], "audio")


def _over_frequencies(shape: AudioShape, weights: Weights) -> Any:
    frames = parameter("frames", [-1, 1, shape.mel_bins, 2 * shape.window])
    mask = parameter("mask", [1, 1, 1, -1])
    count = parameter("count", [1], np.int64)
    hidden = frames
    for name in ("conv2d1", "conv2d2", "conv2d3"):
        hidden = _convolved(hidden, weights, f"audio.{name}", [2, 2])
    by_time = op.reshape(
        op.transpose(hidden, ints(0, 3, 1, 2)), ints(0, 0, shape.convolved), special_zero=True
    )
    placed = op.add(
        linear(by_time, weights.matrix("audio.conv_out")),
        op.constant(_sinusoids(shape)[: shape.piece].copy()),
    )
    rows = op.reshape(placed, ints(-1, shape.width), special_zero=False)
    # Only the last piece is padded, so what is real comes first.
    real = op.slice(rows, ints(0), count, ints(1), ints(0))
    encoded = _encoded(shape, weights, op.unsqueeze(real, ints(0)), mask)
    embedded = _projected(shape, weights, encoded)
    return ov.Model([result(embedded, "embedded")], [frames, mask, count], "audio")


def audio_runs(shape: AudioShape, features: NDArray[np.float16]) -> Iterator[list[NDArray[Any]]]:
    """The graph's inputs for log-mel ``(mel bins, T)``, of one run after the other."""
    if shape.whole:
        yield _whole_inputs(shape, features)
    elif shape.channels:
        for begin in range(0, features.shape[1], shape.reach):
            yield _reached_inputs(shape, features[:, begin : begin + shape.reach])
    else:
        yield _windowed_inputs(shape, features)


def _windowed_inputs(shape: AudioShape, features: NDArray[np.float16]) -> list[NDArray[Any]]:
    """Windows beside each other."""
    total = features.shape[1]
    size = 2 * shape.window
    length = min(total, size)
    frames = _pieces(features, length)
    windows = len(frames)
    tail = total - (windows - 1) * length
    valid = np.ones((windows, 1, length), np.float32)
    valid[-1, 0, tail:] = 0
    mask = np.zeros((windows, 1, 1, (length - 1) // 2 + 1), np.float32)
    mask[-1, 0, 0, (tail - 1) // 2 + 1 :] = -np.inf
    return [frames, valid, mask, np.array([audio_token_count(total)])]


def _reached_inputs(shape: AudioShape, features: NDArray[np.float16]) -> list[NDArray[Any]]:
    """Pieces that attend to each other, with a mask of zeros: without one OpenVINO 2026.4.1 keeps attending to one
    embedding alone after a run that had one."""
    count = asr_token_count(features.shape[1])
    mask = np.zeros((1, 1, 1, count), np.float32)
    return [_pieces(features, 2 * shape.window)[:, None], mask, np.array([count])]


def _pieces(features: NDArray[np.float16], length: int) -> NDArray[np.float32]:
    """``(pieces, mel bins, length)`` of log-mel ``(mel bins, T)``, with zeros after its end."""
    bands, total = features.shape
    frames = np.zeros((bands, -(-total // length) * length), np.float32)
    frames[:, :total] = features
    return np.ascontiguousarray(frames.reshape(bands, -1, length).swapaxes(0, 1))


def _whole_inputs(shape: AudioShape, features: NDArray[np.float16]) -> list[NDArray[Any]]:
    """The same for a recording of ``T - CONTEXT_FRAMES`` frames and the silence after it."""
    heard = (features.shape[1] - CONTEXT_FRAMES - 1) // 2 + 1
    count = audio_token_count(features.shape[1] - CONTEXT_FRAMES)
    frames = features[None, :, : 2 * shape.positions].astype(np.float32)
    length = frames.shape[2]
    mask = np.zeros((1, 1, 1, (length - 1) // 2 + 1), np.float32)
    mask[..., heard:] = -np.inf
    return [frames, np.ones((1, 1, length), np.float32), mask, np.array([count])]


def _encoded(shape: AudioShape, weights: Weights, hidden: Any, mask: Any) -> Any:
    """The layers on ``hidden (windows, length, width)``: ``(windows * length, width)``."""
    for index in range(shape.layers):
        name = f"audio.layers.{index}"
        normed = _layer_norm(hidden, weights, f"{name}.self_attn_layer_norm")
        mixed = _attention(shape, weights, name, normed, mask)
        hidden = op.add(hidden, _linear(mixed, weights, f"{name}.out"))
        normed = _layer_norm(hidden, weights, f"{name}.final_layer_norm")
        inner = op.gelu(_linear(normed, weights, f"{name}.fc1"), "erf")
        hidden = op.add(hidden, _linear(inner, weights, f"{name}.fc2"))
    return op.reshape(hidden, ints(-1, shape.width), special_zero=False)


def _projected(shape: AudioShape, weights: Weights, rows: Any) -> Any:
    """The embeddings ``(count, output)`` of ``rows (count, width)``."""
    embedded = _linear(_layer_norm(rows, weights, "audio.ln_post"), weights, "audio.proj")
    return _linear(op.gelu(embedded, "erf"), weights, "audio.proj2") if shape.deep else embedded


def _sinusoids(shape: AudioShape) -> NDArray[np.float32]:
    """The positions that no checkpoint holds, ``(positions, width)``."""
    found: NDArray[np.float32] = SinusoidsPositionEmbedding(
        shape.positions, shape.width
    ).positional_embedding.numpy()  # type: ignore[no-untyped-call]
    return found


def _convolved(x: Any, weights: Weights, name: str, strides: list[int]) -> Any:
    """A convolution over as many dimensions as there are ``strides``, and gelu of it."""
    kernel = op.constant(np.array(weights.vector(name)))
    ones = [1] * len(strides)
    bias = op.constant(weights.vector(f"{name}.bias").reshape(1, -1, *ones))
    return op.gelu(op.add(op.convolution(x, kernel, strides, ones, ones, ones), bias), "erf")


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
