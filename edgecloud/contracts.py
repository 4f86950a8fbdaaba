"""The vocabulary of the whole system: what is passed between its parts, and the seams.

Data is in frozen dataclasses that know nothing of models, processes or files. The protocols at the
end are the seams: a new model, cloud or clock is one class with these methods.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar, runtime_checkable

from edgecloud.draws import GREEDY, Distribution, Sampling

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = [
    "Acceptance",
    "Clock",
    "CloudChunk",
    "CloudCost",
    "CloudModel",
    "CloudSession",
    "Commit",
    "Event",
    "EventKind",
    "Language",
    "Model",
    "Origin",
    "Pending",
    "Prompt",
    "PromptType",
    "Sample",
    "Sized",
    "StopLimits",
    "StopReason",
    "TokenStats",
    "Trace",
    "Verdict",
]

Language = Literal["chinese", "english"]
PromptType = Literal["concise", "default", "detailed"]
Origin = Literal["edge", "verified", "corrected", "bonus", "cloud"]
"""Who chose a token: the edge alone; the edge, then kept by the cloud; the cloud in place of a rejected
draft; the cloud after a wholly kept block; the cloud decoding by itself."""
StopReason = Literal["end_of_text", "token_limit", "sentence_limit"]
EventKind = Literal[
    "features", "prefill", "draft", "verify", "generate", "degrade", "commit", "finish"
]


@dataclass(frozen=True, slots=True)
class Sample:
    """One entry of a manifest, validated.

    ``references`` are captions in ``reference_language``; empty when the entry has none. Either
    ``audio_path`` or, in a text manifest, ``prompt`` is there."""

    file_id: str
    index: int
    dataset: str
    audio_path: Path | None
    references: tuple[str, ...]
    reference_language: Language
    transcription: str | None = None
    prompt: str | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """What both models are given: token ids with the audio placeholders expanded, and the features.

    ``features``: log-mel ``(n_mels, T) float16``, rounded once on the edge so that every side sees the
    same numbers; ``None`` for text alone. ``recording``: as FLAC, only where ``--upload-audio`` is said.
    """

    token_ids: tuple[int, ...]
    features: NDArray[np.float16] | None = None
    recording: bytes | None = field(default=None, repr=False)

    @property
    def length(self) -> int:
        return len(self.token_ids)


@dataclass(frozen=True, slots=True)
class TokenStats:
    """What the edge knows about one token it drafted, over the tokenizer's real vocabulary.

    ``entropy`` of the whole distribution in nats, ``margin`` between the two largest probabilities,
    ``logprob`` of the drafted token in nats; ``position`` in the output, from 0 on, and
    ``recent_corrections``, how many of the eight output tokens before it the cloud corrected.
    """

    entropy: float
    margin: float
    logprob: float
    position: int = 0
    recent_corrections: int = 0


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Which drafted tokens the cloud keeps: the rule's name (see :mod:`edgecloud.decoding.acceptance`)
    and its settings. Travels with every verification.

    ``probability_ratio`` and ``regret_nats`` are the bounded rule's: the least share of the top
    probability, and the most log probability given away in the rest of the caption.
    """

    rule: str = "rank"
    rank_threshold: int = 20
    probability_ratio: float = 0.3
    regret_nats: float = math.inf


@dataclass(frozen=True, slots=True)
class StopLimits:
    """When a caption ends, other than by the model's end of text. ``None``: no sentence limit."""

    max_new_tokens: int = 128
    max_sentences: int | None = None


