"""Quantised models with random weights at any shape, for measuring speed, which does not depend on them.

The quantised numbers are drawn themselves and go through a temporary file, as converted ones do:
nothing is ever there in float32 but norms and biases.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecloud.models.networks import Network
from edgecloud.models.quantized.convert import specs_of
from edgecloud.models.quantized.engine import Engine, Kernels
from edgecloud.models.quantized.file import Mapped, Spec, TensorWriter
from edgecloud.models.quantized.model import QuantizedLM
from edgecloud.models.quantized.shapes import entries, shapes_of
from edgecloud.models.quantized.weights import Weights

__all__ = ["random_model"]

_DEVIATION = 0.02
"""Standard deviation of the weights, as training starts from."""
_BLOCK_BYTES = 64 << 20


def random_model(
    network: Network,
    *,
    bits: int = 8,
    layers: int | None = None,
    audio_layers: int | None = None,
    with_audio: bool = True,
    seed: int = 0,
    kernels: Kernels | None = None,
) -> QuantizedLM:
    """A model of the shape of ``network`` (which may be on the meta device) in ``bits`` 8 or 4, with random
    weights, compiled and run once.

    ``layers`` and ``audio_layers`` cut its depth. ``vocab_size`` is the output layer's. Norms are 1.
    """
    text, audio = shapes_of(network)
    text = text if layers is None else replace(text, layers=layers)
    audio = audio if with_audio else None
    if audio is not None and audio_layers is not None:
        audio = replace(audio, layers=audio_layers)
    specs = specs_of(list(entries(text, audio)), bits, "F16")
    with tempfile.TemporaryDirectory(prefix="edgecloud-random-") as folder:
        path = Path(folder, "model.safetensors")
        with TensorWriter(path, specs, {}) as writer:
            draw = np.random.default_rng(seed)
            for name, spec in specs.items():
                _draw(writer, name, spec, draw)
        # The mapped pages outlive the file's name.
        weights = Weights(Mapped(path))
    engine = Engine(network, text, audio, weights, kernels=kernels)
    return QuantizedLM(engine, vocab_size=text.vocabulary)


def _draw(writer: TensorWriter, name: str, spec: Spec, draw: np.random.Generator) -> None:
    size = max(1, _BLOCK_BYTES // spec.row_bytes)
    for first in range(0, spec.shape[0], size):
        shape = (min(size, spec.shape[0] - first), *spec.shape[1:])
        if spec.kind in ("I8", "U8"):
            kind = np.int8 if spec.kind == "I8" else np.uint8
            rows: NDArray[Any] = np.frombuffer(draw.bytes(int(np.prod(shape))), kind).reshape(shape)
        elif name.endswith(".scales"):
            # Evenly drawn from 2^bits steps: the deviation is that many times 12^-0.5.
            steps = 16 if spec.shape[1] > 1 else 256
            rows = np.full(shape, _DEVIATION * 12**0.5 / steps, np.float32)
        elif name.endswith(("norm", "norm.weight", "ln_post.weight")):
            rows = np.ones(shape, np.float32)
        else:
            rows = draw.standard_normal(shape, np.float32) * np.float32(_DEVIATION)
            rows = rows.astype(np.float16) if spec.kind == "F16" else rows
        writer.write(name, rows, first=first)
