"""A text model whose layers lie on several devices, run one device after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor

from edgecloud.models.decoder import Decoder, KVCache
from edgecloud.models.networks import TextModel
from edgecloud.models.placing import Placement

__all__ = ["StagedCache", "StagedDecoder", "decoder_of"]


class StagedCache(KVCache):
    """A sequence's keys and values, each stage's on its own device."""

    def __init__(self, stages: int) -> None:
        super().__init__()
        self.parts = tuple(KVCache() for _ in range(stages))

    @property
    def nbytes(self) -> int:
        """Bytes reserved, on all devices together."""
        return sum(part.nbytes for part in self.parts)

    @property
    def capacity(self) -> int:
        """Tokens that the largest part has room for."""
        return max(part.capacity for part in self.parts)


class StagedDecoder(Decoder):
    """:class:`Decoder` in stages: hidden states go from device to device, nothing else does."""

    def __init__(self, model: TextModel, parts: Sequence[slice]) -> None:
        """``parts`` are the layers of each stage, in order; those of one lie on one device."""
        self._stages = [Decoder(model, part) for part in parts]

    @property
    def token_bytes(self) -> int:
        """Bytes of keys and values that a token takes, on all devices together."""
        return sum(stage.token_bytes for stage in self._stages)

    def cache(self) -> KVCache:
        """An empty cache, a part for each stage."""
        return StagedCache(len(self._stages))

    def reserve(self, cache: KVCache, count: int) -> None:
        """Make room for ``count`` more tokens on every device."""
        for stage, part in zip(self._stages, cast("StagedCache", cache).parts, strict=True):
            part.length = cache.length
            stage.reserve(part, count)

    def __call__(self, embedded: Tensor, spans: Sequence[tuple[KVCache, int]]) -> Tensor:
        hidden = embedded
        caches = [cast("StagedCache", cache) for cache, _ in spans]
        for number, stage in enumerate(self._stages):
            for staged in caches:
                # The sequence may have been set back since.
                staged.parts[number].length = staged.length
            inside = [(s.parts[number], n) for s, (_, n) in zip(caches, spans, strict=True)]
            hidden = stage(hidden.to(stage.device), inside)
        for cache, count in spans:
            cache.length += count
        return hidden


def decoder_of(model: TextModel, place: Placement) -> Decoder:
    """The decoder of a model whose layers lie where ``place`` says."""
    parts = place.parts(len(model.layers))
    return Decoder(model) if len(parts) == 1 else StagedDecoder(model, parts)
