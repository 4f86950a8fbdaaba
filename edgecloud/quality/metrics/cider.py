"""CIDEr (Vedantam et al., 2015; the CIDEr-D form) by pycocoevalcap, 0..10, higher is better.

An n-gram weighs the more, the fewer samples' references it occurs in. Those document frequencies
are of the *whole* corpus, whichever samples are scored, so that a run on 3 samples and one on 100
are on one scale.
"""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from edgecloud.errors import MetricError
from edgecloud.quality.coco import check_tokens, coco_texts
from edgecloud.quality.metric import metric
from edgecloud.quality.result import MetricResult, finite, of_samples
from edgecloud.quality.tokenize import Tokens

__all__ = ["MIN_CORPUS", "STABLE_CORPUS", "cider", "cider_of_samples"]

MIN_CORPUS: Final = 2
STABLE_CORPUS: Final = 50
ORDERS: Final = 4
"""N-grams have up to so many tokens."""
MOST_KEPT: Final = 8
"""Corpora whose document frequencies are remembered, by language and tokenizer."""


def cider(
    hypotheses: Mapping[str, Tokens],
    corpus_references: Mapping[str, Sequence[Tokens]],
    *,
    counted: Mapping[str, Sequence[Tokens]] | None = None,
) -> MetricResult:
    """``cider`` of the hypotheses, by sample id, against their entries in ``corpus_references``. Document frequencies
    are of the same, or of the references ``counted``: then no score hangs on another sample of the corpus.

    The library counts document frequencies over what it is given to score; it is handed those of the whole
    corpus here, which are counted once, and scores nothing else than the hypotheses.
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
    counted = corpus_references if counted is None else counted
    size = len(counted)
    if size < MIN_CORPUS:
        reason = f"document frequencies need {MIN_CORPUS} samples with references; there is {size}"
        return MetricResult(
            {"cider": None}, tuple({"cider": None} for _ in hypotheses), {"cider": reason}
        )
    gts, res = coco_texts(
        list(hypotheses.values()), [corpus_references[name] for name in hypotheses]
    )
    from pycocoevalcap.cider.cider_scorer import CiderScorer  # slow to import

    frequencies = _frequencies(counted)
    scored = []
    for position, (caption,) in res.items():
        scorer = CiderScorer(caption, gts[position])  # one at a time: n-grams take 16 kB a sample
        scorer.document_frequency = frequencies
        scorer.crefs = _Scored(scorer.crefs, size)
        scored += [finite(value) for value in scorer.compute_cider()]
    notes = {}
    if size < STABLE_CORPUS:
        notes["cider"] = (
            f"unstable: document frequencies from {size} samples, fewer than {STABLE_CORPUS}"
        )
    return of_samples("cider", scored, notes=notes)


class _Scored(list[Any]):
    """The references of the samples that are scored; its length, by which the library weighs, is the corpus's."""

    def __init__(self, scored: Sequence[Any], corpus: int) -> None:
        super().__init__(scored)
        self._corpus = corpus

    def __len__(self) -> int:
        return self._corpus


_KEPT: OrderedDict[bytes, Counter[tuple[str, ...]]] = OrderedDict()


def _frequencies(corpus_references: Mapping[str, Sequence[Tokens]]) -> Counter[tuple[str, ...]]:
    """Document frequencies of a corpus, as the library's ``compute_doc_freq`` counts them; those of the latest
    corpora are remembered by what is in them.

    Raises:
        MetricError: a sample of the corpus has no reference, or an empty one.
    """
    about = hashlib.sha256()
    for position, some in enumerate(corpus_references.values()):
        if not some or not all(tokens.words for tokens in some):
            raise MetricError(
                f"sample {position} has an empty reference or none; leave it out of the scores"
            )
        about.update("\0".join([*(tokens.text for tokens in some), "\n"]).encode())
    key = about.digest()
    if (found := _KEPT.get(key)) is None:
        found = _KEPT[key] = _counted(corpus_references.values())
        if len(_KEPT) > MOST_KEPT:
            _KEPT.popitem(last=False)
    _KEPT.move_to_end(key)
    return found


def _counted(corpus: Iterable[Sequence[Tokens]]) -> Counter[tuple[str, ...]]:
    """In how many samples' references each n-gram of up to 4 tokens occurs."""
    found: Counter[tuple[str, ...]] = Counter()
    for some in corpus:
        ngrams: set[tuple[str, ...]] = set()
        for tokens in some:
            words = tokens.words
            for order in range(1, ORDERS + 1):
                ngrams.update(zip(*(words[start:] for start in range(order)), strict=False))
        found.update(ngrams)
    return found


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
