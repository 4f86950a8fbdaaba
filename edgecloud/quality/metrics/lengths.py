"""Lengths of captions and of references, in tokens of the language's first tokenizer: no score."""

from __future__ import annotations

from collections.abc import Sequence

from edgecloud.quality.metric import Value, metric
from edgecloud.quality.result import MetricResult, mean
from edgecloud.quality.tokenize import Tokens

__all__ = ["lengths"]


@metric(
    "lengths",
    values=[
        Value(
            "caption_length",
            range=None,
            unit="tokens",
            higher_is_better=None,
            labels={"english": "caption length (tokens)", "chinese": "描述长度（词元）"},
            decimals=1,
        ),
        Value(
            "reference_length",
            range=None,
            unit="tokens",
            higher_is_better=None,
            labels={"english": "reference length (tokens)", "chinese": "参考描述长度（词元）"},
            decimals=1,
            shown=False,
        ),
    ],
    takes="primary tokens",
    reference_free=True,
    main=True,
    title="lengths",
)
def lengths(hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> MetricResult:
    """``caption_length`` and ``reference_length`` (the mean over a sample's references; ``None``
    without any); of the corpus, the mean over samples."""
    rows: list[dict[str, float | None]] = [
        {
            "caption_length": float(len(hypothesis.words)),
            "reference_length": mean([float(len(tokens.words)) for tokens in some]),
        }
        for hypothesis, some in zip(hypotheses, references, strict=True)
    ]
    names = ("caption_length", "reference_length")
    return MetricResult({name: mean([row[name] for row in rows]) for name in names}, tuple(rows))
