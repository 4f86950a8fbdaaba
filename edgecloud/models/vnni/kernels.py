"""A forward of the text model in compiled code, run by several threads at once.

Every thread runs :func:`forward` from the first layer to the logits on its share of each part: tokens,
attention heads, or rows of a matrix. Between parts they wait for each other. A token's numbers do not
hang on the tokens beside it or on the number of threads, to the last bit: a step gives what ingestion
gave, and a sequence cut back is the one it was.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from edgecloud.models.vnni.tile import ROWS, TOKENS_4, TOKENS_8, tile4, tile8

__all__ = ["Cache", "Matrices", "Text", "Work", "forward"]

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_AT_ONCE = 2048
"""Columns of a matrix that go over all tokens before the next: 64 rows of them stay in a core's cache."""
_SPINS = 4096
"""Looks at the others before a waiting thread lets the system run something else."""
_yield = types.ExternalFunction("sched_yield", types.int32())


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
    """The text model. ``norms (2 * layers + 1, hidden)``; ``bias (layers, rows of qkv)``."""

    qkv: Matrices
    out: Matrices
    gate: Matrices
    up: Matrices
    down: Matrices
    head: Matrices
    bias: Floats
    norms: Floats
    epsilon: float
    heads: int
    kv_heads: int
    head_dim: int


class Cache(NamedTuple):
    """``keys`` and ``values (layers, kv heads, capacity, head dim)``."""

    keys: Floats
    values: Floats


class Work(NamedTuple):
    """What a forward over ``n`` tokens works on. ``hidden (n, hidden)``, the embeddings, at the end what
    comes out of the last layer; ``cos`` and ``sin (n, head dim)`` of their positions; ``whole`` and
    ``other (n, widest)``; ``x (n, widest) int8`` with ``scales`` and ``sums (n, groups)``; ``scores
    (threads, past + n)``; ``met``: how often threads have arrived, how often one looks for the others
    at most, whether one gave up."""

    hidden: Floats
    cos: Floats
    sin: Floats
    whole: Floats
    other: Floats
    x: NDArray[np.int8]
    scales: Floats
    sums: NDArray[np.int32]
    scores: Floats
    met: Ints


@intrinsic
def _arrive(context: Any, address: Any) -> Any:
    """Add 1 to the number at an address, at once for all threads; what it was."""

    def emit(_: Any, b: Any, __: Any, args: Any) -> Any:
        place = b.inttoptr(args[0], ir.IntType(64).as_pointer())
        return b.atomic_rmw("add", place, ir.Constant(ir.IntType(64), 1), "seq_cst")

    return types.int64(types.int64), emit


@intrinsic
def _look(context: Any, address: Any) -> Any:
    """The number at an address, as other threads left it."""

    def emit(_: Any, b: Any, __: Any, args: Any) -> Any:
        return b.load_atomic(b.inttoptr(args[0], ir.IntType(64).as_pointer()), "acquire", 8)

    return types.int64(types.int64), emit


@intrinsic
def _as_float(context: Any, bits: Any) -> Any:
    """The float32 of these 32 bits."""

    def emit(_: Any, b: Any, __: Any, args: Any) -> Any:
        return b.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), emit


@njit(error_model="numpy", cache=True)
def _exp(x: Any) -> Any:
    """e to the power of a float32 between -87 and 88, to a unit or two in the last place (Cephes' expf)."""
    x = min(max(x, np.float32(-87)), np.float32(88))
    power = np.floor(x * np.float32(1.44269504088896341) + np.float32(0.5))
    r = x - power * np.float32(0.693359375) + power * np.float32(2.12194440e-4)
    y = np.float32(1.9875691500e-4) * r + np.float32(1.3981999507e-3)
    y = y * r + np.float32(8.3334519073e-3)
    y = y * r + np.float32(4.1665795894e-2)
    y = y * r + np.float32(1.6666665459e-1)
    y = y * r + np.float32(5.0000001201e-1)
    y = y * r * r + r + np.float32(1)
    return y * _as_float((np.int32(power) + np.int32(127)) << np.int32(23))


