"""Penalties on what the text already says, as transformers' ``generate`` applies them: before a token is
chosen or drawn, by the prompt and the whole output before it.

They change a model's logits and nothing else, so edge, cloud, verification and continuation decode with
them as they do without: a draft is judged on logits whose context holds the drafted tokens before each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from edgecloud.contracts.sampling import Sampling

__all__ = ["penalized"]


def penalized(
    logits: Tensor, sampling: Sampling, context: Iterable[int], following: Sequence[int] = ()
) -> Tensor:
    """``logits (n + 1, V) float32`` under ``sampling``'s penalties; unchanged without any.

    Row 0 comes after ``context`` (prompt and output), row ``i`` after ``context + following[:i]``, of ``n``
    tokens ``following``.

    A token that the text has with logit 2.2 has 2.0 under a repetition penalty of 1.1, and -2.42 in the place
    of -2.2 (Keskar et al. 2019). A token that would end an n-gram that the text has is out of question.
    """
    if sampling.unpenalized:
        return logits
    context = list(context)
    found = logits.clone()
    penalty = sampling.repetition_penalty
    seen = torch.zeros(logits.shape[-1], dtype=torch.bool)
    seen[[token for token in context if token < len(seen)]] = True
    seen = seen.to(logits.device)
    grams = _Grams(sampling.no_repeat_ngram, context)
    for row, token in zip(found, (*following, None), strict=True):
        if penalty != 1.0:
            row.copy_(torch.where(row < 0, row * penalty, row / penalty).where(seen, row))
        if banned := grams.endings():
            row[list(banned)] = -torch.inf
        if token is not None:
            seen[token] = True
            grams.add(token)
    return found


class _Grams:
    """The n-grams of a text that grows; none for ``n`` 0."""

    def __init__(self, n: int, text: Sequence[int]) -> None:
        self._n = n
        self._text: list[int] = []
        self._endings: defaultdict[tuple[int, ...], dict[int, None]] = defaultdict(dict)
        if n:
            for token in text:
                self.add(token)

    def add(self, token: int) -> None:
        """Append a token."""
        if self._n and len(self._text) >= self._n - 1:
            self._endings[self._last()][token] = None
        self._text.append(token)

    def endings(self) -> dict[int, None]:
        """The tokens that followed what the text ends with."""
        enough = self._n and len(self._text) >= self._n - 1
        return self._endings.get(self._last(), {}) if enough else {}

    def _last(self) -> tuple[int, ...]:
        return tuple(self._text[len(self._text) - self._n + 1 :])
