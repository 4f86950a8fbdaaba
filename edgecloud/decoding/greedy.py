"""Choosing a token, and what the edge knows about its choice."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from edgecloud.contracts import Acceptance, TokenStats, Verdict
from edgecloud.decoding.acceptance import Judged, kept

__all__ = ["MOST_REGRET", "choose", "judge", "settle"]

MOST_REGRET = 1e4
"""Nats: what a token counts that the cloud holds impossible."""


def choose(logits: Tensor) -> tuple[int, TokenStats]:
    """The greedy token of ``logits (V,) float32`` and its statistics, with one transfer to the host.

    Four equally likely tokens have entropy ln 4 = 1.386 nats, margin 0 and logprob -1.386.
    """
    logprobs = logits.log_softmax(dim=-1)
    top = logprobs.topk(min(2, len(logits))).values
    # -inf * 0 is NaN; a token of probability 0 adds nothing to the entropy.
    certain = logits.softmax(dim=-1).dot(logprobs.clamp_min(torch.finfo(logits.dtype).min))
    # Token ids are exact in float32 up to 2^24.
    token, negated, best, *second = torch.cat((logits.argmax()[None], certain[None], top)).tolist()
    margin = math.exp(best) - sum(map(math.exp, second))
    return int(token), TokenStats(entropy=-negated, margin=margin, logprob=best)


def judge(
    logits: Tensor, draft: Sequence[int], acceptance: Acceptance, *, end_ids: frozenset[int]
) -> Verdict:
    """The verdict on a draft of ``n`` tokens from the target's ``logits (n + 1, V)``.

    Row ``i`` is the distribution at drafted token ``i``; the last row follows the whole draft and
    yields the bonus token.
    """
    if logits.shape[0] != len(draft) + 1:
        raise ValueError(f"{len(draft)} drafted tokens need {len(draft) + 1} rows of logits")
    n = len(draft)
    drafted = torch.tensor(draft, device=logits.device)
    rows = logits[:-1]
    found = rows.gather(1, drafted[:, None])
    best, tops = logits.max(dim=1)
    ranks = (rows > found).sum(dim=1)
    top_probs = rows.softmax(dim=1).amax(dim=1)
    # One transfer to the host; ids and ranks are exact in float32 up to 2^24.
    values = torch.cat((tops, ranks, best[:-1] - found[:, 0], top_probs)).tolist()
    chosen = [int(token) for token in values[: n + 1]]
    seen = [
        Judged(int(rank), is_top=token == top, regret=min(regret, MOST_REGRET))
        for token, top, rank, regret in zip(
            draft, chosen, values[n + 1 :], values[2 * n + 1 :], strict=False
        )
    ]
    return settle(
        draft, seen, acceptance, tops=chosen, top_probs=values[3 * n + 1 :], end_ids=end_ids
    )


def settle(
    draft: Sequence[int],
    seen: Sequence[Judged],
    acceptance: Acceptance,
    *,
    tops: Sequence[int],
    top_probs: Sequence[float],
    end_ids: frozenset[int],
) -> Verdict:
    """The verdict on a draft of ``n`` tokens that the target sees as ``seen (n,)``.

    ``tops`` are its first choices at each of them and then after the whole draft; that last one may be
    left out where the draft ends the text. ``top_probs (n,)``: their probabilities.
    """
    count = kept(seen, acceptance)
    ended = count == len(draft) and draft[-1] in end_ids
    return Verdict(
        kept=count,
        token=None if ended else tops[count],
        ranks=tuple(token.rank for token in seen),
        top_probs=tuple(top_probs),
        regret=sum((token.regret for token in seen[:count]), start=0.0),
    )
