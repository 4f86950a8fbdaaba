"""Thinkers with random weights at any shape, for measuring speed, which does not depend on them.

The quantised numbers are drawn themselves: nothing is ever there in float32 but norms and biases.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniThinkerConfig

from edgecloud.models.openvino.model import OpenVINOLM, assemble
from edgecloud.models.openvino.shapes import (
    AudioShape,
    Entry,
    TextShape,
    bits_of,
    entries,
    group_size,
)
from edgecloud.models.openvino.weights import Weights

__all__ = ["random_model", "random_weights"]

_DEVIATION = 0.02


def random_model(
    config: Qwen2_5OmniThinkerConfig,
    *,
    layers: int | None = None,
    bits: int = 8,
    seed: int = 0,
    with_audio: bool = True,
    audio_layers: int | None = None,
) -> OpenVINOLM:
    """The thinker that ``config`` describes in ``bits`` 8 or 4, with random weights, compiled.

    ``layers`` and ``audio_layers`` cut its depth. ``vocab_size`` is the output layer's.
    """
    text = TextShape.of(config)
    text = text if layers is None else replace(text, layers=layers)
    audio = AudioShape.of(config) if with_audio else None
    if audio is not None and audio_layers is not None:
        audio = replace(audio, layers=audio_layers)
    weights = random_weights(text, audio, bits=bits, seed=seed)
    return assemble(config, text, audio, weights, vocab_size=text.vocabulary)


def random_weights(text: TextShape, audio: AudioShape | None, *, bits: int, seed: int) -> Weights:
    """Matrices of about the deviation that training starts from; norms 1, biases and the rest small."""
    draw = np.random.default_rng(seed)
    arrays: dict[str, NDArray[Any]] = {}
    for entry in entries(text, audio):
        if entry.kind == "matrix":
            arrays |= _matrix(entry, bits_of(entry.name, bits), draw)
        elif entry.kind == "table":
            arrays[entry.name] = _table(entry.shape, draw)
        elif entry.name.endswith(("norm", "norm.weight", "ln_post.weight")):
            arrays[entry.name] = np.ones(entry.shape, np.float32)
        else:
            arrays[entry.name] = draw.standard_normal(entry.shape, np.float32) * _DEVIATION
    return Weights(arrays)


def _matrix(entry: Entry, bits: int, draw: np.random.Generator) -> dict[str, NDArray[Any]]:
    rows, columns = entry.shape
    kind = np.uint8 if bits == 4 else np.int8
    values = np.frombuffer(draw.bytes(rows * columns * bits // 8), kind).reshape(rows, -1)
    # Uniform over 2^bits steps: that many times 12^-0.5 is its deviation.
    step = _DEVIATION / (2**bits / 12**0.5)
    scales = np.full((rows, columns // group_size(columns, bits)), step, np.float32)
    return {entry.name: values, f"{entry.name}.scales": scales}


def _table(shape: tuple[int, ...], draw: np.random.Generator) -> NDArray[np.float16]:
    table = np.empty(shape, np.float16)
    for begin in range(0, len(table), 4096):
        block = table[begin : begin + 4096]
        block[:] = draw.standard_normal(block.shape, np.float32) * _DEVIATION
    return table
