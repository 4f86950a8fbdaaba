"""Greedy choice of a token with its statistics; the target model's scores of a draft, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgecloud.contracts import Acceptance, TokenStats, Verdict
from edgecloud.decoding.acceptance import TokenScore, kept

__all__ = ["MOST_REGRET", "DraftScores", "accept_draft", "choose", "score_drafts", "verify_draft"]

MOST_REGRET = 1e4
"""Regret in nats of a token that the target gives probability 0."""


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
    """Target-model scores of a draft of ``n`` tokens.

    ``seen (n,)``: rank and regret of each draft token. ``tops (n + 1,)``: the argmax at each position,
    the last being the bonus token. ``top_probs (n,)``: the probabilities of ``tops[:-1]``.
    """

    seen: tuple[TokenScore, ...]
    tops: tuple[int, ...]
    top_probs: tuple[float, ...]

    @classmethod
    def joined(cls, parts: Sequence[DraftScores]) -> DraftScores:
        """The scores of a draft that was scored in ``parts``, one after the other."""
        return cls(
            seen=tuple(score for part in parts for score in part.seen),
            tops=(*(top for part in parts for top in part.tops[:-1]), parts[-1].tops[-1]),
            top_probs=tuple(prob for part in parts for prob in part.top_probs),
        )

    def verdict(self, count: int, token: int | None) -> Verdict:
        """The verdict that keeps the first ``count`` tokens and goes on with ``token``."""
        return Verdict(
            kept=count,
            token=token,
            ranks=tuple(score.rank for score in self.seen),
            top_probs=self.top_probs,
            regret=sum((score.regret for score in self.seen[:count]), start=0.0),
        )


def score_drafts(logits: Sequence[Tensor], drafts: Sequence[Sequence[int]]) -> list[DraftScores]:
    """Score each draft of ``n`` tokens by the target's ``logits (n + 1, V)`` for it, with one transfer
    to the host for all.

    Row ``i`` is the distribution at draft token ``i``; the last row follows the whole draft.

    Raises:
        ValueError: another number of rows.
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
    scores = []
    for draft, count in zip(drafts, counts, strict=True):
        rows_of = [next(values) for _ in range(count + 1)]
        seen = [
            TokenScore(int(rank), is_top=token == int(top), regret=min(regret, MOST_REGRET))
            for token, (top, rank, regret, _) in zip(draft, rows_of, strict=False)
        ]
        tops_of = tuple(int(top) for top, _, _, _ in rows_of)
        scores.append(DraftScores(tuple(seen), tops_of, tuple(row[3] for row in rows_of[:-1])))
    return scores


def verify_draft(
    logits: Tensor, draft: Sequence[int], acceptance: Acceptance, *, end_ids: frozenset[int]
) -> Verdict:
    """The verdict on a draft of ``n`` tokens from the target's ``logits (n + 1, V)``; the last row
    yields the bonus token. See :func:`score_drafts`."""
    return accept_draft(draft, score_drafts([logits], [draft])[0], acceptance, end_ids=end_ids)


def accept_draft(
    draft: Sequence[int], scores: DraftScores, acceptance: Acceptance, *, end_ids: frozenset[int]
) -> Verdict:
    """The verdict on a draft with these ``scores``: the tokens that the acceptance rule keeps, then the
    target's own. There is no token of its own after a wholly kept draft that ends the text."""
    count = kept(scores.seen, acceptance)
    ended = count == len(draft) and draft[-1] in end_ids
    return scores.verdict(count, None if ended else scores.tops[count])
