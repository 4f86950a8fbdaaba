"""ROUGE-L (Lin, 2004) by pycocoevalcap, beta 1.2, 0..1, higher is better."""

from __future__ import annotations

from collections.abc import Sequence

from edgecloud.quality.coco import coco_texts
from edgecloud.quality.metric import metric
from edgecloud.quality.result import MetricResult, finite
from edgecloud.quality.tokenize import Tokens

__all__ = ["rouge_l"]


@metric(
    "rouge_l",
    labels={"english": "ROUGE-L"},
    tolerance=0.01,
    headline=3,
    main=True,
    libraries=["pycocoevalcap"],
)
def rouge_l(hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> MetricResult:
    """``rouge_l``: the best precision and the best recall over the references of a sample; the
    corpus value is the mean over samples.

    Raises :class:`~edgecloud.errors.MetricError`, see ``coco_texts``.
    """
    from pycocoevalcap.rouge.rouge import (
        Rouge,  # slow to import; its registration is read everywhere
    )

    gts, res = coco_texts(hypotheses, references)
    corpus, per_sample = Rouge().compute_score(gts, res)
    return MetricResult(
        corpus={"rouge_l": finite(corpus)},
        per_sample=tuple({"rouge_l": finite(value)} for value in per_sample),
    )
