"""One network's quantised weights and what runs them; no state of a sequence."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgecloud.contracts import Prompt
from edgecloud.errors import ModelError
from edgecloud.models.cached import Cache
from edgecloud.models.networks import Network
from edgecloud.models.quantized.openvino.running import GraphText, Tower
from edgecloud.models.quantized.own.text import OwnText, available, suits
from edgecloud.models.quantized.shapes import AudioShape, TextShape, parameter_count
from edgecloud.models.quantized.weights import Weights

__all__ = ["Engine", "Kernels", "RoomyCache"]

Kernels = Literal["own", "openvino"]
"""Engines that may run the text model."""
_AT_ONCE = 1024
"""Tokens in one run of an engine, at most."""
_MOST_SCORES = 1 << 22
"""Most pairs of a new token and one it attends to, in one run."""


class RoomyCache(Cache, Protocol):
    """A cache that room can be made in before it grows."""

    def reserve(self, length: int) -> None:
        """Make room for ``length`` tokens, :func:`edgecloud.models.cached.roomier` where there is too little."""


class TextRunner(Protocol):
    """The text model, as :class:`GraphText` and :class:`OwnText` run it."""

    name: str

    def cache(self) -> Any:
        """An empty KV cache of one sequence."""

    def run(
        self,
        embedded: NDArray[np.float32],
        cos_sin: NDArray[np.float32],
        cache: Any,
        wanted: int,
    ) -> Tensor:
        """Append ``embedded (n, hidden)`` to ``cache`` and return the logits of the last ``wanted`` tokens,
        ``(wanted, V) float32``."""


class Engine:
    """Embeddings, audio tower and text model of one network.

    One request at a time: sequences on several threads take turns.
    """

    def __init__(
        self,
        network: Network,
        text: TextShape,
        audio: AudioShape | None,
        weights: Weights,
        *,
        kernels: Kernels | None = None,
    ) -> None:
        """Everything is packed and compiled. ``network``, which may be on the meta device, says which token
        stands for audio and how positions are rotated. ``kernels`` run the text model; ``None``: our
        own where the processor has what they need, else OpenVINO.

        The packed weights are a copy, so the pages that they were read from are given back, all
        along: they never add up to a second copy.

        Raises:
            ModelError: OpenVINO refuses a graph, or the kernels do not suit the model or processor.
        """
        self.parameters = parameter_count(text, audio)
        self.weights = weights
        self._audio_token: int = network.audio_token_id
        rotary: Any = type(network.model.rotary_emb)
        self._rotary = rotary(network.model.config)
        self._window = text.window
        stated = int(network.model.config.max_position_embeddings)
        self.context = stated if text.window is None else min(stated, text.window)
        """Tokens that a sequence may have."""
        self.token_bytes = 2 * 4 * text.layers * text.kv_heads * text.head_dim
        """Bytes of a token in a cache."""
        self._rotary_cache = np.empty((2, 0, text.head_dim), np.float32)
        self._lock = threading.Lock()
        own = available() and suits(text, weights.matrix("layers.0.qkv").bits)
        if kernels == "own" and not own:
            raise ModelError(
                "our own kernels take a processor with AVX2 or AVX-512 VNNI, on Linux or macOS, and widths "
                "that are multiples of 4 in 8 bits and of 8 in 4"
            )
        with weights.giving_back():
            self._text: TextRunner = (
                OwnText(text, weights)
                if own and kernels != "openvino"
                else GraphText(text, weights)
            )
            self._tower = None if audio is None else Tower(audio, weights)

    @property
    def name(self) -> str:
        """The text model's engine and its version."""
        return self._text.name

    def cache(self) -> RoomyCache:
        """An empty KV cache of a new sequence."""
        found: RoomyCache = self._text.cache()
        return found

    def embed(self, prompt: Prompt) -> NDArray[np.float32]:
        """``(n, hidden)``: embedded token ids, with the audio in place of its placeholders."""
        ids = np.array(prompt.token_ids)
        embedded = self.weights.embed(ids)
        if prompt.features is None:
            return embedded
        audio = self.encode_audio(prompt.features)
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

    def run(self, embedded: NDArray[np.float32], cache: RoomyCache, wanted: int) -> Tensor:
        """Append ``embedded (n, hidden)`` to ``cache``. Returns ``(wanted, V) float32``: the logits of
        the last tokens. Many tokens are run in parts, so that memory is linear in them and other
        sequences take their turns.

        Raises:
            ModelError: the threads of our own kernels did not meet, or the sequence is longer than what the
                family attends to at once.
        """
        rows, count, before = [], len(embedded), cache.length
        if self._window is not None and before + count > self._window:
            raise ModelError(
                f"this model attends to its last {self._window} tokens, and quantised it takes no more; "
                "give a shorter request, or leave out the quantization"
            )
        cache.reserve(before + count)
        most = min(_AT_ONCE, max(1, _MOST_SCORES // (before + count)))
        try:
            for begin in range(0, count, most):
                part = embedded[begin : begin + most]
                with self._lock:
                    cos_sin = self._cos_sin(cache.length + len(part))[:, cache.length :]
                    # Neither engine can be asked for none.
                    asked = min(len(part), max(1, wanted - (count - begin - len(part))))
                    rows.append(self._text.run(part, cos_sin, cache, asked))
        except BaseException:
            cache.length = before
            raise
        return rows[0] if len(rows) == 1 else torch.cat(rows)[-wanted:]

    def encode_audio(self, features: NDArray[np.float16]) -> NDArray[np.float32]:
        """``(n, hidden)``: the embeddings of one recording."""
        if self._tower is None:
            raise ModelError("this model was loaded without its audio tower")
        with self._lock:
            return self._tower.encode_audio(features)

    def _cos_sin(self, length: int) -> NDArray[np.float32]:
        """Cosines and sines of the first ``length`` positions, ``(2, length, head dim)``."""
        if length > self._rotary_cache.shape[1]:
            positions = torch.arange(max(length, 2 * self._rotary_cache.shape[1]))
            # Where a family has three rows of positions, those of text and audio are equal.
            tables = self._rotary(torch.empty(0), positions[None])
            self._rotary_cache = torch.stack([table[0] for table in tables]).numpy()
        return self._rotary_cache[:, :length]
