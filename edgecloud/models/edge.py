"""The edge's model in the precision asked for: on torch, or quantized (:mod:`edgecloud.models.quantized`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from edgecloud.contracts import Model
from edgecloud.errors import CheckpointError, ConfigError, ModelError
from edgecloud.models.assembly import on_meta
from edgecloud.models.audio_lm import pick_device, pick_dtype
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.loading import facts_of, load
from edgecloud.models.memory import Need, needed_bytes, precision_name
from edgecloud.models.processor import Processor
from edgecloud.models.quantized.shapes import shapes_of
from edgecloud.models.verifying import verify_weights

__all__ = ["LoadedEdge", "check_precision", "edge_need", "load_edge", "quantizable"]


@dataclass(frozen=True, slots=True)
class LoadedEdge:
    """A model, what surrounds it, and the facts a result holds about both."""

    model: Model
    processor: Processor
    facts: dict[str, Any]


def load_edge(
    name: str, path: str, *, device: str, dtype: str, quantization: str, verify: bool = False
) -> LoadedEdge:
    """Load the checkpoint at ``path``; ``name`` is what results call it.

    ``quantization``: ``none``; ``bf16``, torch in bfloat16; ``int8`` or ``int4``, our own
    kernels or OpenVINO.
    With ``verify`` the weights are compared with what is known of them.

    Raises:
        ConfigError: the quantisation and ``device`` or ``dtype`` exclude each other.
        EdgeCloudError: what :func:`edgecloud.models.loading.load` and
            :func:`edgecloud.models.quantized.loading.load_quantized` raise.
    """
    bits = check_precision(
        Checkpoint.open(path), device=device, dtype=dtype, quantization=quantization
    )
    if bits is None:
        loaded = load(
            name,
            path,
            device=device,
            dtype="bfloat16" if quantization == "bf16" else dtype,
            verify=verify,
        )
        return LoadedEdge(loaded.model, loaded.processor, loaded.facts)
    # Not above: OpenVINO is an extra.
    from edgecloud.models.quantized.loading import load_quantized

    checkpoint = Checkpoint.open(path)
    if verify:
        verify_weights(checkpoint)
    processor = checkpoint.processor()
    model = load_quantized(checkpoint, bits=bits, vocab_size=processor.vocab_size)
    facts = facts_of(
        name,
        checkpoint,
        processor,
        parameters=model.parameters,
        dtype=quantization,
        device="cpu",
        adapter="fast",
        engine=model.engine_name,
    )
    return LoadedEdge(model, processor, facts)


def check_precision(
    checkpoint: Checkpoint, *, device: str, dtype: str, quantization: str
) -> int | None:
    """Check that the checkpoint can be run in the precision asked for; no weight is read.

    Returns the bits of a quantised edge; None: torch runs it.

    Raises:
        ConfigError: ``quantization`` and ``device`` or ``dtype`` exclude each other.
        CheckpointError: the checkpoint holds quantised weights and other ones are asked for, or is of a
            family or layout that cannot be quantised.
        ModelError: its layers cannot be quantised.
    """
    if quantization != "none" and dtype != "auto":
        raise ConfigError(
            f"--edge-quantization {quantization} decides the precision; leave out --edge-dtype"
        )
    bits = int(quantization[3:]) if quantization.startswith("int") else None
    held = (checkpoint.quantized or {}).get("bits")
    if checkpoint.quantized is not None and held != bits:
        raise CheckpointError(
            f"model {checkpoint.path} holds int{held} weights; give --edge-quantization int{held}, or "
            "the checkpoint it was made of"
        )
    if bits is None:
        return None
    if device not in ("auto", "cpu"):
        raise ConfigError(
            f"--edge-quantization {quantization} runs on a CPU; give --edge-device cpu"
        )
    shapes_of(on_meta(checkpoint, torch.float32))
    return bits


def edge_need(
    checkpoint: Checkpoint,
    *,
    device: str,
    dtype: str,
    quantization: str,
    place: Callable[[str], str] | None = None,
    copies: int = 1,
) -> Need:
    """Memory of the edge's weights in their real precision, from headers alone.

    Raises:
        ConfigError, CheckpointError, ModelError: as for :func:`check_precision`.
    """
    bits = check_precision(checkpoint, device=device, dtype=dtype, quantization=quantization)
    if bits is not None:
        from edgecloud.models.quantized.convert import quantized_bytes

        by_device = {"cpu": quantized_bytes(checkpoint, bits)}
        return Need(
            side="edge",
            precision=f"int{bits}",
            by_device=by_device,
            copies=copies,
            ways=_ways(checkpoint, "int4") if bits == 8 else (),
        )
    where = pick_device(device)
    kind = pick_dtype("bfloat16" if quantization == "bf16" else dtype, where)
    needed = needed_bytes(checkpoint, kind, place or (lambda _: where))
    return Need(
        side="edge",
        precision=precision_name(kind),
        by_device=needed,
        copies=copies,
        ways=_ways(checkpoint, "int8")
        if quantizable(checkpoint)
        else _ways(checkpoint, "bf16")
        if kind.itemsize > 2
        else (),
    )


def quantizable(checkpoint: Checkpoint) -> bool:
    """True when ``--edge-quantization int8`` could run it; no weight is read."""
    try:
        check_precision(checkpoint, device="cpu", dtype="auto", quantization="int8")
    except ModelError:
        return False
    return True


def _ways(checkpoint: Checkpoint, lower: str) -> tuple[str, ...]:
    return () if checkpoint.quantized is not None else (f"--edge-quantization {lower}",)
