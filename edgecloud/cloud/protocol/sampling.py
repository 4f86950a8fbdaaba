"""Sampling parameters and draft probabilities q in their wire form.

A distribution is bytes: its ids, uint32, then its weights, uint16, little-endian: 6 bytes for each token
that may be drawn, 256 of them (1536 bytes) at most for one drafted token. Only whole weights can be
written, so there is nothing in it that is negative, not finite, or does not add up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgecloud.contracts.sampling import WIDEST, Distribution, Sampling
from edgecloud.errors import WireError

__all__ = ["draft_probabilities_of", "pack_drawn_from", "pack_sampling", "sampling_of"]

_ENTRY_BYTES = 6
_MOST_PENALTY = 100.0
_MOST_NGRAM = 32


def pack_sampling(sampling: Sampling) -> list[Any]:
    """``[temperature, top_p, seed]`` as in an ``open`` message; with penalties, which version 3 has, also
    ``repetition_penalty, no_repeat_ngram``."""
    drawn = [float(sampling.temperature), float(sampling.top_p), sampling.seed]
    if sampling.unpenalized:
        return drawn
    return [*drawn, float(sampling.repetition_penalty), sampling.no_repeat_ngram]


def sampling_of(values: Any) -> Sampling:
    """The sampling of an ``open`` request.

    Raises:
        WireError: not a temperature, a share of probability and a seed, or other penalties than there are.
    """
    penalties = values[3:] if isinstance(values, list) else []
    if penalties and not (
        len(penalties) == 2
        and isinstance(penalties[0], float)
        and 0 < penalties[0] <= _MOST_PENALTY
        and type(penalties[1]) is int
        and 0 <= penalties[1] <= _MOST_NGRAM
    ):
        raise WireError("open: a repetition penalty above 0 and a length of n-grams were expected")
    if not (
        isinstance(values, list)
        and len(values) >= 3
        and isinstance(values[0], float)
        and 0 <= values[0] < math.inf
        and isinstance(values[1], float)
        and 0 < values[1] <= 1
        and isinstance(values[2], int)
        and not isinstance(values[2], bool)
        and 0 <= values[2] < 1 << 63
    ):
        raise WireError(
            "open: a temperature from 0 on, a share above 0 and up to 1, and a seed of 63 bits were "
            "expected"
        )
    return Sampling(*values[:3], *penalties)


def pack_drawn_from(distributions: Sequence[Distribution]) -> list[bytes]:
    """Draft probabilities as bytes, one a draft token: ids (uint32), then weights (uint16), little-endian."""
    return [
        np.asarray(one.ids, dtype="<u4").tobytes() + np.asarray(one.weights, dtype="<u2").tobytes()
        for one in distributions
    ]


def draft_probabilities_of(values: Any) -> list[Distribution]:
    """The draft probabilities of a ``verify`` request, a distribution for each draft token.

    Raises:
        WireError: not distributions.
    """
    if not isinstance(values, list):
        raise WireError("verify: a list of distributions was expected")
    return [_distribution(value) for value in values]


def _distribution(value: Any) -> Distribution:
    if not isinstance(value, bytes) or len(value) % _ENTRY_BYTES or not value:
        raise WireError("verify: a distribution is ids of four bytes and weights of two")
    count = len(value) // _ENTRY_BYTES
    if count > WIDEST:
        raise WireError(f"verify: a distribution over {count} tokens; at most {WIDEST}")
    ids = np.frombuffer(value, dtype="<u4", count=count).astype(np.int64)
    weights = np.frombuffer(value, dtype="<u2", offset=4 * count)
    if (np.diff(ids) <= 0).any() or ids[-1] >= 1 << 31 or not weights.all():
        raise WireError("verify: a distribution has rising ids, and weights from 1 on")
    return Distribution(tuple(ids.tolist()), tuple(weights.tolist()))
