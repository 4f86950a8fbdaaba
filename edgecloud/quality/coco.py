"""Tokens in the shape that pycocoevalcap takes, checked."""

from __future__ import annotations

from collections.abc import Sequence

from edgecloud.errors import MetricError
from edgecloud.quality.tokenize import Tokens

__all__ = ["CocoTexts", "check_tokens", "coco_texts"]

CocoTexts = dict[int, list[str]]
"""Texts by position, tokens joined with one space."""


def coco_texts(
    hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]
) -> tuple[CocoTexts, CocoTexts]:
    """``(references, hypotheses)`` by position, the order in which the library takes them.

    An empty hypothesis stays, and scores 0: the model said nothing. An empty reference is an error,
    since against it nothing can be scored (ROUGE-L of nothing against nothing would be 1).

    Raises:
        MetricError: there is nothing to score; lengths differ; a text is not :class:`Tokens`, or of
            another tokeniser; a sample has no reference, or an empty one.
    """
    if not hypotheses:
        raise MetricError("nothing to score: no hypotheses were given")
    if len(hypotheses) != len(references):
        raise MetricError(f"{len(hypotheses)} hypotheses but {len(references)} lists of references")
    check_tokens(hypotheses, references)
    for position, alternatives in enumerate(references):
        if not alternatives or not all(reference.words for reference in alternatives):
            raise MetricError(
                f"sample {position} has an empty reference or none; leave it out of the scores"
            )
    gts = {i: [reference.text for reference in some] for i, some in enumerate(references)}
    res = {i: [hypothesis.text] for i, hypothesis in enumerate(hypotheses)}
    return gts, res


def check_tokens(hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> None:
    """Raise :class:`~edgecloud.errors.MetricError` for a text that nobody cut up, or where two
    tokenisers did."""
    texts = [*hypotheses, *(reference for some in references for reference in some)]
    for text in texts:
        if not isinstance(text, Tokens):
            raise MetricError(
                f"{text!r} is not tokens: unsegmented Chinese would score 0 in silence; use "
                "edgecloud.quality.tokenize.segment"
            )
    tokenizers = sorted({text.tokenizer for text in texts})
    if len(tokenizers) > 1:
        raise MetricError(f"texts of different tokenisers: {', '.join(tokenizers)}")
