"""BLEU-1 to BLEU-4 (Papineni et al., 2002) by pycocoevalcap, 0..1, higher is better.

The corpus value pools n-gram counts over samples; it is not the mean of the samples' values. The
reference length is the one closest to the caption's. A sample's own value, unsmoothed, is about 0
wherever it shares no n-gram of that order.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgecloud.quality.coco import coco_texts
from edgecloud.quality.metric import Value, metric
from edgecloud.quality.result import MetricResult, finite
from edgecloud.quality.tokenize import Tokens

__all__ = ["bleu"]

ORDERS = 4


@metric(
    "bleu",
    values=[
        Value(
            f"bleu_{order}",
            labels={"english": f"BLEU-{order}"},
            tolerance=0.01 if order == ORDERS else None,
            pooled=True,
            shown=order in (1, ORDERS),
            headline=2 if order == ORDERS else None,
            key=f"corpus_bleu_{order}",
            aliases=("avg_bleu",) if order == ORDERS else (),
        )
        for order in range(1, ORDERS + 1)
    ],
    main=True,
    libraries=["pycocoevalcap"],
    title="BLEU",
)
def bleu(hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> MetricResult:
    """BLEU of the corpus and of each sample, ``bleu_1`` to ``bleu_4``.

    Raises :class:`~edgecloud.errors.MetricError`, see ``coco_texts``.
    """
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer  # slow to import

    gts, res = coco_texts(hypotheses, references)
    scorer = BleuScorer(n=ORDERS)
    for position, (caption,) in res.items():
        scorer += (caption, gts[position])
        scorer.crefs[-1] = None  # counted: the n-grams of a sample's references take 8 kB
    corpus, by_order = scorer.compute_score(option="closest", verbose=0)
    names = [f"bleu_{order}" for order in range(1, ORDERS + 1)]
    return MetricResult(
        corpus={name: finite(value) for name, value in zip(names, corpus, strict=True)},
        per_sample=tuple(
            {name: finite(value) for name, value in zip(names, values, strict=True)}
            for values in zip(*by_order, strict=True)
        ),
    )
