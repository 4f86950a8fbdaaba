"""A model in the precision asked for: on torch, or quantized (:mod:`edgecloud.models.quantized`)."""

from __future__ import annotations

from collections.abc import Callable

import torch

from edgecloud.errors import CheckpointError, ConfigError, ModelError
from edgecloud.models.assembly import on_meta
from edgecloud.models.audio_lm import pick_device, pick_dtype
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.loading import LoadedModel, facts_of, load
from edgecloud.models.memory import Need, needed_bytes, precision_name
from edgecloud.models.processor import Processor
from edgecloud.models.quantized.shapes import shapes_of
from edgecloud.models.verifying import verify_weights

__all__ = ["EDGE", "check_precision", "load_model", "need_of", "quantizable"]

EDGE = "--edge-"
"""How the options of the edge begin; those of the cloud begin with ``--cloud-``, those of a service with ``--``."""


def load_model(
    name: str,
    path: str,
    *,
    device: str,
    dtype: str,
    quantization: str,
    flags: str = EDGE,
    verify: bool = False,
) -> LoadedModel:
    """Load the checkpoint at ``path``; ``name`` is what results call it.

    ``quantization``: ``none``; ``bf16``, torch in bfloat16; ``int8`` or ``int4``, our own
    kernels or OpenVINO. ``flags``: how the options begin that messages name.
    With ``verify`` the weights are compared with what is known of them.

    Raises:
        ConfigError: the quantisation and ``device`` or ``dtype`` exclude each other.
        EdgeCloudError: what :func:`edgecloud.models.loading.load` and
            :func:`edgecloud.models.quantized.loading.load_quantized` raise.
    """
    checkpoint = Checkpoint.open(path)
    bits = check_precision(
        checkpoint, device=device, dtype=dtype, quantization=quantization, flags=flags
    )
    if bits is None:
        dtype = "bfloat16" if quantization == "bf16" else dtype
        return load(name, path, device=device, dtype=dtype, verify=verify)
    # Not above: OpenVINO is an extra.
    from edgecloud.models.quantized.loading import load_quantized

    if verify:
        verify_weights(checkpoint)
    processor: Processor = checkpoint.processor()
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
    return LoadedModel(model, processor, facts)


def check_precision(
    checkpoint: Checkpoint, *, device: str, dtype: str, quantization: str, flags: str = EDGE
) -> int | None:
    """Check that the checkpoint can be run in the precision asked for; no weight is read.

    Returns the bits of a quantised model; None: torch runs it.

    Raises:
        ConfigError: ``quantization`` and ``device`` or ``dtype`` exclude each other.
        CheckpointError: the checkpoint holds quantised weights and other ones are asked for, or is of a
            family or layout that cannot be quantised.
        ModelError: its layers cannot be quantised.
    """
    if quantization != "none" and dtype != "auto":
        raise ConfigError(
            f"{flags}quantization {quantization} decides the precision; leave out {flags}dtype"
        )
    bits = int(quantization[3:]) if quantization.startswith("int") else None
    held = (checkpoint.quantized or {}).get("bits")
    if checkpoint.quantized is not None and held != bits:
        raise CheckpointError(
            f"model {checkpoint.path} holds int{held} weights; give {flags}quantization int{held}, or "
            "the checkpoint it was made of"
        )
    if bits is None:
        return None
    if device not in ("auto", "cpu"):
        raise ConfigError(
            f"{flags}quantization {quantization} runs on a CPU; give {flags}device cpu"
        )
    shapes_of(on_meta(checkpoint, torch.float32))
    return bits


def need_of(
    checkpoint: Checkpoint,
    *,
    device: str,
    dtype: str,
    quantization: str,
    side: str = "edge",
    flags: str = EDGE,
    place: Callable[[str], str] | None = None,
    copies: int = 1,
) -> Need:
    """Memory of the weights of ``side`` in their real precision, from headers alone.

    Raises:
        ConfigError, CheckpointError, ModelError: as for :func:`check_precision`.
    """
    bits = check_precision(
        checkpoint, device=device, dtype=dtype, quantization=quantization, flags=flags
    )
    if bits is not None:
        from edgecloud.models.quantized.convert import quantized_bytes

        smaller = bits == 8 and checkpoint.quantized is None
        return Need(
            side=side,
            precision=f"int{bits}",
            by_device={"cpu": quantized_bytes(checkpoint, bits)},
            copies=copies,
            ways=(f"{flags}quantization int4",) if smaller else (),
        )
    where = pick_device(device)
    kind = pick_dtype("bfloat16" if quantization == "bf16" else dtype, where)
    if where == "cpu" and quantizable(checkpoint):
        ways: tuple[str, ...] = (f"{flags}quantization int8",)
    else:
        ways = (f"{flags}dtype bfloat16",) if kind.itemsize > 2 else ()
    return Need(
        side=side,
        precision=precision_name(kind),
        by_device=needed_bytes(checkpoint, kind, place or (lambda _: where)),
        copies=copies,
        ways=ways,
    )


def quantizable(checkpoint: Checkpoint) -> bool:
    """True when it could be run in int8; no weight is read."""
    try:
        check_precision(checkpoint, device="cpu", dtype="auto", quantization="int8")
    except ModelError:
        return False
    return checkpoint.quantized is None
