"""The text model on our own kernels: its weights in their layout, its cache, its threads."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgecloud.errors import ModelError
from edgecloud.models.cached import roomier
from edgecloud.models.quantized.own import kernels
from edgecloud.models.quantized.own.parts import NUMBER
from edgecloud.models.quantized.own.tile import HERE, ROWS
from edgecloud.models.quantized.shapes import GROUP, TextShape, group_size
from edgecloud.models.quantized.weights import Weights
from edgecloud.stages import stage

__all__ = ["Cache", "OwnText", "available", "suits"]

_POLLS = 100_000_000
"""Timeout of the threads' spin barrier, in polls: at least 30 s."""
_DEADLINE_S = 60.0
"""Seconds that the other threads have to end after the first."""
_OFFSETS = {8: np.uint32(0x80808080), 4: np.uint32(0x88888888)}
"""By bits, half the range in each place: added, it makes a signed number unsigned."""


def available() -> bool:
    """True when this processor has the instructions, and the system what threads wait by."""
    return hasattr(os, "sched_yield") and HERE is not None


def suits(shape: TextShape, bits: int) -> bool:
    """True when the columns of ``shape`` can be cut into groups that tiles can take."""
    widths = (shape.hidden, shape.heads * shape.head_dim, shape.feed_forward)
    return all(_group(columns, bits) for columns in widths)


