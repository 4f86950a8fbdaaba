"""Parts of a forward in compiled code, each over one row of numbers, and the barrier of the threads.

The order of a sum depends on its length alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from edgecloud.models.quantized.own.compiling import compiled, summing
from edgecloud.models.quantized.own.tile import HERE

__all__ = ["LARGEST", "NUMBER", "dots", "exp", "mix", "norm", "quantize", "share", "wait"]

Floats = NDArray[np.float32]

_SPINS = 4096
"""Polls of the barrier before a waiting thread lets the system run something else."""
_NOTHING = np.float32(1e-30)
"""A group without a larger number is zeros: the inverse of its scale might be infinite."""
NUMBER = np.int16 if HERE is not None and HERE.spread else np.int8
"""What a quantized activation is held in."""
_SPREAD = NUMBER is np.int16
LARGEST = 32767 if _SPREAD else 127
"""Of what is held: where numbers are multiplied in 16 bits, all of them are used, and a group of 128 columns still adds
up within 32."""
_yield = types.ExternalFunction("sched_yield", types.int32())


@intrinsic
def _arrive(context: Any, address: Any) -> Any:
    """Atomically add 1 to the int64 at an address; returns its value before."""

    def emit(_: Any, b: Any, __: Any, args: Any) -> Any:
        place = b.inttoptr(args[0], ir.IntType(64).as_pointer())
        return b.atomic_rmw("add", place, ir.Constant(ir.IntType(64), 1), "seq_cst")

    return types.int64(types.int64), emit


@intrinsic
def _load(context: Any, address: Any) -> Any:
    """Atomic load of the int64 at an address."""

    def emit(_: Any, b: Any, __: Any, args: Any) -> Any:
        return b.load_atomic(b.inttoptr(args[0], ir.IntType(64).as_pointer()), "acquire", 8)

    return types.int64(types.int64), emit


@intrinsic
def _as_float(context: Any, bits: Any) -> Any:
    """The float32 of these 32 bits."""

    def emit(_: Any, b: Any, __: Any, args: Any) -> Any:
        return b.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), emit


@intrinsic
def _as_int(context: Any, number: Any) -> Any:
    """The 32 bits of a float32."""

    def emit(_: Any, b: Any, __: Any, args: Any) -> Any:
        return b.bitcast(args[0], ir.IntType(32))

    return types.int32(types.float32), emit


@compiled
def wait(met: NDArray[np.int64], threads: int) -> None:
    """Barrier: wait until every thread has arrived, or one has given up; results are then void."""
    address = met.ctypes.data
    mine = _arrive(address)
    everyone = (mine // threads + 1) * threads
    polls = 0
    while _load(address) < everyone:
        polls += 1
        if polls > met[1] or _load(address + 16) != 0:
            met[2] = 1
            return
        if polls > _SPINS:
            _yield()


@compiled
def share(total: int, rank: int, threads: int) -> tuple[int, int]:
    """The half-open range of ``total`` items that thread ``rank`` of ``threads`` works on."""
    return total * rank // threads, total * (rank + 1) // threads


@compiled
def exp(x: Any) -> Any:
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


@summing
def norm(row: Floats, weight: Floats, epsilon: float, normed: Floats) -> None:
    """RMSNorm of one token's ``row (width,)``, written to ``normed``."""
    squares = np.float32(0)
    for i in range(len(row)):
        squares += row[i] * row[i]
    scale = np.float32(1) / np.sqrt(squares / np.float32(len(row)) + np.float32(epsilon))
    for i in range(len(row)):
        normed[i] = weight[i] * (row[i] * scale)


@compiled
def quantize(row: Floats, group: int, added: Any, x: Any, scales: Floats, sums: Any) -> None:
    """Quantize ``row`` to ``x`` (:data:`NUMBER`, up to :data:`LARGEST`), with a scale for each group; ``sums`` get
    ``-added`` times the groups' sums. Where numbers are multiplied in 16 bits, the columns of each four lie as 0, 2,
    1, 3."""
    for g in range(len(row) // group):
        own = slice(g * group, (g + 1) * group)
        part, into = row[own], x[own]
        bits = np.int32(0)
        for i in range(group):
            bits = max(bits, np.int32(_as_int(part[i]) & np.int32(0x7FFFFFFF)))
        # As whole numbers magnitudes compare alike, and what is no number is the largest of all.
        largest = _as_float(bits)
        scales[g] = largest / np.float32(LARGEST)
        inverse = np.float32(0) if largest < _NOTHING else np.float32(LARGEST) / largest
        total = np.int32(0)
        for i in range(group):
            value = np.int32(np.rint(part[i] * inverse))
            into[(i & -4) | (i & 1) << 1 | (i >> 1 & 1) if _SPREAD else i] = value
            total += value
        sums[g] = -np.int32(added) * total


@summing
def dots(query: Floats, keys: Floats, count: int, scale: Any, scores: Floats) -> Any:
    """Attention scores of the first ``count`` keys; returns the largest."""
    largest = np.float32(-np.inf)
    for p in range(count):
        score = np.float32(0)
        for i in range(len(query)):
            score += query[i] * keys[p, i]
        scores[p] = score * scale
        largest = max(largest, scores[p])
    return largest


@summing
def mix(scores: Floats, values: Floats, count: int, largest: Any, mixed: Floats) -> None:
    """The sum of the values weighted by the softmax of their scores."""
    mixed[:] = np.float32(0)
    total = np.float32(0)
    for p in range(count):
        scores[p] = exp(scores[p] - largest)
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
