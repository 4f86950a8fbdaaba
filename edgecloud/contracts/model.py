"""The protocols of a model, of an edge and of a clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from edgecloud.contracts.cloud import (
    Pending,
    T,
)
from edgecloud.contracts.samples import Prompt
from edgecloud.contracts.sampling import Distribution
from edgecloud.contracts.tokens import TokenStats

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Clock", "Drafted", "EdgeModel", "Model", "Sized"]


class Clock(Protocol):
    """Seconds, rising. ``wall`` is ``time.perf_counter``; ``modelled`` is discrete-event time."""

    @property
    def name(self) -> str:
        """``wall`` or ``modelled``."""

    def now(self) -> float:
        """Seconds since a moment of the clock's own; only differences mean something."""

    def beside(self, work: Callable[[], T]) -> Pending[T]:
        """Let the edge do ``work`` while the caller goes on; its errors come with the result."""
        ...


@runtime_checkable
class Sized(Protocol):
    """A model that can tell how much its cache takes before it grows."""

    def cache_bytes_for(self, prompt_length: int, length: int) -> int:
        """Most bytes that the cache takes, with what is set aside, once it holds ``length`` tokens; where
        it is empty it begins with a prompt of ``prompt_length``."""
        ...


class Model(Protocol):
    """One sequence on one model, edge or cloud: a cache that grows, and can be cut back.

    The sequence is the prompt, then generated tokens; ``length`` counts what the cache holds.
    Logits are float32 over the tokenizer's real vocabulary ``V`` (not the padded one).
    """

    @property
    def vocab_size(self) -> int:
        """V, the last dimension of the logits: the tokenizer's length, without padding."""

    @property
    def length(self) -> int:
        """Tokens in the cache: the prompt and what was appended and not rolled back; 0 before a prefill."""

    @property
    def cache_bytes(self) -> int:
        """Bytes that the cache takes in memory, with what is set aside."""
        ...

    def prefill(self, prompt: Prompt) -> Tensor:
        """Start over with ``prompt``. Returns ``(V,)``: the logits of the first generated token."""
        ...

    def prefill_in_parts(self, prompt: Prompt, most: int) -> Iterator[Tensor | None]:
        """:meth:`prefill` in forwards of up to ``most`` tokens, each made when it is asked for; of fewer behind
        a long text, so that none takes much longer than the first.

        Gives ``None`` for each but the last, which gives what :meth:`prefill` returns.
        """
        ...

    def extend(self, tokens: Sequence[int]) -> Tensor:
        """Append ``n >= 1`` tokens in one forward. Returns ``(n, V)``: row ``i`` follows token ``i``."""
        ...

    def rollback(self, length: int) -> None:
        """Cut the cache back to its first ``length`` tokens; never into the prompt.

        Raises ``ValueError`` when ``length`` is outside ``prompt length .. self.length``.
        """
        ...

    def new_sequence(self) -> Model:
        """Another, empty sequence on the same weights."""
        ...


@dataclass(frozen=True, slots=True)
class Drafted:
    """A draft token with its statistics, and the draft probabilities q that it was drawn from where it was
    drawn at random."""

    token: int
    stats: TokenStats
    q: Distribution | None = None


class EdgeModel(Protocol):
    """One request on the edge: a sequence that grows and can be cut back, and its own next token.

    The next token follows all that the sequence holds. After a rollback into the output it is known again once
    a token was appended; after one to the prompt it is that of the prefill.
    """

    def prefill(self, prompt: Prompt) -> None:
        """Start over with ``prompt``."""
        ...

    def extend(self, tokens: Sequence[int]) -> None:
        """Append ``n >= 1`` tokens in one forward."""
        ...

    def rollback(self, length: int) -> None:
        """Cut the sequence back to its first ``length`` tokens; never into the prompt."""
        ...

    def choose(self, output: Sequence[int]) -> int:
        """The next token; ``output`` is what the sequence holds after the prompt.

        Raises ``ValueError`` where it is not known.
        """
        ...

    def draft(self, output: Sequence[int]) -> Drafted:
        """The same token with its statistics, which take time to compute."""
        ...
