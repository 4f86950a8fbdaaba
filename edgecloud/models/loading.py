"""From a checkpoint folder to a model that runs, with what a result says about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgecloud.contracts import Model, StopLimits
from edgecloud.decoding.stopping import Stopping
from edgecloud.errors import CheckpointError
from edgecloud.models.audio_lm import AudioLM, pick_device, pick_dtype
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.processor import Processor
from edgecloud.models.verifying import verify_weights

if TYPE_CHECKING:
    from edgecloud.models.general import GeneralLM

__all__ = ["Loaded", "LoadedModel", "check_not_quantized", "facts_of", "load", "look_at"]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model, what surrounds it, and the facts a result holds about both."""

    model: Model
    processor: Processor
    facts: dict[str, Any]

    @property
    def context(self) -> int | None:
        """Context length that the model takes, tokens; None where it states none."""
        found: int | None = getattr(self.model, "context", None)
        return found

    def stopping(self) -> Stopping:
        """The ends of a text; the limits are each request's own."""
        return self.processor.stopping(StopLimits(max_sentences=1))


@dataclass(frozen=True, slots=True)
class Loaded(LoadedModel):
    """One that torch runs."""

    model: AudioLM | GeneralLM


def load(name: str, path: str, *, device: str, dtype: str, verify: bool = False) -> Loaded:
    """Load the checkpoint at ``path``; ``name`` is what results call it.

    The checkpoint's ``model_type`` decides which family's network and prompts are used. With ``verify``
    the weights are compared with what is known of them (:mod:`edgecloud.models.verifying`).

    Raises:
        CheckpointError: the folder or its content is not usable, or not what it should be.
        ModelError: the device does not exist, or the vocabulary is larger than the output layer.
        OutOfMemoryError: it does not fit on the device.
    """
    checkpoint = Checkpoint.open(path)
    check_not_quantized(checkpoint)
    if verify:
        verify_weights(checkpoint)
    processor = checkpoint.processor()
    model = _model(checkpoint, processor.vocab_size, pick_device(device), dtype)
    facts = facts_of(
        name,
        checkpoint,
        processor,
        parameters=model.parameters,
        dtype=model.dtype,
        device=model.device,
        adapter="fast" if checkpoint.family.fast else "general",
    )
    return Loaded(model, processor, facts)


def facts_of(
    name: str,
    checkpoint: Checkpoint,
    processor: Processor,
    *,
    parameters: int | None,
    dtype: str | None,
    device: str,
    **more: str,
) -> dict[str, Any]:
    """What results and comparisons know of a model (JSON): ``name`` is what results call it, ``more`` is what
    runs it."""
    return {
        "name": name,
        "family": checkpoint.family.model_type,
        "parameters": parameters,
        "dtype": dtype,
        "device": device,
        **more,
        **checkpoint.identity(),
        "tokenizer_sha256": processor.fingerprint(),
        "shared": processor.shared(),
        "vocab_size": processor.vocab_size,
    }


def _model(checkpoint: Checkpoint, vocab_size: int, device: str, dtype: str) -> AudioLM | GeneralLM:
    if checkpoint.family.fast:
        return AudioLM.load(checkpoint, vocab_size=vocab_size, device=device, dtype=dtype)
    # Not above: few runs need it.
    from edgecloud.models.general import GeneralLM

    kind = pick_dtype(dtype, device)
    return GeneralLM.load(checkpoint, vocab_size=vocab_size, device=device, dtype=kind)


def check_not_quantized(checkpoint: Checkpoint) -> None:
    """Raises CheckpointError for quantised weights, which torch cannot use."""
    if checkpoint.quantized is not None:
        bits = checkpoint.quantized.get("bits")
        raise CheckpointError(
            f"model {checkpoint.path} holds int{bits} weights, which torch cannot use; give the quantization "
            f"int{bits}, or the checkpoint it was made of"
        )


def look_at(name: str, path: str) -> tuple[Processor, dict[str, Any]]:
    """The processor of the checkpoint at ``path``, and the metadata of a model that runs
    elsewhere: its weights are not loaded.

    Raises:
        CheckpointError: the folder or its content is not usable.
    """
    checkpoint = Checkpoint.open(path)
    processor = checkpoint.processor()
    facts = facts_of(name, checkpoint, processor, parameters=None, dtype=None, device="vllm")
    return processor, facts
