"""A quantised network as a :class:`edgecloud.contracts.Model`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from edgecloud.contracts import Prompt
from edgecloud.models.cached import CachedModel, roomier
from edgecloud.models.checks import check_log_mel, check_started, check_vocabulary
from edgecloud.models.memory import memory_advice
from edgecloud.models.parts import in_parts
from edgecloud.models.quantized.engine import Engine, RoomyCache

__all__ = ["QuantizedLM"]


class QuantizedLM(CachedModel[RoomyCache]):
    """One sequence on a quantised network.

    ``vocab_size`` is the tokenizer's real length; logits beyond it (padding) are never seen.
    """

    def __init__(self, engine: Engine, *, vocab_size: int) -> None:
        super().__init__(engine.cache(), vocab_size=vocab_size)
        self._engine = engine

    @property
    def engine_name(self) -> str:
        """The text model's engine and its version."""
        return self._engine.name

    @property
    def parameters(self) -> int:
        """Number of the checkpoint's parameters that are used."""
        return self._engine.parameters

    @property
    def weight_bytes(self) -> int:
        """Bytes of the text model's matrices, all of which a step reads."""
        return self._engine.weights.step_bytes

    @property
    def context(self) -> int:
        """Context length that the model was made for, or its attention's window where that is shorter, tokens."""
        return self._engine.context

    def cache_bytes_for(self, prompt_length: int, length: int) -> int:
        """See :class:`edgecloud.contracts.Sized`: most that a cache has after it grew, in however many steps."""
        size = self._engine.token_bytes
        held = self.cache_bytes // size or roomier(prompt_length, 0)
        return size * (held if length <= held else roomier(length, length - 1))

    def encode_audio(self, features: NDArray[np.float16]) -> NDArray[np.float32]:
        """``(n, hidden)``: the audio tower's embeddings of log-mel ``(mel bins, T)``."""
        return self._engine.encode_audio(features)

    def prefill(self, prompt: Prompt) -> Tensor:
        """As :meth:`edgecloud.contracts.Model.prefill`, in one forward."""
        check_log_mel(prompt)
        self._cache = self._engine.cache()
        self._prompt_length = prompt.length
        with memory_advice("cpu"):
            embedded = self._engine.embed(prompt)
            return self._engine.run(embedded, self._cache, 1)[0, : self._vocab_size]

    def prefill_in_parts(self, prompt: Prompt, most: int) -> Iterator[Tensor | None]:
        """As :meth:`edgecloud.contracts.Model.prefill_in_parts`; the prompt is embedded at once."""
        check_log_mel(prompt)
        self._cache = self._engine.cache()
        self._prompt_length = prompt.length
        with memory_advice("cpu"):
            self._cache.reserve(prompt.length)
            embedded = self._engine.embed(prompt)
        for part in in_parts(prompt.length, most):
            with memory_advice("cpu"):
                logits = self._engine.run(embedded[part], self._cache, 1)
            yield logits[0, : self._vocab_size] if self.length == prompt.length else None

    def extend(self, tokens: Sequence[int]) -> Tensor:
        """As :meth:`edgecloud.contracts.Model.extend`."""
        check_started(tokens, self.length)
        check_vocabulary(tokens, self._vocab_size)
        with memory_advice("cpu"):
            embedded = self._engine.tokens(tokens)
            return self._engine.run(embedded, self._cache, len(tokens))[:, : self._vocab_size]

    def new_sequence(self) -> QuantizedLM:
        """A new sequence on the same weights."""
        return QuantizedLM(self._engine, vocab_size=self._vocab_size)
