"""From a checkpoint to a network with its weights, each tensor straight to its precision and device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import SinusoidsPositionEmbedding

from edgecloud.errors import ModelError
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.memory import check_memory
from edgecloud.models.networks import Network
from edgecloud.models.placing import Placement, placed

__all__ = ["assemble", "check_rows", "on_meta"]


def on_meta(checkpoint: Checkpoint, dtype: torch.dtype) -> Network:
    """The network that config.json describes: names, shapes and precision, but no memory.

    Raises:
        CheckpointError: it describes none; what the families' classes then raise is of many kinds.
    """
    with checkpoint.described(), _default_dtype(dtype), torch.device("meta"):
        return checkpoint.network()


def assemble(
    checkpoint: Checkpoint, *, vocab_size: int, device: str, dtype: torch.dtype
) -> tuple[Network, Placement]:
    """The network of ``checkpoint`` with its weights, ready to compute, and where its parts lie.

    Everything that can be known to be wrong is found before the first weight is read.

    Raises:
        CheckpointError: weights missing, broken, cut off or of other shapes.
        ModelError: the tokenizer has more entries than the output layer.
        OutOfMemoryError: the weights do not fit.
    """
    network = on_meta(checkpoint, dtype)
    check_rows(checkpoint, vocab_size, network.lm_head.out_features)
    checkpoint.check(network)
    place = placed(network, device, dtype)
    check_memory(checkpoint, dtype, place)
    checkpoint.load_into(network, dtype=dtype, place=place)
    network.tie()
    _fill_buffers(network, place)
    return network.requires_grad_(requires_grad=False).eval(), place


def check_rows(checkpoint: Checkpoint, vocab_size: int, rows: int) -> None:
    """Raises ModelError for a tokenizer with more entries than the output layer has ``rows``."""
    if vocab_size > rows:
        raise ModelError(
            f"model {checkpoint.path}: its tokenizer has {vocab_size} entries, "
            f"its output layer only {rows}"
        )


def _fill_buffers(network: nn.Module, place: Placement) -> None:
    """Compute what no checkpoint holds: the tables that are made from the configuration."""
    for path, module in network.named_modules():
        names = [name for name, _ in module.named_buffers(recurse=False)]
        if not names:
            continue
        # Each family of Whisper's kind has a class of its own by this name.
        if type(module).__name__ == SinusoidsPositionEmbedding.__name__:
            sizes: Any = module
            fresh: nn.Module = type(sizes)(sizes.length, sizes.channels, sizes.max_timescale)
        else:
            fresh = type(module)(module.config)
        for name in names:
            setattr(module, name, getattr(fresh, name).to(place(path)))


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
