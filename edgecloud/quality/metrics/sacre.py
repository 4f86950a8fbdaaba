"""chrF2 (Popović, 2015) and BLEU as sacreBLEU (Post, 2018) defines it; 0..100, higher is better.

Both tokenise for themselves, so they need no segmentation, and their values compare across papers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final

from edgecloud.contracts import Language
from edgecloud.errors import MetricError
from edgecloud.quality.metric import Value, metric
from edgecloud.quality.result import MetricResult, finite
from edgecloud.quality.tokenize import normalize

__all__ = ["sacre_scores"]

NAMES: Final = ("chrf", "sacrebleu")
_TOKENIZERS: Final[Mapping[Language, str]] = MappingProxyType({"chinese": "zh", "english": "13a"})


@metric(
    "sacrebleu",
    values=[
        Value(
            "chrf",
            range=(0.0, 100.0),
            labels={"english": "chrF"},
            decimals=1,
            tolerance=1.0,
            pooled=True,
            tokenizer="chrF: characters, order 6",
        ),
        Value(
            "sacrebleu",
            range=(0.0, 100.0),
            labels={"english": "sacreBLEU"},
            decimals=1,
            pooled=True,
            tokenizer={language: f"sacrebleu's {name}" for language, name in _TOKENIZERS.items()},
        ),
    ],
    takes="texts",
    by_language=True,
    needs=["language"],
    libraries=["sacrebleu"],
    title="chrF and sacreBLEU",
)
def sacre_scores(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], *, language: Language
) -> MetricResult:
    """``chrf`` and ``sacrebleu``; ``None``, with the reason, when sacrebleu is not installed.

    The corpus values pool counts over samples. A sample's own BLEU uses the orders that its length
    allows. Raises :class:`~edgecloud.errors.MetricError` when the lengths differ, there is nothing
    to score, or a sample has no reference.
    """
    if not hypotheses or len(hypotheses) != len(references):
        raise MetricError(f"{len(hypotheses)} hypotheses, {len(references)} lists of references")
    texts = [normalize(hypothesis) for hypothesis in hypotheses]
    targets = [[text for text in map(normalize, some) if text] for some in references]
    if not all(targets):
        raise MetricError("a sample has no reference; leave it out of the scores")
    try:
        library = import_module("sacrebleu.metrics")  # optional
    except ImportError as error:
        nothing: Mapping[str, float | None] = dict.fromkeys(NAMES)
        reason = f"sacrebleu cannot be imported ({error}): pip install sacrebleu"
        return MetricResult(nothing, (nothing,) * len(texts), dict.fromkeys(NAMES, reason))
    tokenizer = _TOKENIZERS[language]
    # "force" only silences a warning about texts that look tokenised.
    chrf, bleu = library.CHRF(), library.BLEU(tokenize=tokenizer, force=True)
    short = library.BLEU(tokenize=tokenizer, force=True, effective_order=True)
    whole: dict[str, Any] = {"chrf": chrf, "sacrebleu": bleu}
    single: dict[str, Any] = {"chrf": chrf, "sacrebleu": short}
    counts = {name: _counts(metric, texts, targets) for name, metric in whole.items()}
    own = {name: [_value(single[name], [row]) for row in rows] for name, rows in counts.items()}
    return MetricResult(
        {name: _value(metric, counts[name]) for name, metric in whole.items()},
        tuple(dict(zip(own, values, strict=True)) for values in zip(*own.values(), strict=True)),
    )


def _counts(metric: Any, texts: Sequence[str], targets: Sequence[Sequence[str]]) -> list[list[int]]:
    """What a metric of sacrebleu counts of each text beside its references. ``corpus_score`` and ``sentence_score`` both
    begin with it; ``corpus_score`` holds the n-grams of all references at once."""
    return [
        metric._extract_corpus_statistics([text], [[target] for target in some])[0]
        for text, some in zip(texts, targets, strict=True)
    ]


def _value(metric: Any, counts: list[list[int]]) -> float | None:
    """A metric's value of samples with these counts."""
    return finite(metric._aggregate_and_compute(counts).score)
