"""The edge on a model of this process: from logits to the next token and its statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from torch import Tensor

from edgecloud.contracts import Drafted, Model, Prompt
from edgecloud.contracts.sampling import GREEDY, Sampling
from edgecloud.decoding.draft_scores import choose
from edgecloud.decoding.penalties import penalized
from edgecloud.decoding.sampling import draw

__all__ = ["LocalEdge"]


class LocalEdge:
    """A :class:`edgecloud.contracts.EdgeModel` whose tokens are the ``model``'s likeliest, or drawn as
    ``sampling`` says."""

    def __init__(self, model: Model, sampling: Sampling = GREEDY) -> None:
        self._model = model
        self._sampling = sampling
        self._prompt = Prompt(())
        self._first: Tensor | None = None
        """Logits ``(V,)`` after the prompt."""
        self._next: Tensor | None = None
        """Logits ``(V,)`` after what the cache holds, where they are at hand."""

    def prefill(self, prompt: Prompt) -> None:
        """Prefill the prompt, and keep the logits of its last token."""
        self._first = self._next = self._model.prefill(prompt)
        self._prompt = prompt

    def extend(self, tokens: Sequence[int]) -> None:
        """Append ``tokens`` in one forward, and keep the logits of the last."""
        self._next = self._model.extend(tokens)[-1]

    def rollback(self, length: int) -> None:
        """Cut the model's cache; only the logits after the prompt are still at hand then."""
        self._model.rollback(length)
        self._next = self._first if length == self._prompt.length else None

    def choose(self, output: Sequence[int]) -> int:
        """The likeliest token, or one drawn after ``output``.

        Raises:
            ValueError: nothing was appended since the last rollback.
        """
        logits = self._logits(output)
        if self._sampling.greedy:
            return int(logits.argmax())
        return draw(logits, self._sampling, output)[0]

    def draft(self, output: Sequence[int]) -> Drafted:
        """As :meth:`choose`, with the token's statistics and what it was drawn from.

        Raises:
            ValueError: nothing was appended since the last rollback.
        """
        logits = self._logits(output)
        token, stats = choose(logits)
        if self._sampling.greedy:
            return Drafted(token, stats)
        token, q = draw(logits, self._sampling, output)
        return Drafted(token, replace(stats, logprob=float(logits.log_softmax(dim=-1)[token])), q)

    def _logits(self, output: Sequence[int]) -> Tensor:
        """The logits ``(V,)`` after ``output``, under the penalties of the sampling."""
        if self._next is None:
            raise ValueError("the logits here are not at hand: prefill or extend comes first")
        context = chain(self._prompt.token_ids, output)
        return penalized(self._next[None], self._sampling, context)[0]
