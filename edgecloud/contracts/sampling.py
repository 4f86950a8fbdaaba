"""The vocabulary of drawing tokens at random: how, and from what. Standard library only."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Annotated

from edgecloud.contracts.ranges import NgramLength, Range, RepetitionPenalty, Share, check_fields

__all__ = ["GREEDY", "MOST_WEIGHT", "WIDEST", "Distribution", "Sampling"]

MOST_WEIGHT = 65_535
"""The weight of a distribution's likeliest token: two bytes on the wire."""
WIDEST = 256
"""Tokens in a distribution, at most."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters of one request. At ``temperature`` 0 tokens are greedy, and the rest means
    nothing; above it they are drawn from the smallest set of tokens whose probabilities add up to
    ``top_p``. All chance comes from ``seed`` (0 to 2^63 - 1), see :mod:`edgecloud.decoding.sampling`.

    At any temperature ``repetition_penalty`` makes tokens that the text already has less likely (1: no
    change), and no n-gram of ``no_repeat_ngram`` tokens comes twice (0: any may); see
    :mod:`edgecloud.decoding.penalties`.

    Raises, when made:
        ConfigError: a value is out of range.
    """

    temperature: Annotated[float, Range(0.0)] = 0.0
    top_p: Share = 1.0
    seed: Annotated[int, Range(0, (1 << 63) - 1)] = 0
    repetition_penalty: RepetitionPenalty = 1.0
    no_repeat_ngram: NgramLength = 0

    def __post_init__(self) -> None:
        """Check the values."""
        check_fields(self)

    @property
    def greedy(self) -> bool:
        """True at temperature 0: each token is the argmax."""
        return self.temperature == 0

    @property
    def unpenalized(self) -> bool:
        """True where what the text says changes no logits."""
        return self.repetition_penalty == 1.0 and not self.no_repeat_ngram


GREEDY = Sampling()


@dataclass(frozen=True, slots=True)
class Distribution:
    """Draft probabilities q of one token, in whole numbers, so that both sides know them exactly.

    ``ids`` rise; the probability of ``ids[i]`` is ``weights[i]`` over the sum of all weights, each 1 to
    :data:`MOST_WEIGHT`. Every other token has none.
    """

    ids: tuple[int, ...]
    weights: tuple[int, ...]

    @property
    def total(self) -> int:
        """Sum of the weights, the denominator of every probability."""
        return sum(self.weights)

    def probability_of(self, token: int) -> float:
        """0.75 for the second of the weights 1, 3; 0 for a token that is not there."""
        place = bisect_left(self.ids, token)
        there = place < len(self.ids) and self.ids[place] == token
        return self.weights[place] / self.total if there else 0.0
