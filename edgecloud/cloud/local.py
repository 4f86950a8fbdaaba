"""The verifier in this process: sessions on a large model, each with a cache that is kept."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from edgecloud.contracts import (
    Acceptance,
    CloudChunk,
    CloudCost,
    CloudSession,
    Model,
    Prompt,
    StopLimits,
    Verdict,
)
from edgecloud.decoding.greedy import judge
from edgecloud.decoding.stopping import Stopping
from edgecloud.errors import WireError

__all__ = ["LocalCloud", "LocalSession"]


class LocalCloud:
    """A :class:`edgecloud.contracts.CloudModel` on a model of this process.

    ``stopping`` says what ends a text in the model's vocabulary; its limits are replaced by each
    request's own.
    """

    def __init__(self, model: Model, stopping: Stopping) -> None:
        self._model = model
        self._stopping = stopping

    def open(self, prompt: Prompt) -> CloudSession:
        return LocalSession(self._model.fresh(), prompt, self._stopping)


class LocalSession:
    """One request. The prompt is prefilled at the first call; later calls compute only the suffix."""

    def __init__(self, model: Model, prompt: Prompt, stopping: Stopping) -> None:
        self._model = model
        self._prompt = prompt
        self._stopping = stopping
        self._known: list[int] = []
        """Output tokens in the cache."""
        self._first: Tensor | None = None
        """Logits ``(V,)`` after the prompt, once it is prefilled."""
        self._next: Tensor | None = None
        """Logits ``(V,)`` after the last token in the cache."""

    def verify(
        self, committed: Sequence[int], draft: Sequence[int], acceptance: Acceptance
    ) -> Verdict:
        if not draft:
            raise WireError("a verification needs at least one drafted token")
        began = time.perf_counter()
        logits, cost = self._extend(committed, draft)
        verdict = judge(logits, draft, acceptance, end_ids=self._stopping.end_ids)
        self._keep(len(committed) + verdict.kept, logits[verdict.kept])
        chosen = 0 if verdict.token is None else 1
        busy = time.perf_counter() - began
        return replace(
            verdict,
            cost=replace(cost, verified_tokens=len(draft), generated_tokens=chosen, busy_s=busy),
        )

    def generate(self, committed: Sequence[int], limits: StopLimits) -> Iterator[CloudChunk]:
        stopping = replace(self._stopping, limits=limits)
        if stopping.room(committed) < 1:
            raise WireError("generate: the token limit leaves no room for a token")
        output = list(committed)
        reason = None
        while reason is None:
            began = time.perf_counter()
            logits, cost = self._extend(output, ())
            tokens, reason = stopping.cut(output, [int(logits[-1].argmax())])
            output += tokens
            busy = time.perf_counter() - began
            # Its own last token is a step of decoding, not the ingestion of something unseen.
            ingested = cost.ingested_tokens if len(output) == len(committed) + 1 else 0
            cost = replace(
                cost, ingested_tokens=ingested, generated_tokens=len(tokens), busy_s=busy
            )
            yield CloudChunk(tokens, cost, last=reason is not None)

    def close(self) -> None:
        self._first = self._next = None
        self._known = []
        self._model = self._model.fresh()

    def _extend(self, committed: Sequence[int], draft: Sequence[int]) -> tuple[Tensor, CloudCost]:
        """Bring the cache to ``committed + draft``; logits ``(len(draft) + 1, V)`` from the last
        committed token on."""
        self._check(committed)
        self._check(draft)
        prefilled = 0
        if self._first is None or self._next is None:
            self._check(self._prompt.token_ids)
            self._first = self._next = self._model.prefill(self._prompt)
            prefilled = self._prompt.length
        shared = _common_prefix(self._known, committed)
        if shared < len(self._known):
            # The logits after the last shared token are gone: compute that token again.
            shared = max(0, shared - 1)
            self._keep(shared, self._first)
        new = [*committed[shared:], *draft]
        rows = self._next[None]
        if new:
            rows = torch.cat((rows, self._model.extend(new)))
        self._known = [*committed, *draft]
        self._next = rows[-1]
        cost = CloudCost(prefill_tokens=prefilled, ingested_tokens=len(committed) - shared)
        return rows[len(committed) - shared :], cost

    def _check(self, tokens: Sequence[int]) -> None:
        size = self._model.vocab_size
        if not all(0 <= token < size for token in tokens):
            raise WireError(f"a token is outside the vocabulary of {size}")

    def _keep(self, count: int, following: Tensor) -> None:
        """Cut the cache back to the first ``count`` output tokens; ``following`` are the logits there."""
        self._model.rewind(self._prompt.length + count)
        del self._known[count:]
        self._next = following


def _common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    for index, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return index
    return min(len(one), len(other))
