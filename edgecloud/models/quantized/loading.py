"""A checkpoint's quantised model: from its own folder, from the cache, or converted now."""

from __future__ import annotations

import torch

from edgecloud.errors import CheckpointError, OutOfMemoryError
from edgecloud.models.assembly import check_rows, on_meta
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.memory import free_bytes, in_gb
from edgecloud.models.quantized.convert import cached, scheme
from edgecloud.models.quantized.engine import Engine, Kernels
from edgecloud.models.quantized.file import Mapped
from edgecloud.models.quantized.model import QuantizedLM
from edgecloud.models.quantized.shapes import shapes_of
from edgecloud.models.quantized.weights import Weights

__all__ = ["load_quantized"]


def load_quantized(
    checkpoint: Checkpoint, *, bits: int, vocab_size: int, kernels: Kernels | None = None
) -> QuantizedLM:
    """The network of ``checkpoint`` in ``bits`` 8 or 4, compiled and ready; for ``kernels`` see
    :class:`edgecloud.models.quantized.engine.Engine`.

    Raises:
        CheckpointError: weights are missing, broken, of other shapes or of other bits.
        ModelError: the vocabulary is larger than the output layer, or the engine refuses the graph.
        OutOfMemoryError: the weights do not fit into what memory is free.
        OutputError: the cache of converted weights cannot be written.
    """
    found = scheme(checkpoint)
    if found is not None and found.get("bits") != bits:
        raise CheckpointError(
            f"model {checkpoint.path} holds int{found.get('bits')} weights; "
            f"give the quantization int{found.get('bits')}, or the checkpoint it was made of"
        )
    network = on_meta(checkpoint, torch.float32)
    text, audio = shapes_of(network)
    check_rows(checkpoint, vocab_size, text.vocabulary)
    folder = checkpoint.path if found is not None else cached(checkpoint, bits)
    mapped = Mapped(folder / "model.safetensors")
    free = free_bytes("cpu")
    if mapped.nbytes > free:
        smaller = "a smaller model" + (" or the quantization int4" if bits == 8 else "")
        raise OutOfMemoryError(
            f"model {checkpoint.path}: its weights take {in_gb(mapped.nbytes)}, {in_gb(free)} are free; "
            f"use {smaller}"
        )
    engine = Engine(network, text, audio, Weights(mapped), kernels=kernels)
    return QuantizedLM(engine, vocab_size=vocab_size)
