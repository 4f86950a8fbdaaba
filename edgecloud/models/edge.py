"""The edge's model in the precision asked for: on torch, or quantised on OpenVINO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgecloud.contracts import Model
from edgecloud.errors import ConfigError
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.loading import load
from edgecloud.models.processor import Processor
from edgecloud.models.verifying import verify_weights

__all__ = ["LoadedEdge", "load_edge"]


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

    ``quantization``: ``none``; ``bf16``, torch in bfloat16; ``int8`` or ``int4``, OpenVINO.
    With ``verify`` the weights are compared with what is known of them.

    Raises:
        ConfigError: the quantisation and ``device`` or ``dtype`` exclude each other.
        EdgeCloudError: what :func:`edgecloud.models.loading.load` and
            :func:`edgecloud.models.quantised.loading.load_quantised` raise.
    """
    if quantization != "none" and dtype != "auto":
        raise ConfigError(
            f"--edge-quantization {quantization} decides the precision; leave out --edge-dtype"
        )
    if quantization in ("none", "bf16"):
        loaded = load(
            name,
            path,
            device=device,
            dtype="bfloat16" if quantization == "bf16" else dtype,
            verify=verify,
        )
        return LoadedEdge(loaded.model, loaded.processor, loaded.facts)
    if device not in ("auto", "cpu"):
        raise ConfigError(
            f"--edge-quantization {quantization} runs on a CPU; give --edge-device cpu"
        )
    # Not above: OpenVINO is an extra.
    from edgecloud.models.quantised.loading import load_quantised

    checkpoint = Checkpoint.open(path)
    if verify:
        verify_weights(checkpoint)
    processor = Processor(checkpoint)
    model = load_quantised(checkpoint, bits=int(quantization[3:]), vocab_size=processor.vocab_size)
    facts = {
        "name": name,
        "family": checkpoint.family.model_type,
        "parameters": model.parameters,
        "dtype": quantization,
        "device": "cpu",
        "engine": model.engine_name,
        **checkpoint.identity(),
        "tokenizer_sha256": processor.fingerprint(),
        "shared": processor.shared(),
        "vocab_size": processor.vocab_size,
    }
    return LoadedEdge(model, processor, facts)