def _group(columns: int, bits: int) -> int:
    """Columns that share a scale of the activations; 0: there is no such size. In 4 bits those that
    share one of the weights, else the largest divisor up to 128 that tiles can take."""
    if bits == 4:
        size = group_size(columns, bits)
        return size if size % 8 == 0 else 0
    sizes = range(min(GROUP, columns) // 4 * 4, 0, -4)
    return next((size for size in sizes if columns % size == 0), 0)


class Cache:
    """Keys and values of one sequence, each ``(layers, kv heads, capacity, head dim)``."""

    def __init__(self, shape: TextShape) -> None:
        self.length = 0
        self._shape = shape
        self.memory = kernels.Cache(*self._empty(0))

    @property
    def nbytes(self) -> int:
        """Bytes set aside."""
        return sum(held.nbytes for held in self.memory)

    def reserve(self, length: int) -> None:
        """Make room for ``length`` tokens."""
        capacity = self.memory.keys.shape[2]
        if length <= capacity:
            return
        new = self._empty(roomier(length, capacity))
        for held, old in zip(new, self.memory, strict=True):
            held[:, :, : self.length] = old[:, :, : self.length]
        self.memory = kernels.Cache(*new)

    def _empty(self, capacity: int) -> list[NDArray[np.float32]]:
        of = self._shape
        shape = (of.layers, of.kv_heads, capacity, of.head_dim)
        return [np.empty(shape, np.float32) for _ in range(2)]


class OwnText:
    """The text model, on as many threads as torch has: the cap of cores sets those."""

    name = f"edgecloud {HERE.name if HERE else 'no'} kernels (numba {numba.__version__})"

    def __init__(self, shape: TextShape, weights: Weights) -> None:
        """Packs the weights; compiles the kernels where they are not yet, some seconds."""
        self._shape = shape
        self._threads = torch.get_num_threads()
        self._text = _text(shape, weights)
        stage("compiling kernels (once for a processor)")
        self._others = ThreadPoolExecutor(max(1, self._threads - 1), "edgecloud-own")
        cos_sin = np.zeros((2, 1, shape.head_dim), np.float32)
        self.run(np.zeros((1, shape.hidden), np.float32), cos_sin, self.cache(), 1)

    def cache(self) -> Cache:
        """An empty KV cache."""
        return Cache(self._shape)

    def run(
        self,
        embedded: NDArray[np.float32],
        cos_sin: NDArray[np.float32],
        cache: Cache,
        wanted: int,
    ) -> Tensor:
        """Append ``embedded (n, hidden)`` to ``cache``; ``cos_sin (2, n, head dim)`` are the cosines and
        sines of their positions. Returns ``(wanted, V) float32``: the logits of the last tokens.

        Raises:
            ModelError: the threads did not meet.
        """
        text, past, threads = self._text, cache.length, self._threads
        end = past + len(embedded)
        cache.reserve(end)
        work = self._work(embedded, cos_sin, end)
        logits = np.empty((wanted, text.head.scales.shape[1]), np.float32)
        given: tuple[Any, ...] = (threads, text, cache.memory, work, past, logits)
        others = [self._others.submit(kernels.forward, rank, *given) for rank in range(1, threads)]
        kernels.forward(0, *given)
        if wait(others, _DEADLINE_S).not_done or work.met[2]:
            raise ModelError(
                f"the {threads} threads of our own kernels waited for each other in vain; give the "
                "process as many cores, or fewer threads with --max-cpu-cores"
            )
        for other in others:
            other.result()
        cache.length = end
        return torch.from_numpy(logits[:, : self._shape.vocabulary])

    def _work(
        self, embedded: NDArray[np.float32], cos_sin: NDArray[np.float32], end: int
    ) -> kernels.Work:
        text, count = self._text, len(embedded)
        layer = (text.qkv, text.out, text.gate, text.down)
        widest = max(matrices.scales.shape[1] for matrices in layer)
        columns = max(matrices.columns for matrices in layer)
        groups = max(m.columns // m.group for m in (*layer, text.head))
        whole, other = np.empty((2, count, widest), np.float32)
        return kernels.Work(
            hidden=np.array(embedded, np.float32),
            cos=np.ascontiguousarray(cos_sin[0]),
            sin=np.ascontiguousarray(cos_sin[1]),
            whole=whole,
            other=other,
            x=np.empty((count, columns), NUMBER),
            scales=np.empty((count, groups), np.float32),
            sums=np.empty((count, groups), np.int32),
            scores=np.empty((self._threads, end), np.float32),
            met=np.array([0, _POLLS, 0]),
        )


def _text(shape: TextShape, weights: Weights) -> kernels.Text:
    names = [f"layers.{index}" for index in range(shape.layers)]
    feed = shape.feed_forward
    norms = [f"{name}.{norm}" for name in names for norm in ("attention_norm", "mlp_norm")]
    return kernels.Text(
        qkv=_packed(weights, [f"{name}.qkv" for name in names]),
        out=_packed(weights, [f"{name}.out" for name in names]),
        gate=_packed(weights, [f"{name}.gate_up" for name in names], slice(None, feed)),
        up=_packed(weights, [f"{name}.gate_up" for name in names], slice(feed, None)),
        down=_packed(weights, [f"{name}.down" for name in names]),
        head=_packed(weights, ["head"]),
        bias=np.stack([weights.vector(f"{name}.qkv.bias") for name in names]),
        norms=np.stack([weights.vector(name) for name in (*norms, "norm")]),
        head_norms=_head_norms(shape, weights, names),
        epsilon=shape.epsilon,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
    )


def _head_norms(shape: TextShape, weights: Weights, names: list[str]) -> NDArray[np.float32]:
    if not shape.head_norms:
        return np.empty((shape.layers, 0, shape.head_dim), np.float32)
    return np.stack(
        [[weights.vector(f"{name}.{norm}") for norm in ("q_norm", "k_norm")] for name in names]
    )


def _packed(weights: Weights, names: list[str], part: slice = slice(None)) -> kernels.Matrices:
    """The rows of ``part`` of these matrices in the layout of the tiles."""
    first = weights.matrix(names[0])
    rows, columns, bits = len(first.values[part]), first.shape[1], first.bits
    blocks, groups = -(-rows // ROWS), first.scales.shape[1]
    memory = _aligned(len(names) * blocks * ROWS * columns * bits // 8)
    packed = memory.reshape(len(names), -1)
    scales = np.zeros((len(names), groups, blocks * ROWS), np.float32)
    for place, name in enumerate(names):
        matrix = weights.matrix(name)
        scales[place, :, :rows] = matrix.scales[part].T
        into = packed[place].view(np.uint32).reshape(blocks, -1, ROWS)
        for block in range(blocks):
            own = slice(block * ROWS, min((block + 1) * ROWS, rows))
            fours = matrix.values[part][own].view(np.uint32)
            into[block] = _OFFSETS[bits]
            into[block, :, : len(fours)] ^= (_halves(fours) if bits == 4 else fours).T
    per_row = scales[:, 0] if bits == 8 else np.ones_like(scales[:, 0])
    grouped = scales if bits == 4 else np.empty((len(names), 0, 0), np.float32)
    return kernels.Matrices(packed, per_row, grouped, columns, _group(columns, bits), bits)


def _halves(eights: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Eight columns of 4 bits in a number each: the first four into the low halves of its bytes, the
    others into the high ones."""
    halves = [eights & np.uint32(0xFFFF), eights >> np.uint32(16)]
    for shift, mask in ((8, 0x00FF00FF), (4, 0x0F0F0F0F)):
        halves = [(half | half << np.uint32(shift)) & np.uint32(mask) for half in halves]
    low, high = halves
    return low | high << np.uint32(4)


def _aligned(size: int) -> NDArray[np.uint8]:
    """``size`` bytes of memory aligned to 64."""
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size]