@njit(error_model="numpy", cache=True)
def _wait(met: Ints, threads: int) -> None:
    """Until every thread is here, or one has given up: what is made from then on is of no use."""
    address = met.ctypes.data
    mine = _arrive(address)
    everyone = (mine // threads + 1) * threads
    looks = 0
    while _look(address) < everyone:
        looks += 1
        if looks > met[1] or _look(address + 16) != 0:
            met[2] = 1
            return
        if looks > _SPINS:
            _yield()


@njit(error_model="numpy", cache=True)
def _share(total: int, rank: int, threads: int) -> tuple[int, int]:
    return total * rank // threads, total * (rank + 1) // threads


@njit(error_model="numpy", cache=True, fastmath={"reassoc", "contract", "nsz", "nnan"})
def _quantise(row: Floats, of: Any, x: Any, scales: Floats, sums: Any) -> None:
    """``row`` as bytes for matrices ``of``, in groups with a scale each; and the groups' sums, times what
    was added to the weights, negative."""
    group, added = of.group, np.int32(-128 if of.bits == 8 else -8)
    for g in range(len(row) // group):
        own = slice(g * group, (g + 1) * group)
        part, into = row[own], x[own]
        largest = np.float32(0)
        for i in range(group):
            largest = max(largest, abs(part[i]))
        scales[g] = largest / np.float32(127)
        inverse = np.float32(0) if largest == 0 else np.float32(127) / largest
        total = np.int32(0)
        for i in range(group):
            value = np.int32(np.rint(part[i] * inverse))
            into[i] = value
            total += value
        sums[g] = added * total


@njit(error_model="numpy", cache=True, fastmath={"reassoc", "contract", "nsz"})
def _norm(row: Floats, weight: Floats, epsilon: float, normed: Floats) -> None:
    squares = np.float32(0)
    for i in range(len(row)):
        squares += row[i] * row[i]
    scale = np.float32(1) / np.sqrt(squares / np.float32(len(row)) + np.float32(epsilon))
    for i in range(len(row)):
        normed[i] = weight[i] * (row[i] * scale)


@njit(error_model="numpy", cache=True)
def _take(work: Work, rows: Floats, first: int, last: int, of: Matrices) -> None:
    """Quantise ``rows`` of some tokens for matrices ``of``."""
    for t in range(first, last):
        _quantise(rows[t, : of.columns], of, work.x[t], work.scales[t], work.sums[t])


@njit(error_model="numpy", cache=True)
def _normed(text: Text, work: Work, index: int, of: Matrices, first: int, last: int) -> None:
    """Norm ``index`` of some tokens, quantised for matrices ``of``."""
    width = text.norms.shape[1]
    for t in range(first, last):
        normed = work.other[t, :width]
        _norm(work.hidden[t], text.norms[index], text.epsilon, normed)
        _quantise(normed, of, work.x[t], work.scales[t], work.sums[t])


@njit(error_model="numpy", cache=True)
def _product(
    matrices: Matrices, layer: int, work: Work, out: Floats, tokens: tuple[int, int], blocks: Any
) -> None:
    """Matrix times ``x`` of the tokens, without the rows' scales, in the columns of ``blocks``."""
    weights, grouped = matrices.weights[layer].ctypes.data, matrices.grouped.ctypes.data
    columns, group, rows = matrices.columns, matrices.group, matrices.scales.shape[1]
    x, scales, sums = work.x.ctypes.data, work.scales.ctypes.data, work.sums.ctypes.data
    stride, width, wide = work.x.shape[1], work.scales.shape[1], out.shape[1]
    first, last = tokens
    groups, count = columns // group, last - first
    most = TOKENS_8 if matrices.bits == 8 else TOKENS_4
    at_once = groups if count <= most else max(1, _AT_ONCE // group)
    size = -(-count // -(-count // most))
    for block in range(blocks[0], blocks[1]):
        for g in range(0, groups, at_once):
            some = min(at_once, groups - g)
            w = weights + (block * columns + g * group) * ROWS * matrices.bits // 8
            r = grouped + 4 * ((layer * groups + g) * rows + block * ROWS)
            for t in range(first, last, size):
                a, number = x + t * stride + g * group, 4 * (t * width + g)
                s, z = scales + number, sums + number
                o = out.ctypes.data + 4 * ((t - first) * wide + block * ROWS)
                n = min(size, last - t)
                given = (n, w, r, rows, a, stride, s, z, width, some, group // 4, g, o, wide)
                if matrices.bits == 8:
                    tile8(given)
                else:
                    tile4(given)


@njit(error_model="numpy", cache=True)
def _add(hidden: Floats, product: Floats, scales: Floats, blocks: Any) -> None:
    """What a product adds to the hidden states, in the columns of ``blocks``."""
    own = slice(blocks[0] * ROWS, min(blocks[1] * ROWS, hidden.shape[1]))
    for t in range(len(hidden)):
        into, row, scale = hidden[t, own], product[t, own], scales[own]
        for i in range(len(into)):
            into[i] += row[i] * scale[i]


@njit(error_model="numpy", cache=True)
def _gated(work: Work, gates: Floats, ups: Floats, blocks: Any) -> None:
    """``silu(gate) * up``, in the columns of ``blocks``."""
    own = slice(blocks[0] * ROWS, blocks[1] * ROWS)
    for t in range(len(work.hidden)):
        gate, up = work.whole[t, own], work.other[t, own]
        gate_scale, up_scale = gates[own], ups[own]
        for i in range(len(gate)):
            g = gate[i] * gate_scale[i]
            gate[i] = g / (np.float32(1) + _exp(-g)) * (up[i] * up_scale[i])


@njit(error_model="numpy", cache=True)
def _placed(
    text: Text, cache: Cache, layer: int, work: Work, past: int, first: int, last: int
) -> None:
    """Queries, keys and values of some tokens out of the product: bias, positions, into the cache."""
    d, half, kept = text.head_dim, text.head_dim // 2, text.heads + text.kv_heads
    scales, bias = text.qkv.scales[layer], text.bias[layer]
    for t in range(first, last):
        row = work.whole[t]
        for i in range(len(bias)):
            row[i] = row[i] * scales[i] + bias[i]
        for head in range(kept):
            for i in range(half):
                a, b = row[head * d + i], row[head * d + half + i]
                row[head * d + i] = a * work.cos[t, i] - b * work.sin[t, i]
                row[head * d + half + i] = b * work.cos[t, half + i] + a * work.sin[t, half + i]
        for head in range(text.kv_heads):
            for i in range(d):
                cache.keys[layer, head, past + t, i] = row[(text.heads + head) * d + i]
                cache.values[layer, head, past + t, i] = row[(kept + head) * d + i]


@njit(error_model="numpy", cache=True, fastmath={"reassoc", "contract", "nsz"})
def _dots(query: Floats, keys: Floats, count: int, scale: Any, scores: Floats) -> Any:
    """Scores of the first ``count`` keys, and the largest."""
    largest = np.float32(-np.inf)
    for p in range(count):
        score = np.float32(0)
        for i in range(len(query)):
            score += query[i] * keys[p, i]
        scores[p] = score * scale
        largest = max(largest, scores[p])
    return largest


@njit(error_model="numpy", cache=True, fastmath={"contract"})
def _mix(scores: Floats, values: Floats, count: int, largest: Any, mixed: Floats) -> None:
    """The values weighed by the softmax of their scores."""
    mixed[:] = np.float32(0)
    total = np.float32(0)
    for p in range(count):
        scores[p] = _exp(scores[p] - largest)
    for p in range(count):
        total += scores[p]
    # Four at a time, so that what is mixed goes through memory once for four.
    fours = count // 4 * 4
    for p in range(0, fours, 4):
        a, b, c, d = scores[p], scores[p + 1], scores[p + 2], scores[p + 3]
        v, w, x, y = values[p], values[p + 1], values[p + 2], values[p + 3]
        for i in range(len(mixed)):
            mixed[i] = mixed[i] + a * v[i] + b * w[i] + c * x[i] + d * y[i]
    for p in range(fours, count):
        v = values[p]
        for i in range(len(mixed)):
            mixed[i] += scores[p] * v[i]
    for i in range(len(mixed)):
        mixed[i] /= total


@njit(error_model="numpy", cache=True)
def _attend(
    text: Text, cache: Cache, layer: int, work: Work, past: int, rank: int, threads: int
) -> None:
    """Attention of this thread's share of tokens and heads, into ``other``."""
    d, shared = text.head_dim, text.heads // text.kv_heads
    scale = np.float32(1 / math.sqrt(d))
    first, last = _share(len(work.hidden) * text.heads, rank, threads)
    for item in range(first, last):
        t, head = item // text.heads, item % text.heads
        query = work.whole[t, head * d : (head + 1) * d]
        keys, values = cache.keys[layer, head // shared], cache.values[layer, head // shared]
        scores, count = work.scores[rank], past + t + 1
        largest = _dots(query, keys, count, scale, scores)
        _mix(scores, values, count, largest, work.other[t, head * d : (head + 1) * d])


@njit(error_model="numpy", cache=True, nogil=True)
def forward(
    rank: int, threads: int, text: Text, cache: Cache, work: Work, past: int, logits: Floats
) -> None:
    """Append the tokens of ``work`` to ``cache``, which holds ``past``; ``logits (wanted, padded
    vocabulary)`` of the last of them."""
    n, layers, wanted = len(work.hidden), len(text.bias), len(logits)
    everyone = (0, n)
    first, last = _share(n, rank, threads)
    rows = _share(text.qkv.scales.shape[1] // ROWS, rank, threads)
    narrow = _share(text.out.scales.shape[1] // ROWS, rank, threads)
    broad = _share(text.gate.scales.shape[1] // ROWS, rank, threads)
    for layer in range(layers):
        _normed(text, work, 2 * layer, text.qkv, first, last)
        _wait(work.met, threads)
        _product(text.qkv, layer, work, work.whole, everyone, rows)
        _wait(work.met, threads)
        _placed(text, cache, layer, work, past, first, last)
        _wait(work.met, threads)
        _attend(text, cache, layer, work, past, rank, threads)
        _wait(work.met, threads)
        _take(work, work.other, first, last, text.out)
        _wait(work.met, threads)
        _product(text.out, layer, work, work.whole, everyone, narrow)
        _add(work.hidden, work.whole, text.out.scales[layer], narrow)
        _wait(work.met, threads)
        _normed(text, work, 2 * layer + 1, text.gate, first, last)
        _wait(work.met, threads)
        _product(text.gate, layer, work, work.whole, everyone, broad)
        _product(text.up, layer, work, work.other, everyone, broad)
        _gated(work, text.gate.scales[layer], text.up.scales[layer], broad)
        _wait(work.met, threads)
        _take(work, work.whole, first, last, text.down)
        _wait(work.met, threads)
        _product(text.down, layer, work, work.other, everyone, narrow)
        _add(work.hidden, work.other, text.down.scales[layer], narrow)
        _wait(work.met, threads)
    first, last = _share(wanted, rank, threads)
    _normed(text, work, 2 * layers, text.head, n - wanted + first, n - wanted + last)
    _wait(work.met, threads)
    ends = _share(text.head.scales.shape[1] // ROWS, rank, threads)
    _product(text.head, 0, work, logits, (n - wanted, n), ends)
    for t in range(wanted):
        for i in range(ends[0] * ROWS, ends[1] * ROWS):
            logits[t, i] *= text.head.scales[0, i]
