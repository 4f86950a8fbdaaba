"""Running the two graphs: arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgecloud.errors import ModelError
from edgecloud.models.cached import roomier
from edgecloud.models.features import CONTEXT_FRAMES
from edgecloud.models.quantized.openvino.audio import audio_model, audio_runs
from edgecloud.models.quantized.openvino.runtime import VERSION, compiled, ov
from edgecloud.models.quantized.openvino.text import text_model
from edgecloud.models.quantized.shapes import AudioShape, TextShape
from edgecloud.models.quantized.weights import Weights

__all__ = ["Cache", "GraphText", "Tower"]


class GraphText:
    """The text model. Any precision; compiled and run once, for the engine packs its weights then."""

    name = f"OpenVINO {VERSION}"

    def __init__(self, shape: TextShape, weights: Weights) -> None:
        """Raises ModelError: the engine refuses the graph."""
        self._shape = shape
        self._request = compiled(text_model(shape, weights)).create_infer_request()
        cos_sin = np.zeros((2, 2, shape.head_dim), np.float32)
        self.run(np.zeros((2, shape.hidden), np.float32), cos_sin, self.cache(), 1)

    def cache(self) -> Cache:
        """An empty KV cache."""
        return Cache(self._shape)

    def run(
        self,
        embedded: NDArray[np.float32],
        cos_sin: NDArray[np.float32],
        cache: Cache,
        wanted: int,
    ) -> Tensor:
        """Append ``embedded (n, hidden)`` to ``cache``; ``cos_sin (2, n, head dim)`` are the cosines and
        sines of their positions. Returns ``(wanted, V) float32``: the logits of the last tokens."""
        count, past = len(embedded), cache.length
        cos, sin = cos_sin[:, None, :, None]
        places = np.arange(past + count)
        mask = np.where(places > places[past:, None], np.float32(-np.inf), np.float32(0))
        inputs = [embedded[None], cos, sin, mask[None, None], np.array([wanted])]
        outputs = _inferred(self._request, [*inputs, *cache.held()])
        logits = torch.from_numpy(outputs[0][0].copy())
        cache.append(outputs[1:])
        return logits


class Tower:
    """The audio tower, compiled and run once."""

    def __init__(self, shape: AudioShape, weights: Weights) -> None:
        """Raises ModelError: the engine refuses the graph."""
        self._shape = shape
        self._request = compiled(audio_model(shape, weights)).create_infer_request()
        self.encode_audio(np.zeros((shape.mel_bins, 4 + CONTEXT_FRAMES), np.float16))

    def encode_audio(self, features: NDArray[np.float16]) -> NDArray[np.float32]:
        """``(n, hidden)``: the embeddings of one recording, log-mel ``(mel bins, T)``."""
        bands, frames = features.shape
        if bands != self._shape.mel_bins:
            raise ModelError(
                f"the features have {bands} bands, the audio tower takes {self._shape.mel_bins}"
            )
        most = 2 * self._shape.positions
        if self._shape.whole and not 0 < frames - CONTEXT_FRAMES <= most:
            raise ModelError(
                f"the features have {frames - CONTEXT_FRAMES} frames, the audio tower takes up to {most}"
            )
        runs = audio_runs(self._shape, features)
        return np.concatenate([_inferred(self._request, inputs)[0].copy() for inputs in runs])


def _inferred(request: Any, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Run once. The outputs are the engine's own memory: copy what is kept."""
    for place, value in enumerate(inputs):
        tensor = ov.Tensor(np.ascontiguousarray(value), shared_memory=True)
        request.set_input_tensor(place, tensor)
    request.infer()
    return [tensor.data for tensor in request.output_tensors]


class Cache:
    """Keys and values of one sequence: per layer twice ``(1, capacity, kv heads, head dim)``."""

    def __init__(self, shape: TextShape) -> None:
        self.length = 0
        self._shape = shape
        self._memory: list[NDArray[np.float32]] = []

    @property
    def nbytes(self) -> int:
        """Bytes set aside."""
        return sum(held.nbytes for held in self._memory)

    def reserve(self, length: int) -> None:
        """Make room for ``length`` tokens."""
        capacity = self._memory[0].shape[1] if self._memory else 0
        if length > capacity or not self._memory:
            self._grow(roomier(length, capacity))

    def held(self) -> list[NDArray[np.float32]]:
        """The first ``length`` tokens of everything, without a copy."""
        self.reserve(self.length)
        return [held[:, : self.length] for held in self._memory]

    def append(self, new: Sequence[NDArray[np.float32]]) -> None:
        """Write ``n`` tokens, each of ``new (1, n, kv heads, head dim)``, behind the last."""
        end = self.length + new[0].shape[1]
        self.reserve(end)
        for held, rows in zip(self._memory, new, strict=True):
            held[:, self.length : end] = rows
        self.length = end

    def _grow(self, capacity: int) -> None:
        shape = (1, capacity, self._shape.kv_heads, self._shape.head_dim)
        before = self._memory
        self._memory = [np.empty(shape, np.float32) for _ in range(2 * self._shape.layers)]
        for held, old in zip(self._memory, before, strict=bool(before)):
            held[:, : self.length] = old[:, : self.length]
