"""The edge's side of speculation: drafting, with a cache that follows the committed text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor

from edgecloud.contracts import Model, Prompt, TokenStats
from edgecloud.contracts.sampling import GREEDY, Distribution, Sampling
from edgecloud.decoding.draft_scores import choose
from edgecloud.decoding.penalties import penalized
from edgecloud.decoding.sampling import draw

__all__ = ["Drafter", "common_prefix"]


class Drafter:
    """Drafts tokens after a text that grows or is cut back, greedily or as ``sampling`` says.

    The edge's cache holds the prompt and a prefix of text and draft. What it has not seen (the last
    drafted token, a correction, a continuation) is ingested in one forward, with the next step; a
    draft that turns out to be the text is not computed again.
    """

    def __init__(
        self,
        edge: Model,
        prompt: Prompt,
        *,
        end_ids: frozenset[int],
        sampling: Sampling = GREEDY,
    ) -> None:
        self._edge = edge
        self._sampling = sampling
        self._prompt = prompt
        self._end_ids = end_ids
        self._held: list[int] = []
        """Tokens in the cache after the prompt."""
        self._text: list[int] = []
        self._drafted: list[tuple[int, TokenStats]] = []
        """Draft tokens after the text; they may be asked for again."""
        self._draft_probabilities: dict[int, Distribution] = {}
        """q of the last token drafted for each position of the output."""
        self._first: Tensor | None = None
        """Logits ``(V,)`` after the prompt."""
        self._next: Tensor | None = None
        """Logits ``(V,)`` after what the cache holds, where they are at hand."""

    @property
    def ahead(self) -> int:
        """Tokens drafted after the text."""
        return len(self._drafted)

    def prefill(self) -> None:
        """Prefill the prompt on the edge; keeps the logits of its last token, ``(V,)``."""
        self._first = self._next = self._edge.prefill(self._prompt)

    def follow(self, text: Sequence[int], *, ended: bool = False) -> None:
        """Move to ``text``. Draft tokens that extend it are kept; otherwise, and when the text has
        ``ended``, the cache is rolled back to the common prefix and the draft is dropped."""
        common = common_prefix(self._path(), text)
        follows = not ended and len(self._text) <= len(text) == common
        self._drafted = self._drafted[common - len(self._text) :] if follows else []
        self._text = list(text)
        keep = len(self._held) if follows else min(common, len(self._held))
        if keep < len(self._held):
            self._edge.rollback(self._prompt.length + keep)
            del self._held[keep:]
            self._next = None

    def draft(
        self,
        text: Sequence[int],
        k: int,
        *,
        sure: Callable[[TokenStats], bool] = lambda _: True,
        recent_corrections: int = 0,
    ) -> tuple[list[int], list[TokenStats]]:
        """Up to ``k`` tokens after ``text``. An end of text ends the draft, and so does the first
        token that is not ``sure``; both are part of it."""
        self.follow(text)
        stats: list[TokenStats] = []
        while True:
            if self.ahead == len(stats):
                self.step()
            token, known = self._drafted[len(stats)]
            position = len(text) + len(stats)
            stat = replace(known, position=position, recent_corrections=recent_corrections)
            stats.append(stat)
            if len(stats) >= k or token in self._end_ids or not sure(stat):
                return [token for token, _ in self._drafted[: len(stats)]], stats

    def step(self) -> bool:
        """Draft one token more; ``False`` where the draft has ended with the text."""
        if self._drafted and self._drafted[-1][0] in self._end_ids:
            return False
        path = self._path()
        (logits,) = penalized(
            self._logits()[None], self._sampling, (*self._prompt.token_ids, *path)
        )
        token, stat = choose(logits)
        if not self._sampling.greedy:
            token, self._draft_probabilities[len(path)] = draw(logits, self._sampling, path)
            stat = replace(stat, logprob=float(logits.log_softmax(dim=-1)[token]))
        self._drafted.append((token, stat))
        return True

    def draft_probabilities(self, begin: int, count: int) -> list[Distribution]:
        """Draft probabilities q of the ``count`` tokens drafted for output positions ``begin`` on; empty
        where decoding is greedy."""
        if self._sampling.greedy:
            return []
        return [self._draft_probabilities[position] for position in range(begin, begin + count)]

    def _path(self) -> list[int]:
        """Text and draft."""
        return [*self._text, *(token for token, _ in self._drafted)]

    def _logits(self) -> Tensor:
        """The logits ``(V,)`` after text and draft."""
        path = self._path()
        if len(path) == len(self._held) and self._next is None and path:
            # The logits after the last token are gone: compute that token again.
            self._edge.rollback(self._prompt.length + len(path) - 1)
            del self._held[-1]
        if unseen := path[len(self._held) :]:
            self._next = self._edge.extend(unseen)[-1]
            self._held = path
        found = self._next if path else self._first
        if found is None:
            raise ValueError("prefill comes first")
        return found


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common prefix of two sequences of tokens."""
    shorter = min(len(one), len(other))
    if list(one[:shorter]) == list(other[:shorter]):  # the usual case, without a loop
        return shorter
    for index, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return index
    return shorter
