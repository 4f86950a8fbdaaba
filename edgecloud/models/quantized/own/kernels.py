"""A forward of the text model in compiled code, run by several threads at once.

Every thread runs :func:`forward` from the first layer to the logits on its share of each part: tokens,
attention heads, or rows of a matrix. Between parts they wait for each other. A token's numbers do not
depend on the tokens beside it or on the number of threads, to the last bit: a step gives what ingestion
gave, and a sequence that was rolled back is the one it was.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgecloud.models.quantized.own.compiling import compiled, releasing
from edgecloud.models.quantized.own.parts import (
    dots,
    exp,
    mix,
    norm,
    quantize,
    share,
    wait,
)
from edgecloud.models.quantized.own.tile import ROWS, TOKENS_4, TOKENS_8, tile4, tile8

__all__ = ["Cache", "Matrices", "Text", "Work", "forward"]

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_AT_ONCE = 2048
"""Columns of a matrix that go over all tokens before the next: 64 rows of them stay in a core's cache."""

_AHEAD = 4096
"""Bytes from what is multiplied to what memory is asked for, where tokens pass over weights once."""


class Matrices(NamedTuple):
    """One kind of matrix, of all layers: ``weights (layers, bytes)``, as tiles want them; ``scales
    (layers, rows)``, of what a product gives; ``grouped (layers, groups, rows)``, within it, in 4 bits.
    ``group`` columns share a scale of the activations."""

    weights: Bytes
    scales: Floats
    grouped: Floats
    columns: int
    group: int
    bits: int


class Text(NamedTuple):
    """The text model. ``norms (2 * layers + 1, hidden)``; ``bias (layers, rows of qkv)``; ``head_norms
    (layers, 2, head dim)`` of queries and of keys, ``(layers, 0, head dim)`` without any."""

    qkv: Matrices
    out: Matrices
    gate: Matrices
    up: Matrices
    down: Matrices
    head: Matrices
    bias: Floats
    norms: Floats
    head_norms: Floats
    epsilon: float
    heads: int
    kv_heads: int
    head_dim: int


class Cache(NamedTuple):
    """``keys`` and ``values (layers, kv heads, capacity, head dim)``."""

    keys: Floats
    values: Floats


class Work(NamedTuple):
    """Buffers of a forward over ``n`` tokens. ``hidden (n, hidden)``, the embeddings, at the end what
    comes out of the last layer; ``cos`` and ``sin (n, head dim)`` of their positions; ``whole`` and
    ``other (n, widest)``; ``x (n, widest)`` of ``NUMBER`` with ``scales`` and ``sums (n, groups)``; ``scores
    (threads, past + n)``; ``met``: the arrivals of threads, the most polls of one
    that waits, whether one gave up."""

    hidden: Floats
    cos: Floats
    sin: Floats
    whole: Floats
    other: Floats
    x: NDArray[Any]
    scales: Floats
    sums: NDArray[np.int32]
    scores: Floats
    met: Ints


@compiled
def _quantized(row: Floats, of: Matrices, work: Work, t: int) -> None:
    added = 128 if of.bits == 8 else 8
    quantize(row, of.group, added, work.x[t], work.scales[t], work.sums[t])


@compiled
def _take(work: Work, rows: Floats, first: int, last: int, of: Matrices) -> None:
    """Quantise ``rows`` of some tokens for matrices ``of``."""
    for t in range(first, last):
        _quantized(rows[t, : of.columns], of, work, t)


@compiled
def _normed(text: Text, work: Work, index: int, of: Matrices, first: int, last: int) -> None:
    """Norm ``index`` of some tokens, quantised for matrices ``of``."""
    width = text.norms.shape[1]
    for t in range(first, last):
        normed = work.other[t, :width]
        norm(work.hidden[t], text.norms[index], text.epsilon, normed)
        _quantized(normed, of, work, t)


