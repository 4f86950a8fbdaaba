"""Common part of the models that keep a cache of one sequence."""

from __future__ import annotations

import inspect
from typing import Any, Generic, Protocol, TypeVar

from edgecloud.models.checks import check_rollback

__all__ = ["Cache", "CachedModel", "cache_argument", "most_set_aside", "roomier"]

_ROOM = 256
"""Tokens set aside after a prompt; a longer answer doubles what there is."""


def cache_argument(model: Any) -> str:
    """The name by which the forward of a model of transformers takes its cache: another one since 5.24, which gives
    a notice about the former."""
    taken = inspect.signature(model.forward).parameters
    return "cache" if "cache" in taken else "past_key_values"


def roomier(length: int, capacity: int) -> int:
    """New capacity, in tokens, of a cache for ``length`` where ``capacity`` is too small."""
    return max(length + _ROOM, 2 * capacity)


def most_set_aside(capacity: int, prompt_length: int, length: int) -> int:
    """Most tokens that are set aside in a cache of ``capacity`` by the time it holds ``length``, in
    however many steps it grows; where it is empty it begins with a prompt."""
    reached = capacity or roomier(prompt_length, 0)
    while reached < length:
        reached = roomier(0, reached)
    return reached


class Cache(Protocol):
    """Keys and values of one sequence; what lies behind ``length`` tokens counts for nothing."""

    length: int

    @property
    def nbytes(self) -> int:
        """Bytes set aside."""
        ...


Kept = TypeVar("Kept", bound=Cache)


class CachedModel(Generic[Kept]):
    """A part of :class:`edgecloud.contracts.Model`: what can be said of the cache, and cutting it back."""

    def __init__(self, cache: Kept, *, vocab_size: int) -> None:
        self._cache = cache
        self._vocab_size = vocab_size
        self._prompt_length = 0

    @property
    def vocab_size(self) -> int:
        """V, the tokenizer's length; padding of the logits is cut off."""
        return self._vocab_size

    @property
    def length(self) -> int:
        """Tokens in the cache."""
        return self._cache.length

    @property
    def cache_bytes(self) -> int:
        """Bytes that the KV cache has reserved."""
        return self._cache.nbytes

    def rollback(self, length: int) -> None:
        """Keep the first ``length`` tokens; the memory stays reserved.

        Raises:
            ValueError: ``length`` is inside the prompt or beyond what is held.
        """
        check_rollback(length, prompt_length=self._prompt_length, held=self.length)
        self._cache.length = length
