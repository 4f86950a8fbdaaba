"""Properties of tokens: their origin, the edge's certainty, the end of a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgecloud.contracts.ranges import Count, SentenceLimit, check_fields

__all__ = ["Origin", "StopLimits", "StopReason", "TokenStats"]

Origin = Literal["edge", "verified", "corrected", "bonus", "cloud"]
"""The origin of a token: the edge alone; the edge, then kept by the cloud; the cloud in place of a rejected
draft; the cloud after a wholly kept block; the cloud decoding by itself."""


StopReason = Literal["end_of_text", "token_limit", "sentence_limit"]


@dataclass(frozen=True, slots=True)
class TokenStats:
    """Statistics of one draft token, over the tokenizer's real vocabulary.

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
class StopLimits:
    """Limits that end an output besides the model's end of text. ``None``: no sentence limit.

    Raises, when made:
        ConfigError: a limit is out of range.
    """

    max_new_tokens: Count = 128
    max_sentences: SentenceLimit | None = None

    def __post_init__(self) -> None:
        """Check the limits."""
        check_fields(self)
