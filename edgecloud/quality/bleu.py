"""BLEU-1 to BLEU-4 (Papineni et al., 2002) by pycocoevalcap, 0..1, higher is better.

The corpus value pools n-gram counts over samples; it is not the mean of the samples' values. The
reference length is the one closest to the caption's. A sample's own value, unsmoothed, is about 0
wherever it shares no n-gram of that order.
"""

from __future__ import annotations

from collections.abc import Sequence

from pycocoevalcap.bleu.bleu import Bleu

from edgecloud.quality.coco import coco_texts
from edgecloud.quality.result import MetricResult, finite
from edgecloud.quality.tokenize import Tokens

__all__ = ["bleu"]

ORDERS = 4


def bleu(hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> MetricResult:
    """``bleu_1 .. bleu_4``. Raises :class:`~edgecloud.errors.MetricError`, see ``coco_texts``."""
    gts, res = coco_texts(hypotheses, references)
    corpus, by_order = Bleu(ORDERS).compute_score(gts, res, verbose=0)
    names = [f"bleu_{order}" for order in range(1, ORDERS + 1)]
    return MetricResult(
        corpus={name: finite(value) for name, value in zip(names, corpus, strict=True)},
        per_sample=tuple(
            {name: finite(value) for name, value in zip(names, values, strict=True)}
            for values in zip(*by_order, strict=True)
        ),
    )
