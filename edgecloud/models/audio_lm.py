"""A checkpoint's network as a :class:`edgecloud.contracts.Model`; :mod:`edgecloud.models.decoder` runs
the text model's layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from edgecloud.contracts import Prompt
from edgecloud.errors import ModelError
from edgecloud.models.assembly import assemble, on_meta
from edgecloud.models.cached import CachedModel, most_set_aside
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.checks import check_log_mel, check_started, check_vocabulary
from edgecloud.models.computing import computing
from edgecloud.models.decoder import Decoder, KVCache
from edgecloud.models.memory import memory_advice
from edgecloud.models.networks import Network
from edgecloud.models.placing import AUTO_MAP
from edgecloud.models.stages import decoder_of

__all__ = [
    "AudioLM",
    "described_network",
    "extend_many",
    "pick_device",
    "pick_dtype",
]


def described_network(checkpoint: Checkpoint, dtype: torch.dtype) -> Network:
    """The network that a checkpoint's config.json describes, without memory or weights.

    Raises:
        CheckpointError: it describes none.
    """
    return on_meta(checkpoint, dtype)


class AudioLM(CachedModel[KVCache]):
    """One sequence on a network: the cache, and the three things that can be done to it.

    ``vocab_size`` is the tokenizer's real length; logits beyond it (padding) are never seen.
    """

    def __init__(self, thinker: Network, decoder: Decoder, *, vocab_size: int) -> None:
        super().__init__(decoder.cache(), vocab_size=vocab_size)
        self._thinker = thinker
        self._decoder = decoder
        self._embeddings: Tensor = thinker.model.embed_tokens.weight
        self._device = self._embeddings.device

    @classmethod
    def load(cls, checkpoint: Checkpoint, *, vocab_size: int, device: str, dtype: str) -> AudioLM:
        """Load the network of ``checkpoint`` onto ``device``, or spread it out (``auto-map``).

        Raises:
            CheckpointError: weights missing, broken or of other shapes.
            ModelError: the device does not exist.
            OutOfMemoryError: the weights do not fit on the device.
        """
        with memory_advice(device):
            network, place = assemble(
                checkpoint,
                vocab_size=vocab_size,
                device=device,
                dtype=pick_dtype(dtype, device),
            )
            decoder = decoder_of(network.model, place)
        return cls(network, decoder, vocab_size=vocab_size)

    @property
    def parameters(self) -> int:
        """Number of parameters that are loaded."""
        return sum(parameter.numel() for parameter in self._thinker.parameters())

    @property
    def device(self) -> str:
        """The device of the weights, as torch writes it."""
        return str(self._device)

    @property
    def dtype(self) -> str:
        """Precision of the weights: ``float32``, ``bfloat16``."""
        return str(self._thinker.lm_head.weight.dtype).removeprefix("torch.")

    @property
    def context(self) -> int:
        """Context length that the model was made for, tokens."""
        return int(self._thinker.model.config.max_position_embeddings)

    def cache_bytes_for(self, prompt_length: int, length: int) -> int:
        """See :class:`edgecloud.contracts.Sized`."""
        tokens = most_set_aside(self._cache.capacity, prompt_length, length)
        return tokens * self._decoder.token_bytes

    def prefill(self, prompt: Prompt) -> Tensor:
        """As :meth:`edgecloud.contracts.Model.prefill`, in one forward."""
        check_log_mel(prompt)
        self._cache = self._decoder.cache()
        self._prompt_length = prompt.length
        with computing(self._thinker, self._device):
            hidden = self._decoder(self._thinker.embed(prompt)[0], [(self._cache, prompt.length)])
            return self._logits(hidden[-1])

    def prefill_in_parts(self, prompt: Prompt, most: int) -> Iterator[Tensor | None]:
        """As :meth:`edgecloud.contracts.Model.prefill_in_parts`."""
        check_log_mel(prompt)
        self._cache = self._decoder.cache()
        self._prompt_length = prompt.length
        parts = self._thinker.embed_in_parts(prompt, most)
        while self.length < prompt.length:
            with computing(self._thinker, self._device):
                part = next(parts)
                if not self.length:
                    self._decoder.reserve(self._cache, prompt.length)
                hidden = self._decoder(part, [(self._cache, len(part))])
                ended = self.length == prompt.length
                logits = self._logits(hidden[-1]) if ended else None
            yield logits

    def extend(self, tokens: Sequence[int]) -> Tensor:
        """As :meth:`edgecloud.contracts.Model.extend`."""
        return extend_many([self], [tokens])[0]

    def new_sequence(self) -> AudioLM:
        """A new sequence on the same weights."""
        return AudioLM(self._thinker, self._decoder, vocab_size=self._vocab_size)

    def _logits(self, hidden: Tensor) -> Tensor:
        """``(…, V) float32`` from ``hidden (…, hidden size)``."""
        head = self._thinker.lm_head
        # Elsewhere only where a tied embedding lies on another device than the last layer.
        logits: Tensor = head(hidden.to(head.weight.device))
        return logits[..., : self._vocab_size].float()

    def _check(self, tokens: Sequence[int]) -> None:
        check_started(tokens, self.length)
        check_vocabulary(tokens, self._vocab_size)


def extend_many(models: Sequence[AudioLM], tokens: Sequence[Sequence[int]]) -> list[Tensor]:
    """:meth:`AudioLM.extend` of several sequences on the same weights, in one forward.

    Returns each sequence's ``(n, V)``, equal to its own ``extend`` up to rounding. Nothing has
    changed in any of them when it raises.

    Raises:
        ValueError: no tokens for a sequence, or one without a prompt.
        ModelError: a token outside the vocabulary.
        OutOfMemoryError: the device has no room for the caches.
    """
    for model, new in zip(models, tokens, strict=True):
        model._check(new)
    first = models[0]
    counts = [len(new) for new in tokens]
    with computing(first._thinker, first._device):
        ids = torch.tensor([token for new in tokens for token in new], device=first._device)
        hidden = first._decoder(
            functional.embedding(ids, first._embeddings),
            [(model._cache, count) for model, count in zip(models, counts, strict=True)],
        )
        logits = first._logits(hidden)
        return [logits] if len(models) == 1 else list(torch.split(logits, counts))


def pick_device(name: str) -> str:
    """``auto`` is CUDA when there is one; ``auto-map`` stays, for the loader to spread out.

    Raises:
        ModelError: CUDA was asked for by name and is not there.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == AUTO_MAP:
        return name
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError(f"unknown device {name!r}; use cpu, cuda or cuda:N") from error
    if device.type == "cuda" and not (
        torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()
    ):
        raise ModelError(f"device {name} is not available here; use cpu, or check the CUDA driver")
    return name


def pick_dtype(name: str, device: str) -> torch.dtype:
    """``auto`` is float16 on CUDA and float32 on a CPU."""
    if name == "auto":
        on_cuda = torch.cuda.is_available() if device == AUTO_MAP else device.startswith("cuda")
        name = "float16" if on_cuda else "float32"
    dtype = getattr(torch, name)
    if not isinstance(dtype, torch.dtype):
        raise ModelError(f"unknown precision {name!r}")
    return dtype
