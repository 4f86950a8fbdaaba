"""The edge's side of speculation: drafting, with a cache that follows the committed text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from edgecloud.contracts import Drafted, EdgeModel, Prompt, TokenStats
from edgecloud.contracts.sampling import Distribution

__all__ = ["Drafter", "common_prefix"]


class Drafter:
    """Drafts tokens after a text that grows or is cut back.

    The edge's cache holds the prompt and a prefix of text and draft. What it has not seen (the last
    drafted token, a correction, a continuation) is ingested in one forward, with the next step; a
    draft that turns out to be the text is not computed again.
    """

    def __init__(self, edge: EdgeModel, prompt: Prompt, *, end_ids: frozenset[int]) -> None:
        self._edge = edge
        self._prompt = prompt
        self._end_ids = end_ids
        self._held: list[int] = []
        """Tokens in the cache after the prompt."""
        self._text: list[int] = []
        self._drafted: list[Drafted] = []
        """Draft tokens after the text; they may be asked for again."""
        self._draft_probabilities: dict[int, Distribution] = {}
        """q of the last token drawn for each position of the output."""
        self._cut = False
        """True while the token after the last one in the cache is not known: the cache was cut there."""

    @property
    def ahead(self) -> int:
        """Tokens drafted after the text."""
        return len(self._drafted)

    def prefill(self) -> None:
        """Prefill the prompt on the edge."""
        self._edge.prefill(self._prompt)

    def follow(self, text: Sequence[int], *, ended: bool = False) -> None:
        """Move to ``text``. Draft tokens that extend it are kept; otherwise, and when the text has
        ``ended``, the cache is rolled back to the common prefix and the draft is dropped."""
        common = common_prefix(self._path(), text)
        follows = not ended and len(self._text) <= len(text) == common
        self._drafted = self._drafted[common - len(self._text) :] if follows else []
        self._text = list(text)
        keep = len(self._held) if follows else min(common, len(self._held))
        if keep < len(self._held):
            self._cut_back(keep)

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
            found = self._drafted[len(stats)]
            position = len(text) + len(stats)
            stat = replace(found.stats, position=position, recent_corrections=recent_corrections)
            stats.append(stat)
            if len(stats) >= k or found.token in self._end_ids or not sure(stat):
                return [found.token for found in self._drafted[: len(stats)]], stats

    def step(self) -> bool:
        """Draft one token more; ``False`` where the draft has ended with the text."""
        if self._drafted and self._drafted[-1].token in self._end_ids:
            return False
        path = self._path()
        self._catch_up(path)
        found = self._edge.draft(path)
        if found.q is not None:
            self._draft_probabilities[len(path)] = found.q
        self._drafted.append(found)
        return True

    def draft_probabilities(self, begin: int, count: int) -> list[Distribution]:
        """Draft probabilities q of the ``count`` tokens drafted for output positions ``begin`` on; empty
        where none is drawn at random."""
        if not self._draft_probabilities:
            return []
        return [self._draft_probabilities[position] for position in range(begin, begin + count)]

    def _path(self) -> list[int]:
        """Text and draft."""
        return [*self._text, *(found.token for found in self._drafted)]

    def _catch_up(self, path: list[int]) -> None:
        """Let the edge ingest what of text and draft it has not seen."""
        if path and len(path) == len(self._held) and self._cut:
            # What follows the last token is gone: compute that token again.
            self._cut_back(len(path) - 1)
        if unseen := path[len(self._held) :]:
            self._edge.extend(unseen)
            self._held = path
            self._cut = False

    def _cut_back(self, count: int) -> None:
        """Cut the cache back to the first ``count`` tokens after the prompt."""
        self._edge.rollback(self._prompt.length + count)
        del self._held[count:]
        self._cut = True


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common prefix of two sequences of tokens."""
    shorter = min(len(one), len(other))
    if list(one[:shorter]) == list(other[:shorter]):  # the usual case, without a loop
        return shorter
    for index, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return index
    return shorter
