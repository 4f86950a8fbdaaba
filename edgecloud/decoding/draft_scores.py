"""Choosing a token, and what the edge knows about its choice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgecloud.contracts import Acceptance, TokenStats, Verdict
from edgecloud.decoding.acceptance import TokenScore, kept

__all__ = ["MOST_REGRET", "DraftScores", "accept_draft", "choose", "judge", "score_drafts"]

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


@dataclass(frozen=True, slots=True)
class DraftScores:
    """How the target sees a draft of ``n`` tokens: each of them; its own first choices there and after
    the whole draft ``(n + 1,)``; and their probabilities ``(n,)``, that of the last left out."""

    seen: tuple[TokenScore, ...]
    tops: tuple[int, ...]
    top_probs: tuple[float, ...]

    def verdict(self, count: int, token: int | None) -> Verdict:
        """The verdict that keeps the first ``count`` tokens and goes on with ``token``."""
        return Verdict(
            kept=count,
            token=token,
            ranks=tuple(judged.rank for judged in self.seen),
            top_probs=self.top_probs,
            regret=sum((judged.regret for judged in self.seen[:count]), start=0.0),
        )


def score_drafts(logits: Sequence[Tensor], drafts: Sequence[Sequence[int]]) -> list[DraftScores]:
    """Hold each draft of ``n`` tokens against the target's ``(n + 1, V)`` for it, with one transfer to
    the host for all.

    Row ``i`` is the distribution at drafted token ``i``; the last row follows the whole draft.
    """
    counts = [len(draft) for draft in drafts]
    for rows, count in zip(logits, counts, strict=True):
        if rows.shape[0] != count + 1:
            raise ValueError(f"{count} drafted tokens need {count + 1} rows of logits")
    together = logits[0] if len(logits) == 1 else torch.cat(list(logits))
    # Nothing is drafted at the last row of each; any token does there.
    drafted = [token for draft in drafts for token in (*draft, 0)]
    found = together.gather(1, torch.tensor(drafted, device=together.device)[:, None])
    best, tops = together.max(dim=1)
    ranks = (together > found).sum(dim=1)
    top_probs = together.softmax(dim=1).amax(dim=1)
    # Ids and ranks are exact in float32 up to 2^24.
    values = zip(*torch.stack((tops, ranks, best - found[:, 0], top_probs)).tolist(), strict=True)
    sights = []
    for draft, count in zip(drafts, counts, strict=True):
        rows_of = [next(values) for _ in range(count + 1)]
        seen = [
            TokenScore(int(rank), is_top=token == int(top), regret=min(regret, MOST_REGRET))
            for token, (top, rank, regret, _) in zip(draft, rows_of, strict=False)
        ]
        tops_of = tuple(int(top) for top, _, _, _ in rows_of)
        sights.append(DraftScores(tuple(seen), tops_of, tuple(row[3] for row in rows_of[:-1])))
    return sights


def judge(
    logits: Tensor, draft: Sequence[int], acceptance: Acceptance, *, end_ids: frozenset[int]
) -> Verdict:
    """The verdict on a draft of ``n`` tokens from the target's ``logits (n + 1, V)``; the last row
    yields the bonus token. See :func:`score_drafts`."""
    return accept_draft(draft, score_drafts([logits], [draft])[0], acceptance, end_ids=end_ids)


def accept_draft(
    draft: Sequence[int], sight: DraftScores, acceptance: Acceptance, *, end_ids: frozenset[int]
) -> Verdict:
    """The verdict on a draft that the target sees so. Its choice after the whole draft may be left out
    where the draft ends the text."""
    count = kept(sight.seen, acceptance)
    ended = count == len(draft) and draft[-1] in end_ids
    return sight.verdict(count, None if ended else sight.tops[count])