@compiled
def _product(
    matrices: Matrices, layer: int, work: Work, out: Floats, tokens: tuple[int, int], blocks: Any
) -> None:
    """Matrix times ``x`` of the tokens, without the rows' scales, in the columns of ``blocks``."""
    weights, grouped = matrices.weights[layer].ctypes.data, matrices.grouped.ctypes.data
    columns, group, rows = matrices.columns, matrices.group, matrices.scales.shape[1]
    x, scales, sums = work.x.ctypes.data, work.scales.ctypes.data, work.sums.ctypes.data
    size_x = work.x.itemsize
    stride, width, wide = work.x.shape[1] * size_x, work.scales.shape[1], out.shape[1]
    first, last = tokens
    groups, count = columns // group, last - first
    most = TOKENS_8 if matrices.bits == 8 else TOKENS_4
    at_once = groups if count <= most else max(1, _AT_ONCE // group)
    passes = -(-count // most)
    size = -(-count // passes)
    for block in range(blocks[0], blocks[1]):
        for g in range(0, groups, at_once):
            some = min(at_once, groups - g)
            piece = some * group * ROWS * matrices.bits // 8
            w = weights + (block * columns + g * group) * ROWS * matrices.bits // 8
            r = grouped + 4 * ((layer * groups + g) * rows + block * ROWS)
            for t in range(first, last, size):
                a, number = x + t * stride + g * group * size_x, 4 * (t * width + g)
                s, z = scales + number, sums + number
                o = out.ctypes.data + 4 * ((t - first) * wide + block * ROWS)
                n = min(size, last - t)
                # Of several passes over a piece each asks for its share of the next one.
                ahead = w + (
                    _AHEAD if passes == 1 else piece + (t - first) // size * piece // passes
                )
                more = (g, o, wide, ahead, 4 * ROWS // passes)
                given = (n, w, r, rows, a, stride, s, z, width, some, group // 4, *more)
                if matrices.bits == 8:
                    tile8(given)
                else:
                    tile4(given)


@compiled
def _add(hidden: Floats, product: Floats, scales: Floats, blocks: Any) -> None:
    """Add a product to the hidden states, in the columns of ``blocks``."""
    own = slice(blocks[0] * ROWS, min(blocks[1] * ROWS, hidden.shape[1]))
    for t in range(len(hidden)):
        into, row, scale = hidden[t, own], product[t, own], scales[own]
        for i in range(len(into)):
            into[i] += row[i] * scale[i]


@compiled
def _gated(work: Work, gates: Floats, ups: Floats, blocks: Any) -> None:
    """``silu(gate) * up``, in the columns of ``blocks``."""
    own = slice(blocks[0] * ROWS, blocks[1] * ROWS)
    for t in range(len(work.hidden)):
        gate, up = work.whole[t, own], work.other[t, own]
        gate_scale, up_scale = gates[own], ups[own]
        for i in range(len(gate)):
            g = gate[i] * gate_scale[i]
            gate[i] = g / (np.float32(1) + exp(-g)) * (up[i] * up_scale[i])


@compiled
def _placed(
    text: Text, cache: Cache, layer: int, work: Work, past: int, first: int, last: int
) -> None:
    """Add biases and rotary embeddings to queries and keys of some tokens, normalized where the family does;
    write keys and values to the cache."""
    d, half, kept = text.head_dim, text.head_dim // 2, text.heads + text.kv_heads
    normed = text.head_norms.shape[1] > 0
    scales, bias = text.qkv.scales[layer], text.bias[layer]
    for t in range(first, last):
        row = work.whole[t]
        for i in range(len(bias)):
            row[i] = row[i] * scales[i] + bias[i]
        for head in range(kept):
            if normed:
                own = row[head * d : (head + 1) * d]
                norm(own, text.head_norms[layer, np.int64(head >= text.heads)], text.epsilon, own)
            for i in range(half):
                a, b = row[head * d + i], row[head * d + half + i]
                row[head * d + i] = a * work.cos[t, i] - b * work.sin[t, i]
                row[head * d + half + i] = b * work.cos[t, half + i] + a * work.sin[t, half + i]
        for head in range(text.kv_heads):
            for i in range(d):
                cache.keys[layer, head, past + t, i] = row[(text.heads + head) * d + i]
                cache.values[layer, head, past + t, i] = row[(kept + head) * d + i]


@compiled
def _attend(
    text: Text, cache: Cache, layer: int, work: Work, past: int, rank: int, threads: int
) -> None:
    """Attention of this thread's share of tokens and heads, into ``other``."""
    d, shared = text.head_dim, text.heads // text.kv_heads
    scale = np.float32(1 / math.sqrt(d))
    first, last = share(len(work.hidden) * text.heads, rank, threads)
    for item in range(first, last):
        t, head = item // text.heads, item % text.heads
        query = work.whole[t, head * d : (head + 1) * d]
        keys, values = cache.keys[layer, head // shared], cache.values[layer, head // shared]
        scores, count = work.scores[rank], past + t + 1
        largest = dots(query, keys, count, scale, scores)
        mix(scores, values, count, largest, work.other[t, head * d : (head + 1) * d])


@releasing
def forward(
    rank: int, threads: int, text: Text, cache: Cache, work: Work, past: int, logits: Floats
) -> None:
    """Append the tokens of ``work`` to ``cache``, which holds ``past``; ``logits (wanted, padded
    vocabulary)`` of the last of them."""
    n, layers, wanted = len(work.hidden), len(text.bias), len(logits)
    everyone = (0, n)
    first, last = share(n, rank, threads)
    rows = share(text.qkv.scales.shape[1] // ROWS, rank, threads)
    narrow = share(text.out.scales.shape[1] // ROWS, rank, threads)
    broad = share(text.gate.scales.shape[1] // ROWS, rank, threads)
    for layer in range(layers):
        # Attention
        _normed(text, work, 2 * layer, text.qkv, first, last)
        wait(work.met, threads)
        _product(text.qkv, layer, work, work.whole, everyone, rows)
        wait(work.met, threads)
        _placed(text, cache, layer, work, past, first, last)
        wait(work.met, threads)
        _attend(text, cache, layer, work, past, rank, threads)
        wait(work.met, threads)
        _take(work, work.other, first, last, text.out)
        wait(work.met, threads)
        _product(text.out, layer, work, work.whole, everyone, narrow)
        _add(work.hidden, work.whole, text.out.scales[layer], narrow)
        wait(work.met, threads)
        # Feed-forward
        _normed(text, work, 2 * layer + 1, text.gate, first, last)
        wait(work.met, threads)
        _product(text.gate, layer, work, work.whole, everyone, broad)
        _product(text.up, layer, work, work.other, everyone, broad)
        _gated(work, text.gate.scales[layer], text.up.scales[layer], broad)
        wait(work.met, threads)
        _take(work, work.whole, first, last, text.down)
        wait(work.met, threads)
        _product(text.down, layer, work, work.other, everyone, narrow)
        _add(work.hidden, work.other, text.down.scales[layer], narrow)
        wait(work.met, threads)
    # Logits
    first, last = share(wanted, rank, threads)
    _normed(text, work, 2 * layers, text.head, n - wanted + first, n - wanted + last)
    wait(work.met, threads)
    ends = share(text.head.scales.shape[1] // ROWS, rank, threads)
    _product(text.head, 0, work, logits, (n - wanted, n), ends)
    for t in range(wanted):
        for i in range(ends[0] * ROWS, ends[1] * ROWS):
            logits[t, i] *= text.head.scales[0, i]
