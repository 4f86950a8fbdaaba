"""METEOR 1.5 (Denkowski and Lavie, 2014) by pycocoevalcap's Java program, 0..1, higher is better.

English only: its stemmer, synonyms and paraphrases are English.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from edgecloud.errors import MetricError
from edgecloud.quality.coco import check_tokens
from edgecloud.quality.java import meteor_lines, ptb_lines
from edgecloud.quality.metric import metric
from edgecloud.quality.result import MetricResult, finite, undefined
from edgecloud.quality.tokenize import Tokens, normalize

__all__ = ["MOST_MATCHES", "PTB", "meteor", "meteor_tokens", "ptb_segment", "ptb_tokens"]

PTB: Final = "en.ptb"
# Ten times what a slow machine needs to start the program, and for a pair.
_START_S: Final = 120.0
_PAIR_S: Final = 0.2
MOST_MATCHES: Final = 20_000
"""Most ways to match equal words of a caption and a reference; aligning more may take minutes."""
# pycocoevalcap's list
_PUNCTUATION: Final = frozenset(
    {"''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"}
)
_BRACKETS: Final = frozenset({"-LRB-", "-RRB-", "-LCB-", "-RCB-"})
_DROPPED: Final = _PUNCTUATION | _BRACKETS


def ptb_segment(texts: Sequence[str], *, deadline_s: float = 60.0) -> list[Tokens]:
    """Texts cut up by Stanford's PTBTokenizer (Java), as the COCO caption scorers do.

    Raises :class:`~edgecloud.errors.MetricError` without Java, or past the deadline.
    """
    lines = ptb_lines([normalize(text) for text in texts], deadline_s=deadline_s)
    return [Tokens(PTB, tuple(w for w in line.split() if w not in _DROPPED)) for line in lines]


def ptb_tokens(texts: Sequence[str], *, deadline_s: float = 60.0) -> Mapping[str, Tokens]:
    """Tokens by text, all from one start of the program. Raises as :func:`ptb_segment` does."""
    distinct = list(dict.fromkeys(texts))
    return dict(zip(distinct, ptb_segment(distinct, deadline_s=deadline_s), strict=True))


def meteor(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    deadline_s: float | None = None,
) -> MetricResult:
    """``meteor`` of English captions; ``None``, with the reason, without Java or past the deadline.

    Raises as :func:`meteor_tokens` does.
    """
    _check(hypotheses, references)
    try:
        cut = ptb_tokens(
            [*hypotheses, *(text for some in references for text in some)],
            deadline_s=_START_S if deadline_s is None else deadline_s,
        )
    except MetricError as error:
        return undefined(("meteor",), len(hypotheses), str(error))
    return meteor_tokens(
        [cut[text] for text in hypotheses],
        [[cut[text] for text in some] for some in references],
        deadline_s=deadline_s,
    )


@metric(
    "meteor",
    labels={"english": "METEOR"},
    tolerance=0.01,
    pooled=True,
    tokenizers=[PTB],
    languages=["english"],
    needs=["java"],
    libraries=["pycocoevalcap"],
)
def meteor_tokens(
    hypotheses: Sequence[Tokens],
    references: Sequence[Sequence[Tokens]],
    *,
    deadline_s: float | None = None,
) -> MetricResult:
    """``meteor`` of captions that :func:`ptb_segment` cut up, within two minutes and 0.2 s a pair
    unless ``deadline_s`` says otherwise.

    The corpus value is METEOR's aggregate over pooled statistics, not the samples' mean. An empty
    caption scores 0. ``None``, with the reason, without Java or past the deadline. A sample whose
    caption and a reference repeat the same words so often that equal words match in more than
    ``MOST_MATCHES`` ways is left out, itself ``None``, and a note counts them.

    Raises:
        MetricError: the lengths differ, there is nothing to score, or the tokens are not ``en.ptb``.
    """
    _check(hypotheses, references)
    check_tokens(hypotheses, references)
    if (other := hypotheses[0].tokenizer) != PTB:
        raise MetricError(f"METEOR takes tokens of {PTB}, not of {other}")
    fit = [
        _matches(hypothesis, some) <= MOST_MATCHES
        for hypothesis, some in zip(hypotheses, references, strict=True)
    ]
    pairs = [
        (hypothesis.text, [reference.text for reference in some])
        for hypothesis, some, fits in zip(hypotheses, references, fit, strict=True)
        if fits
    ]
    left_out = len(hypotheses) - len(pairs)
    notes = {}
    if left_out:
        notes["meteor"] = (
            f"{left_out} of {len(hypotheses)} samples left out: caption and reference repeat the same "
            f"words, which match in more than {MOST_MATCHES} ways"
        )
    if not pairs:
        return undefined(("meteor",), len(hypotheses), notes["meteor"])
    try:
        within_s = _START_S + _PAIR_S * len(pairs) if deadline_s is None else deadline_s
        *scores, corpus = meteor_lines(pairs, deadline_s=within_s)
    except MetricError as error:
        return undefined(("meteor",), len(hypotheses), str(error))
    values = iter(scores)
    rows = tuple({"meteor": finite(next(values)) if fits else None} for fits in fit)
    return MetricResult({"meteor": finite(corpus)}, rows, notes)


def _matches(hypothesis: Tokens, references: Sequence[Tokens]) -> int:
    """In how many ways words of the caption match equal ones of a reference: the most of any."""
    counts = Counter(hypothesis.words)
    return max(
        (sum(counts[word] for word in reference.words) for reference in references), default=0
    )


def _check(hypotheses: Sequence[object], references: Sequence[object]) -> None:
    if not hypotheses or len(hypotheses) != len(references):
        raise MetricError(f"{len(hypotheses)} hypotheses, {len(references)} lists of references")
