"""CIDEr (Vedantam et al., 2015; the CIDEr-D form) by pycocoevalcap, 0..10, higher is better.

An n-gram weighs the more, the fewer samples' references it occurs in. Those document frequencies
are of the *whole* corpus, whichever samples are scored, so that a run on 3 samples and one on 100
are on one scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from edgecloud.errors import MetricError
from edgecloud.quality.coco import check_tokens, coco_texts
from edgecloud.quality.metric import metric
from edgecloud.quality.result import MetricResult, finite, of_samples
from edgecloud.quality.tokenize import Tokens

__all__ = ["MIN_CORPUS", "STABLE_CORPUS", "cider", "cider_of_samples"]

MIN_CORPUS: Final = 2
STABLE_CORPUS: Final = 50


def cider(
    hypotheses: Mapping[str, Tokens], corpus_references: Mapping[str, Sequence[Tokens]]
) -> MetricResult:
    """``cider`` of the hypotheses, by sample id, against their entries in ``corpus_references``.

    The library takes document frequencies from what it is given to score, so it is given the whole
    corpus, with an empty caption for every sample that is not scored; those values are dropped.
    With fewer than 2 samples in the corpus every weight is 0 and the score is not defined: ``None``.
    Under 50 a note says that it is unstable.

    Raises:
        MetricError: a hypothesis is not in the corpus, or see ``coco_texts``.
    """
    missing = [name for name in hypotheses if name not in corpus_references]
    if missing:
        raise MetricError(
            f"{len(missing)} scored samples are not in the corpus, {missing[0]!r} the first: "
            "CIDEr needs the references of the full manifest"
        )
    if not hypotheses:
        raise MetricError("nothing to score: no hypotheses were given")
    check_tokens(list(hypotheses.values()), list(corpus_references.values()))
    from pycocoevalcap.cider.cider import (
        Cider,  # slow to import; its registration is read everywhere
    )

    size = len(corpus_references)
    if size < MIN_CORPUS:
        reason = f"document frequencies need {MIN_CORPUS} samples with references; there is {size}"
        return MetricResult(
            {"cider": None}, tuple({"cider": None} for _ in hypotheses), {"cider": reason}
        )
    empty = Tokens(next(iter(hypotheses.values())).tokenizer, ())
    gts, res = coco_texts(
        [hypotheses.get(name, empty) for name in corpus_references],
        list(corpus_references.values()),
    )
    _, values = Cider().compute_score(gts, res)
    by_name = dict(zip(corpus_references, values, strict=True))
    scored = [finite(by_name[name]) for name in hypotheses]
    notes = {}
    if size < STABLE_CORPUS:
        notes["cider"] = (
            f"unstable: document frequencies from {size} samples, fewer than {STABLE_CORPUS}"
        )
    return of_samples("cider", scored, notes=notes)


@metric(
    "cider",
    range=(0.0, 10.0),
    labels={"english": "CIDEr"},
    tolerance=0.02,
    headline=1,
    paired=True,
    aliases=("avg_cider",),
    table_key="avg_cider",
    needs=["corpus"],
    main=True,
    libraries=["pycocoevalcap"],
)
def cider_of_samples(
    hypotheses: Sequence[Tokens],
    references: Sequence[Sequence[Tokens]],
    *,
    ids: Sequence[str],
    corpus_references: Mapping[str, Sequence[Tokens]],
) -> MetricResult:
    """``cider`` of hypotheses in the order of ``ids``; their references are those of the corpus. Raises
    as :func:`cider` does."""
    return cider(dict(zip(ids, hypotheses, strict=True)), corpus_references)
