"""Values that pass between edge and cloud, and the protocols of a cloud and of its sessions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Generic, Protocol, TypeVar

from edgecloud.contracts.ranges import RankThreshold, Share, Unbounded, check_fields
from edgecloud.contracts.samples import Prompt
from edgecloud.contracts.sampling import GREEDY, Distribution, Sampling
from edgecloud.contracts.tokens import StopLimits

__all__ = [
    "Acceptance",
    "CloudChunk",
    "CloudCost",
    "CloudModel",
    "CloudSession",
    "Pending",
    "T",
    "Verdict",
]


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The choice of the draft tokens that the cloud keeps: the rule's name (see
    :mod:`edgecloud.decoding.acceptance`) and its settings. Travels with every verification.

    ``probability_ratio`` and ``regret_nats`` are the bounded rule's: the least share of the top
    probability, and the most log probability given away in the rest of the caption. ``own`` are numbers
    that another package's rule alone knows.

    Raises, when made:
        ConfigError: a value is out of range. Which rules there are is known where one is applied.
    """

    rule: str = "rank"
    rank_threshold: RankThreshold = 20
    probability_ratio: Share = 0.3
    regret_nats: Unbounded = math.inf
    own: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the values."""
        check_fields(self)


@dataclass(frozen=True, slots=True)
class CloudCost:
    """The cost of one answer of the cloud: tokens, bytes on the wire, seconds the cloud was busy.

    ``prefill_tokens`` prompt tokens computed for this answer (0 when the session's cache had them);
    ``verified_tokens`` drafted tokens scored; ``ingested_tokens`` committed tokens the cloud had not
    seen; ``generated_tokens`` tokens the cloud chose.
    """

    prefill_tokens: int = 0
    verified_tokens: int = 0
    ingested_tokens: int = 0
    generated_tokens: int = 0
    busy_s: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The cloud's answer to one draft of ``n`` tokens.

    ``kept`` drafted tokens stay, from the first on. ``token`` follows them: the cloud's own choice, a
    *correction* when ``kept < n`` and a *bonus* when the whole draft stays; ``None`` when the draft
    ended the text and stays whole. ``ranks`` of the drafted tokens in the cloud's distribution
    (0 = its first choice) and ``top_probs``, the probability of that choice at each of the ``n``
    positions, both at temperature 1. ``continuation``: what the cloud went on with after ``token``, as
    asked. ``regret`` in nats: how much likelier its first choices were than the kept tokens.
    """

    kept: int
    token: int | None
    ranks: tuple[int, ...] = ()
    top_probs: tuple[float, ...] = ()
    continuation: tuple[int, ...] = ()
    regret: float = 0.0
    cost: CloudCost = field(default_factory=CloudCost)

    def output(self, draft: Sequence[int]) -> list[int]:
        """Output tokens: the kept part of ``draft``, then the tokens that the cloud added."""
        own = [] if self.token is None else [self.token]
        return [*draft[: self.kept], *own, *self.continuation]


@dataclass(frozen=True, slots=True)
class CloudChunk:
    """Tokens the cloud chose by itself and sent on, what they cost since the last chunk, and whether
    they are the ``last`` ones."""

    tokens: tuple[int, ...]
    cost: CloudCost = field(default_factory=CloudCost)
    last: bool = False

    @classmethod
    def merged(cls, chunks: Iterable[CloudChunk]) -> CloudChunk:
        """One chunk for several: their tokens, and what they cost together."""
        parts = list(chunks)
        tokens = tuple(token for part in parts for token in part.tokens)
        cost = {f.name: sum(getattr(p.cost, f.name) for p in parts) for f in fields(CloudCost)}
        return cls(tokens, CloudCost(**cost), last=True)


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pending(Generic[T]):
    """Something under way elsewhere. ``result()`` waits for it, once; ``ready()`` is true once it is
    there."""

    result: Callable[[], T]
    ready: Callable[[], bool] = lambda: True


class CloudSession(Protocol):
    """One request's state on the cloud: the prompt and what is committed so far, in a cache that is
    kept between calls, so that each call computes only what is new.

    ``committed`` is always the whole output so far; a session finds out itself what it has not seen.
    Raises :class:`~edgecloud.errors.CloudError` when no usable answer comes in time.
    """

    def start(self, count: int) -> Pending[CloudChunk]:
        """Prefill now, and decode the first ``count`` tokens of the output; 0: prefill alone."""
        ...

    def submit(
        self,
        committed: Sequence[int],
        draft: Sequence[int],
        acceptance: Acceptance,
        continuation: int = 0,
        draft_probabilities: Sequence[Distribution] = (),
    ) -> Pending[Verdict]:
        """Score ``1..`` drafted tokens in one forward and decide which to keep, then go on alone for up to
        ``continuation`` tokens. Unless decoding is greedy, ``draft_probabilities`` says for each drafted
        token what it was drawn from. One request is under way at a time."""
        ...

    def verify(
        self,
        committed: Sequence[int],
        draft: Sequence[int],
        acceptance: Acceptance,
        continuation: int = 0,
        draft_probabilities: Sequence[Distribution] = (),
    ) -> Verdict:
        """:meth:`submit`, and wait for the verdict."""
        return self.submit(committed, draft, acceptance, continuation, draft_probabilities).result()

    def generate(self, committed: Sequence[int], limits: StopLimits) -> Iterator[CloudChunk]:
        """Decode after ``committed``, token by token, to the end of text or a limit."""
        ...

    def close(self) -> None:
        """Drop the session's state. Safe to call twice."""
        ...


class CloudModel(Protocol):
    """A large model somewhere. ``open`` hands it a prompt, and says how the session chooses its tokens;
    the prefill may wait for the first call."""

    def open(self, prompt: Prompt, sampling: Sampling = GREEDY) -> CloudSession:
        """A session for ``prompt`` whose tokens are chosen as ``sampling`` says."""
