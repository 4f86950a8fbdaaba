"""Decoding at a temperature, and its lossless verification (Leviathan et al. 2023, Chen et al. 2023).

The edge draws a token from its distribution q, rounded to whole weights *before* anything is drawn, and
sends those weights with the draft. The cloud, whose distribution is p, keeps the token with probability
min(1, p/q). The first that fails is replaced by a draw from what p has over q, max(0, p - q), made to
add up to 1; a wholly kept draft is followed by a draw from p. So every verified token is distributed as
p, whatever q is; how q was rounded or cut short only decides how often a token is kept.

*Chance.* Each side computes its random numbers from the request's seed, the name of a stream (``draft``
on the edge, ``keep`` and ``choose`` on the cloud) and the whole output before the token. Thus they are
independent of each other and differ after every other text: that a draft was drawn and dropped says
nothing about those that come after another text. And they are a function of the request alone: a
repeated verification gives the same verdict, and no token depends on timing, on what was decoded
before, or on who shares a forward (where logits round differently, a draw may differ: a tie).
"""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate

import torch
from torch import Tensor

from edgecloud.contracts import Acceptance, Prompt, Verdict
from edgecloud.contracts.sampling import GREEDY, MOST_WEIGHT, WIDEST, Distribution, Sampling
from edgecloud.decoding.acceptance import TokenScore, kept
from edgecloud.decoding.draft_scores import score_drafts

__all__ = ["accept_sampled", "chance", "draw", "pick", "quantized", "residual", "seeded", "warp"]

_GLANCE = 1024
"""Tokens sorted to find the likeliest ones, before all are."""


def seeded(sampling: Sampling, seed: int, prompt: Prompt) -> Sampling:
    """``sampling`` with a seed made of the run's ``seed`` and what the cloud is given anyhow, so that a
    sample's tokens are its own, whatever is decoded before or beside it."""
    if sampling.greedy:
        return replace(sampling, top_p=GREEDY.top_p, seed=GREEDY.seed)
    content = hashlib.blake2b(f"{seed}/{prompt.token_ids}".encode(), digest_size=8)
    content.update(prompt.array_bytes())
    return replace(sampling, seed=int.from_bytes(content.digest(), "little") >> 1)


def chance(seed: int, stream: str, text: Sequence[int]) -> int:
    """A number of 64 random bits for the token of ``stream`` that follows the output ``text``."""
    return _number(_hashed(seed, stream, text))


def _hashed(seed: int, stream: str, text: Sequence[int]) -> hashlib.blake2b:
    """What :func:`chance` is read from; goes on with the next token's four bytes."""
    content = struct.pack(f"<Q{len(text)}I", seed, *text)
    return hashlib.blake2b(content, digest_size=8, person=stream.encode())


def _number(hashed: hashlib.blake2b) -> int:
    return int.from_bytes(hashed.digest(), "little")


def warp(logits: Tensor, sampling: Sampling) -> Tensor:
    """The probabilities ``(V,) float64`` that tokens are drawn with, of ``logits (V,) float32``.

    Probabilities 0.5, 0.3, 0.2 under ``top_p`` 0.7 become 0.625, 0.375, 0. Tokens exactly as likely as
    the last one that is kept are kept with it, so that no order decides between them.
    """
    if sampling.greedy:
        return torch.zeros_like(logits, dtype=torch.float64).index_fill_(0, logits.argmax(), 1.0)
    # Less the largest first: a small temperature must not reach infinity.
    wide = logits.double()
    probs = ((wide - wide.max()) / sampling.temperature).softmax(dim=-1)
    if sampling.top_p < 1:
        probs = probs.where(probs >= _least(probs, sampling.top_p), 0.0)
    return probs / probs.sum()


def _least(probs: Tensor, top_p: float) -> Tensor:
    """The probability of the last of the likeliest tokens that together reach ``top_p``."""
    for most in sorted({min(_GLANCE, len(probs)), len(probs)}):
        top = probs.topk(most).values.cpu()
        short = int((top.cumsum(0) < top_p).sum())
        if short < most:
            return top[short]
    return top[-1]


