"""Single matrices on our own kernels, and transformers' models that multiply by them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgecloud.models.quantized.own import kernels, text
from edgecloud.models.quantized.own.parts import NUMBER
from edgecloud.models.quantized.own.tile import ROWS
from edgecloud.models.quantized.weights import Matrix, quantize

__all__ = ["Product", "dynamic", "with_products"]


class Product(nn.Module):
    """``x (…, columns) float32`` times a matrix of 8 or 4 bits, as the forward of the kernels multiplies it."""

    def __init__(self, matrix: Matrix, bias: Tensor | None = None) -> None:
        super().__init__()
        self._matrix = matrix
        self._held = text._packed(self, ["only"])  # type: ignore[arg-type]
        self._rows = matrix.shape[0]
        self._bias = None if bias is None else bias.detach().float()
        del self._matrix

    @classmethod
    def of(cls, layer: nn.Linear, bits: int = 8) -> Product:
        """The layer's matrix, quantised as the edge's is."""
        return cls(quantize(layer.weight.detach().numpy(), bits), layer.bias)

    def matrix(self, _: str) -> Matrix:
        """The one there is, as :class:`edgecloud.models.quantized.weights.Weights` gives it."""
        return self._matrix

    def forward(self, x: Tensor) -> Tensor:
        """``(…, rows) float32``."""
        rows = np.ascontiguousarray(x.reshape(-1, x.shape[-1]).numpy())
        found = torch.from_numpy(self._multiplied(rows)[:, : self._rows])
        found = found.reshape(*x.shape[:-1], self._rows)
        return found if self._bias is None else found + self._bias

    def _multiplied(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        held, count = self._held, len(rows)
        groups = held.columns // held.group
        work = kernels.Work(
            hidden=rows,
            cos=rows,
            sin=rows,
            whole=rows,
            other=rows,
            x=np.empty((count, held.columns), NUMBER),
            scales=np.empty((count, groups), np.float32),
            sums=np.empty((count, groups), np.int32),
            scores=rows,
            met=np.zeros(3, np.int64),
        )
        kernels._take(work, rows, 0, count, held)
        out = np.empty((count, held.scales.shape[1]), np.float32)
        kernels._product(held, 0, work, out, (0, count), (0, out.shape[1] // ROWS))
        out *= held.scales[0]
        return out


def dynamic(layer: nn.Linear) -> nn.Module:
    """Torch's dynamic quantisation of a layer: int8 weights, activations in 8 bits with one scale for all rows."""
    quantization: Any = torch.ao.quantization
    found: nn.Module = quantization.quantize_dynamic(
        nn.Sequential(layer.float()), {nn.Linear}, torch.qint8
    )
    return found


def with_products(family: Any, make: Callable[[nn.Linear], nn.Module]) -> None:
    """Put what ``make`` gives in place of every linear layer of a model of transformers, one after the other."""
    # An output layer that is the embeddings too must not change them.
    names = [name for name, layer in family.named_modules() if isinstance(layer, nn.Linear)]
    for name in names:
        parent, _, own = name.rpartition(".")
        layer = family.get_submodule(name)
        copied = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None, "meta")
        copied.weight = nn.Parameter(layer.weight.detach().float(), requires_grad=False)
        if layer.bias is not None:
            copied.bias = nn.Parameter(layer.bias.detach().float(), requires_grad=False)
        setattr(family.get_submodule(parent), own, make(copied))
