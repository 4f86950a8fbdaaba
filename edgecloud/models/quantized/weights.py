"""Quantisation of weight matrices, and what a graph reads them from."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecloud.models.quantized.file import Mapped
from edgecloud.models.quantized.shapes import group_size

__all__ = ["Matrix", "Weights", "dequantize", "quantize"]

_GIVE_BACK_EVERY_S = 0.05


@dataclass(frozen=True, slots=True)
class Matrix:
    """A quantised matrix of ``(rows, columns)``; ``bits`` 8 or 4.

    ``values``: ``(rows, columns) int8``, or ``(rows, columns / 2) uint8`` with the even column in the
    low four bits, two's complement. ``scales (rows, groups) float32``: a weight is value × scale.
    """

    values: NDArray[Any]
    scales: NDArray[np.float32]
    bits: int

    @property
    def shape(self) -> tuple[int, int]:
        """``(rows, columns)``."""
        rows, stored = self.values.shape
        return rows, stored * 8 // self.bits


def quantize(weights: NDArray[np.float32], bits: int) -> Matrix:
    """Round ``(rows, columns)`` to 8 bits with a scale per row, or to 4 with one per group.

    Symmetric. In 4 bits the weight of largest magnitude becomes -8, so that all sixteen values are
    used: a scale may be negative.
    """
    rows, columns = weights.shape
    grouped = weights.reshape(rows, -1, group_size(columns, bits))
    if bits == 8:
        scales = np.abs(grouped).max(axis=2) / np.float32(127)
    else:
        places = np.abs(grouped).argmax(axis=2, keepdims=True)
        scales = np.take_along_axis(grouped, places, axis=2)[:, :, 0] / np.float32(-8)
    # A group of zeros: any scale does.
    scales = np.where(scales == 0, np.float32(1), scales).astype(np.float32)
    low, high = (-127, 127) if bits == 8 else (-8, 7)
    values = np.rint(grouped / scales[:, :, None]).clip(low, high).astype(np.int8)
    values = values.reshape(rows, columns)
    if bits == 4:
        nibbles = values.view(np.uint8) & 0xF
        return Matrix(nibbles[:, ::2] | (nibbles[:, 1::2] << 4), scales, bits)
    return Matrix(values, scales, bits)


def dequantize(matrix: Matrix) -> NDArray[np.float32]:
    """``(rows, columns) float32``: the weights that ``matrix`` stands for."""
    rows, columns = matrix.shape
    if matrix.bits == 4:
        nibbles = np.stack((matrix.values & 0xF, matrix.values >> 4), axis=-1)
        values = ((nibbles ^ 8).astype(np.int8) - 8).reshape(rows, columns)
    else:
        values = matrix.values
    grouped = values.reshape(rows, matrix.scales.shape[1], -1).astype(np.float32)
    return np.asarray((grouped * matrix.scales[:, :, None]).reshape(rows, columns))


class Weights:
    """The tensors of one thinker by the names of :func:`edgecloud.models.quantized.shapes.entries`,
    matrices as ``name`` and ``name.scales``, on the pages of a file."""

    def __init__(self, mapped: Mapped) -> None:
        self._mapped = mapped

    @property
    def step_bytes(self) -> int:
        """Bytes of what every decode step reads: all but the audio tower and the embeddings."""
        return sum(
            held.nbytes
            for name, held in self._mapped.arrays.items()
            if name != "embedding" and not name.startswith("audio.")
        )

    def matrix(self, name: str) -> Matrix:
        """The quantized matrix ``name`` with its scales; 4 bits where its values are uint8."""
        values = self._mapped.arrays[name]
        bits = 4 if values.dtype == np.uint8 else 8
        return Matrix(values, self._mapped.arrays[f"{name}.scales"], bits)

    def vector(self, name: str) -> NDArray[np.float32]:
        """The float32 vector ``name``: a bias or the weights of a norm."""
        return self._mapped.arrays[name]

    def embed(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """``(n, hidden)``: the embeddings of ``tokens (n,)``."""
        rows = self._mapped.arrays["embedding"][tokens]
        if rows.dtype == np.uint16:  # bfloat16: the upper half of a float32
            return (rows.astype(np.uint32) << 16).view(np.float32)
        return rows.astype(np.float32)

    @contextmanager
    def giving_back(self) -> Iterator[None]:
        """While the block runs, and at its end, the file's pages are given back to the system."""
        done = threading.Event()

        def give_back() -> None:
            while not done.wait(_GIVE_BACK_EVERY_S):
                self._mapped.release()

        helper = threading.Thread(target=give_back, name="giving-back", daemon=True)
        helper.start()
        try:
            yield
        finally:
            done.set()
            helper.join()
            self._mapped.release()