def quantized(probs: Tensor) -> Distribution:
    """The distribution ``probs (V,)`` in whole weights: the likeliest token has :data:`MOST_WEIGHT`, any
    other in proportion, rounded; of the :data:`WIDEST` likeliest, those that keep a weight.

    >>> quantized(torch.tensor([0.5, 0.0, 0.25]))
    Distribution(ids=(0, 2), weights=(65535, 32768))
    """
    found = probs.topk(min(WIDEST, len(probs)))
    weights = (found.values * (MOST_WEIGHT / found.values[0])).round().tolist()
    entries = sorted(zip(found.indices.tolist(), weights, strict=True))
    ids, left = zip(*((token, int(weight)) for token, weight in entries if weight), strict=True)
    return Distribution(ids, left)


def draw(logits: Tensor, sampling: Sampling, text: Sequence[int]) -> tuple[int, Distribution]:
    """The edge's token after the output ``text``, and the draft probabilities q it was drawn from."""
    draft_probabilities = quantized(warp(logits, sampling))
    place = chance(sampling.seed, "draft", text) * draft_probabilities.total >> 64
    return draft_probabilities.ids[
        bisect_right(list(accumulate(draft_probabilities.weights)), place)
    ], draft_probabilities


def pick(logits: Tensor, sampling: Sampling, text: Sequence[int]) -> int:
    """The cloud's own token after the output ``text``: the likeliest, or one drawn."""
    if sampling.greedy:
        return int(logits.argmax())
    return _pick(warp(logits, sampling), sampling, text)


def residual(p: Tensor, draft_probabilities: Distribution) -> Tensor:
    """``max(0, p - q)``, ``(V,)`` and not normalized: the distribution of the token after a rejected one.

    ``p`` itself where rounding leaves nothing: the two distributions are then the same.
    """
    left = p.clone()
    weights = torch.tensor(draft_probabilities.weights, dtype=p.dtype, device=p.device)
    left[torch.tensor(draft_probabilities.ids, device=p.device)] -= (
        weights / draft_probabilities.total
    )
    left.clamp_min_(0)
    return left if left.any() else p


def accept_sampled(
    logits: Tensor,
    draft: Sequence[int],
    draft_probabilities: Sequence[Distribution],
    acceptance: Acceptance,
    sampling: Sampling,
    *,
    committed: Sequence[int],
    end_ids: frozenset[int],
) -> Verdict:
    """The verdict on a draft of ``n`` drawn tokens from the target's ``logits (n + 1, V)``, as
    :func:`edgecloud.decoding.draft_scores.verify_draft` gives it on a greedy one.

    Ranks, top probabilities and regret are those of the undistorted distribution, at temperature 1.
    """
    scores = score_drafts([logits], [draft])[0]
    # Of a long draft neither all distributions are kept, nor is its text hashed anew at each token.
    probs = logits.new_empty(0)
    hashed = _hashed(sampling.seed, "keep", committed)

    def tokens() -> Iterator[TokenScore]:
        nonlocal probs
        for place, (token, q) in enumerate(zip(draft, draft_probabilities, strict=True)):
            probs = warp(logits[place], sampling)
            yield replace(
                scores.seen[place],
                ratio=float(probs[token]) / q.probability_of(token),
                drawn=_unit(_number(hashed)),
            )
            hashed.update(struct.pack("<I", token))

    count = kept(tokens(), acceptance)
    before = [*committed, *draft[:count]]
    token: int | None
    if count < len(draft):
        # The last distribution is that of the token that was not kept.
        token = _pick(residual(probs, draft_probabilities[count]), sampling, before)
    else:
        token = None if draft[-1] in end_ids else pick(logits[-1], sampling, before)
    return scores.verdict(count, token)


def _pick(weights: Tensor, sampling: Sampling, text: Sequence[int]) -> int:
    """A token drawn with ``weights (V,) float64``, which need not add up to 1."""
    # On the host: on a GPU the order of a cumulative sum, and so its rounding, is not fixed.
    steps = weights.cpu().cumsum(0)
    place = steps[-1] * _unit(chance(sampling.seed, "choose", text))
    return int(torch.searchsorted(steps, place, right=True))


def _unit(number: int) -> float:
    """64 random bits as a number from 0 up to 1 - 2^-53: times any x it rounds to less than x."""
    return (number >> 11) / (1 << 53)
