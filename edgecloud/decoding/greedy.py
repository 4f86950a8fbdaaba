"""Choosing a token, and what the edge knows about its choice."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from edgecloud.contracts import Acceptance, Model, TokenStats, Verdict
from edgecloud.decoding.acceptance import Judged, kept

__all__ = ["MOST_REGRET", "choose", "draft_block", "judge", "settle"]

MOST_REGRET = 1e4
"""Nats: what a token counts that the cloud holds impossible."""


def choose(logits: Tensor) -> tuple[int, TokenStats]:
    """The greedy token of ``logits (V,) float32`` and its statistics, with one transfer to the host.

    Four equally likely tokens have entropy ln 4 = 1.386 nats, margin 0 and logprob -1.386.
    """
    logprobs = torch.log_softmax(logits, dim=-1)
    probs = logprobs.exp()
    token = logits.argmax()
    # -inf * 0 is NaN; a token of probability 0 adds nothing to the entropy.
    entropy = -(probs * logprobs.clamp_min(torch.finfo(logits.dtype).min)).sum()
    top = probs.topk(min(2, len(probs))).values
    margin = top[0] - top[-1] if len(top) == 2 else top[0]
    values = torch.stack((token.to(entropy.dtype), entropy, margin, logprobs[token])).tolist()
    return int(values[0]), TokenStats(entropy=values[1], margin=values[2], logprob=values[3])


def draft_block(
    edge: Model, logits: Tensor, *, k: int, end_ids: frozenset[int]
) -> tuple[list[int], list[TokenStats]]:
    """Draft up to ``k`` tokens greedily after ``logits (V,)``; a drafted end of text ends the block.

    The last drafted token is not fed to the edge: its cache then holds all of the block but that one.
    """
    tokens: list[int] = []
    stats: list[TokenStats] = []
    while True:
        token, stat = choose(logits)
        tokens.append(token)
        stats.append(stat)
        if len(tokens) == k or token in end_ids:
            return tokens, stats
        logits = edge.extend([token])[-1]


def judge(
    logits: Tensor, draft: Sequence[int], acceptance: Acceptance, *, end_ids: frozenset[int]
) -> Verdict:
    """The verdict on a draft of ``n`` tokens from the target's ``logits (n + 1, V)``.

    Row ``i`` is the distribution at drafted token ``i``; the last row follows the whole draft and
    yields the bonus token.
    """
    if logits.shape[0] != len(draft) + 1:
        raise ValueError(f"{len(draft)} drafted tokens need {len(draft) + 1} rows of logits")
    drafted = torch.tensor(draft, device=logits.device)
    rows = logits[:-1]
    found = rows.gather(1, drafted[:, None])
    ranks = (rows > found).sum(dim=1).tolist()
    best = rows.amax(dim=1)
    regrets = (best - found[:, 0]).clamp_max(MOST_REGRET).tolist()
    tops = logits.argmax(dim=1).tolist()
    seen = [
        Judged(rank, is_top=token == top, regret=regret)
        for rank, token, top, regret in zip(ranks, draft, tops, regrets, strict=False)
    ]
    top_probs = (best - rows.logsumexp(dim=1)).exp().tolist()
    return settle(draft, seen, acceptance, tops=tops, top_probs=top_probs, end_ids=end_ids)


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