@dataclass(frozen=True, slots=True)
class CloudCost:
    """What one answer of the cloud cost. Tokens, bytes on the wire, seconds the cloud was busy.

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
        """What the verdict makes of the draft: what it keeps, and what the cloud added."""
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
    """What is under way elsewhere. ``result()`` waits for it, once; ``ready()``: whether it is there."""

    result: Callable[[], T]
    ready: Callable[[], bool] = lambda: True


@dataclass(frozen=True, slots=True)
class Commit:
    """Tokens added to the output that will not be taken back. ``at_s`` seconds after request start."""

    tokens: tuple[int, ...]
    origins: tuple[Origin, ...]
    at_s: float


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a request, from ``start_s`` to ``end_s`` after its start.

    ``data`` holds JSON values only; :mod:`edgecloud.decoding.recorder` has its keys for each kind.
    """

    kind: EventKind
    start_s: float
    end_s: float
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trace:
    """The timed list of what happened in one request, in order of ``start_s``; the only witness from
    which latency, speculation and cost are computed. Request start is second 0."""

    events: tuple[Event, ...]

    def of(self, *kinds: EventKind) -> list[Event]:
        """The events of these kinds, in order."""
        return [event for event in self.events if event.kind in kinds]

    def to_json(self) -> list[dict[str, Any]]:
        return [
            {"kind": e.kind, "start_s": e.start_s, "end_s": e.end_s, **e.data} for e in self.events
        ]

    @classmethod
    def from_json(cls, rows: Sequence[Mapping[str, Any]]) -> Trace:
        events = []
        for row in rows:
            data = dict(row)
            events.append(Event(data.pop("kind"), data.pop("start_s"), data.pop("end_s"), data))
        return cls(tuple(events))


class Clock(Protocol):
    """Seconds, rising. ``wall`` is ``time.perf_counter``; ``modelled`` is discrete-event time."""

    @property
    def name(self) -> str: ...

    def now(self) -> float: ...

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
    def vocab_size(self) -> int: ...

    @property
    def length(self) -> int: ...

    @property
    def cache_bytes(self) -> int:
        """What the cache takes in memory, with what is set aside."""
        ...

    def prefill(self, prompt: Prompt) -> Tensor:
        """Start over with ``prompt``. Returns ``(V,)``: the logits of the first generated token."""
        ...

    def prefill_in_parts(self, prompt: Prompt, most: int) -> Iterator[Tensor | None]:
        """:meth:`prefill` in forwards of up to ``most`` tokens, each made when it is asked for.

        Gives ``None`` for each but the last, which gives what :meth:`prefill` returns.
        """
        ...

    def extend(self, tokens: Sequence[int]) -> Tensor:
        """Append ``n >= 1`` tokens in one forward. Returns ``(n, V)``: row ``i`` follows token ``i``."""
        ...

    def rewind(self, length: int) -> None:
        """Cut the cache back to its first ``length`` tokens; never into the prompt.

        Raises ``ValueError`` when ``length`` is outside ``prompt length .. self.length``.
        """
        ...

    def fresh(self) -> Model:
        """Another, empty sequence on the same weights."""
        ...


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
        drawn_from: Sequence[Distribution] = (),
    ) -> Pending[Verdict]:
        """Score ``1..`` drafted tokens in one forward and judge them, then go on alone for up to
        ``continuation`` tokens. Unless decoding is greedy, ``drawn_from`` says for each drafted token
        what it was drawn from. One request is under way at a time."""
        ...

    def verify(
        self,
        committed: Sequence[int],
        draft: Sequence[int],
        acceptance: Acceptance,
        continuation: int = 0,
        drawn_from: Sequence[Distribution] = (),
    ) -> Verdict:
        """:meth:`submit`, and wait for the verdict."""
        return self.submit(committed, draft, acceptance, continuation, drawn_from).result()

    def generate(self, committed: Sequence[int], limits: StopLimits) -> Iterator[CloudChunk]:
        """Decode after ``committed``, token by token, to the end of text or a limit."""
        ...

    def close(self) -> None:
        """Drop the session's state. Safe to call twice."""
        ...


class CloudModel(Protocol):
    """A large model somewhere. ``open`` hands it a prompt, and says how the session chooses its tokens;
    the prefill may wait for the first call."""

    def open(self, prompt: Prompt, sampling: Sampling = GREEDY) -> CloudSession: ...
