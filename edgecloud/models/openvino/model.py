"""A quantised thinker as a :class:`edgecloud.contracts.Model`."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniThinkerConfig
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniRotaryEmbedding

from edgecloud.contracts import Prompt
from edgecloud.errors import ModelError
from edgecloud.models.cached import CachedModel
from edgecloud.models.checks import check_prompt, check_started, check_vocabulary
from edgecloud.models.openvino.audio import audio_inputs, audio_model
from edgecloud.models.openvino.runtime import compiled, ov
from edgecloud.models.openvino.shapes import AudioShape, TextShape, parameter_count
from edgecloud.models.openvino.text import text_model
from edgecloud.models.openvino.weights import Weights

__all__ = ["Cache", "Engine", "OpenVINOLM"]

_ROOM = 256
"""Tokens set aside after a prompt; a longer answer doubles what there is."""


class Engine:
    """The two compiled graphs and the embeddings of one thinker; no state of a sequence.

    One request at a time: sequences on several threads take turns.
    """

    def __init__(
        self,
        config: Qwen2_5OmniThinkerConfig,
        text: TextShape,
        audio: AudioShape | None,
        weights: Weights,
    ) -> None:
        """Compiles, and runs each graph once: the engine packs its weights at the first run.

        The packed weights are the engine's own copy, so the pages that they were read from are given
        back, all along: they never add up to a second copy.

        Raises:
            ModelError: the engine refuses a graph.
        """
        self.shape = text
        self.parameters = parameter_count(text, audio)
        self._audio_shape = audio
        self.weights = weights
        self._audio_token: int = config.audio_token_id
        self._rotary = Qwen2_5OmniRotaryEmbedding(config.text_config)  # type: ignore[arg-type]
        self._turns = np.empty((2, 0, 1, text.head_dim), np.float32)
        self._lock = threading.Lock()
        with weights.giving_back():
            self._text = compiled(text_model(text, weights)).create_infer_request()
            self.run(np.zeros((2, text.hidden), np.float32), Cache(text), 1)
            self._audio = None
            if audio is not None:
                self._audio = compiled(audio_model(audio, weights)).create_infer_request()
                self.hear(np.zeros((audio.mel_bins, 4), np.float16))

    def embed(self, prompt: Prompt) -> NDArray[np.float32]:
        """``(n, hidden)``: embedded token ids, with the audio in place of its placeholders."""
        ids = np.array(prompt.token_ids)
        embedded = self.weights.embed(ids)
        if prompt.features is None:
            return embedded
        audio = self.hear(prompt.features)
        places = ids == self._audio_token
        if int(places.sum()) != len(audio):
            raise ModelError(
                f"the prompt has {int(places.sum())} audio placeholders, "
                f"the audio tower gives {len(audio)} embeddings"
            )
        embedded[places] = audio
        return embedded

    def tokens(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """``(n, hidden)``: the embeddings of ``tokens``."""
        return self.weights.embed(np.array(tokens))

    def run(self, embedded: NDArray[np.float32], cache: Cache, wanted: int) -> Tensor:
        """Append ``embedded (n, hidden)`` to ``cache``. Returns ``(wanted, V) float32``: the logits of
        the last tokens."""
        count, past = len(embedded), cache.length
        cos, sin = self._turned(past + count)[:, None, past:]
        places = np.arange(past + count)
        mask = np.where(places > places[past:, None], np.float32(-np.inf), np.float32(0))
        inputs = [embedded[None], cos, sin, mask[None, None], np.array([wanted])]
        inputs += cache.held()
        with self._lock:
            outputs = _inferred(self._text, inputs)
            logits = torch.from_numpy(outputs[0][0].copy())
            cache.append(outputs[1:])
        return logits

    def hear(self, features: NDArray[np.float16]) -> NDArray[np.float32]:
        """``(n, hidden)``: the embeddings of one recording."""
        if self._audio is None or self._audio_shape is None:
            raise ModelError("this model was loaded without its audio tower")
        if features.shape[0] != self._audio_shape.mel_bins:
            raise ModelError(
                f"the features have {features.shape[0]} bands, "
                f"the audio tower takes {self._audio_shape.mel_bins}"
            )
        with self._lock:
            found: NDArray[np.float32] = _inferred(
                self._audio, audio_inputs(self._audio_shape, features)
            )[0].copy()
        return found

    def _turned(self, length: int) -> NDArray[np.float32]:
        """Cosines and sines of the first ``length`` positions, ``(2, length, 1, head dim)``."""
        if length > self._turns.shape[1]:
            positions = torch.arange(max(length, 2 * self._turns.shape[1]))
            # Text and audio have three equal rows of positions.
            tables = self._rotary(torch.empty(0), positions.expand(3, 1, -1))
            self._turns = torch.stack([table[0] for table in tables])[:, :, None].numpy()
        return self._turns[:, :length]


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

    def held(self) -> list[NDArray[np.float32]]:
        """The first ``length`` tokens of everything, without a copy."""
        if not self._memory:
            self._grow(_ROOM)
        return [held[:, : self.length] for held in self._memory]

    def append(self, new: Sequence[NDArray[np.float32]]) -> None:
        """Write ``n`` tokens, each of ``new (1, n, kv heads, head dim)``, behind the last."""
        end = self.length + new[0].shape[1]
        if end > self._memory[0].shape[1]:
            self._grow(max(end + _ROOM, 2 * self._memory[0].shape[1]))
        for held, rows in zip(self._memory, new, strict=True):
            held[:, self.length : end] = rows
        self.length = end

    def _grow(self, capacity: int) -> None:
        shape = (1, capacity, self._shape.kv_heads, self._shape.head_dim)
        before = self._memory
        self._memory = [np.empty(shape, np.float32) for _ in range(2 * self._shape.layers)]
        for held, old in zip(self._memory, before, strict=bool(before)):
            held[:, : self.length] = old[:, : self.length]


class OpenVINOLM(CachedModel[Cache]):
    """One sequence on a quantised thinker.

    ``vocab_size`` is the tokenizer's real length; logits beyond it (padding) are never seen.
    """

    def __init__(self, engine: Engine, *, vocab_size: int) -> None:
        super().__init__(Cache(engine.shape), vocab_size=vocab_size)
        self._engine = engine

    @property
    def parameters(self) -> int:
        """How many of the checkpoint's parameters are used."""
        return self._engine.parameters

    @property
    def weight_bytes(self) -> int:
        """Bytes of the text model's matrices, all of which a step reads."""
        return self._engine.weights.step_bytes

    def hear(self, features: NDArray[np.float16]) -> NDArray[np.float32]:
        """``(n, hidden)``: the audio tower's embeddings of log-mel ``(mel bins, T)``."""
        return self._engine.hear(features)

    def prefill(self, prompt: Prompt) -> Tensor:
        check_prompt(prompt)
        self._cache = Cache(self._engine.shape)
        self._prompt_length = prompt.length
        embedded = self._engine.embed(prompt)
        return self._engine.run(embedded, self._cache, 1)[0, : self._vocab_size]

    def extend(self, tokens: Sequence[int]) -> Tensor:
        check_started(tokens, self.length)
        check_vocabulary(tokens, self._vocab_size)
        embedded = self._engine.tokens(tokens)
        return self._engine.run(embedded, self._cache, len(tokens))[:, : self._vocab_size]

    def fresh(self) -> OpenVINOLM:
        return OpenVINOLM(self._engine, vocab_size=self._vocab_size)
