"""The quality of what many candidates write of the same samples, each text scored once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal

from edgecloud.contracts import Language, Sample
from edgecloud.errors import DataError
from edgecloud.quality import corpus_references_of
from edgecloud.quality.metrics.cider import cider
from edgecloud.quality.metrics.rouge import rouge_l
from edgecloud.quality.tokenize import LANGUAGE_TOKENIZERS, Tokens, segment

__all__ = ["Quality", "default_quality", "qualities"]

Quality = Literal["references", "agreement"]
"""CIDEr against the references; or ROUGE-L against what the cloud alone writes."""

Texts = Mapping[str, Sequence[str]]


def default_quality(samples: Sequence[Sample], language: Language) -> Quality:
    """By references, where every sample has one in ``language``."""
    with_own = corpus_references_of(samples, language)
    return "references" if len(with_own) == len(samples) else "agreement"


def qualities(
    measure: Quality,
    texts: Texts,
    *,
    samples: Sequence[Sample],
    corpus: Sequence[Sample],
    languages: Sequence[Language],
) -> dict[str, list[float]]:
    """The quality of each sample by candidate: of ``texts``, which hold a text for each of ``samples``, written in its
    one of ``languages``. ``cloud`` is among the candidates; ``corpus`` is the whole manifest, of which CIDEr has its
    document frequencies.

    Raises:
        DataError: by references, and a sample has none in its language.
    """
    known: dict[tuple[str, ...], list[float]] = {}
    for said in texts.values():
        if (key := tuple(said)) not in known:
            if measure == "references":
                known[key] = _by_references(key, samples, corpus, languages[0])
            else:
                known[key] = _by_agreement(key, tuple(texts["cloud"]), languages)
    return {name: known[tuple(said)] for name, said in texts.items()}


def _by_references(
    texts: Sequence[str], samples: Sequence[Sample], corpus: Sequence[Sample], language: Language
) -> list[float]:
    """CIDEr of each text."""
    with_own = corpus_references_of(corpus, language)
    if missing := [sample.file_id for sample in samples if sample.file_id not in with_own]:
        raise DataError(
            f"{len(missing)} of {len(samples)} samples have no reference in {language}, {missing[0]!r} the first; "
            "take a manifest that has them, or measure quality by --quality agreement"
        )
    found = cider(
        {sample.file_id: _cut(text, language) for sample, text in zip(samples, texts, strict=True)},
        {name: [_cut(text, language) for text in some] for name, some in with_own.items()},
    )
    return [row["cider"] or 0.0 for row in found.per_sample]


def _by_agreement(
    texts: Sequence[str], said: Sequence[str], languages: Sequence[Language]
) -> list[float]:
    """ROUGE-L of each text against the cloud's; 1 for the cloud's own, and for one without words where the cloud's has
    none."""
    values = [1.0] * len(texts)
    differing: dict[Language, list[tuple[int, Tokens, Tokens]]] = {}
    for number, (text, other, language) in enumerate(zip(texts, said, languages, strict=True)):
        one, its = _cut(text, language), _cut(other, language)
        if one.words != its.words:
            values[number] = 0.0
            if one.words and its.words:
                differing.setdefault(language, []).append((number, one, its))
    for rows in differing.values():
        numbers, ours, theirs = zip(*rows, strict=True)
        found = rouge_l(ours, [[its] for its in theirs])
        for number, row in zip(numbers, found.per_sample, strict=True):
            values[number] = row["rouge_l"] or 0.0
    return values


@lru_cache(maxsize=65536)
def _cut(text: str, language: Language) -> Tokens:
    return segment(text, LANGUAGE_TOKENIZERS[language][0])
