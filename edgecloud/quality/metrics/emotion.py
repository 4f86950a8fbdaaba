"""Do captions name the emotions that their references name?

The emotions that a text gives its speaker come from a lexicon of thirteen of them, in both languages
(``words/*.toml``), read by :mod:`edgecloud.quality.scope`. It is a yardstick for captions that say the
emotion in so many words; metaphors escape it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from edgecloud.contracts import Language
from edgecloud.errors import MetricError
from edgecloud.quality.lexicon import lexicon
from edgecloud.quality.metric import Value, metric
from edgecloud.quality.result import MetricResult, mean
from edgecloud.quality.scope import speaker_emotions

__all__ = [
    "EMOTION_METRICS",
    "LEXICON",
    "LEXICON_VERSION",
    "emotion_scores",
    "named_emotion",
    "named_emotions",
    "reference_emotion",
    "reference_emotions",
]

EMOTION_METRICS: Final = ("emotion_accuracy", "emotion_recall", "emotion_precision")

LEXICON_VERSION: Final = 2
"""Values of different versions do not compare; raised with any change of words or rules."""

LEXICON: Final[Mapping[Language, Mapping[str, tuple[str, ...]]]] = MappingProxyType(
    {"chinese": lexicon("chinese").emotions, "english": lexicon("english").emotions}
)
"""Words by emotion, by language; a star stands for any further letters. None is in two emotions."""


def named_emotions(text: str, language: Language) -> tuple[str, ...]:
    """Every emotion that ``text`` gives the speaker, once each, in its order.

    >>> named_emotions("语气并不开心，有些生气，又很疲惫", "chinese")
    ('angry', 'tired')
    """
    return speaker_emotions(text, language)


def named_emotion(text: str, language: Language) -> str | None:
    """The emotion that ``text`` names first, or ``None``.

    >>> named_emotion("She sounds not happy but tired.", "english")
    'tired'
    """
    return next(iter(named_emotions(text, language)), None)


def reference_emotion(references: Sequence[str], language: Language) -> str | None:
    """The emotion most references name first; among equals, the one named first. ``None`` without
    any."""
    named = [named_emotion(reference, language) for reference in references]
    counts = Counter(emotion for emotion in named if emotion is not None)
    return counts.most_common(1)[0][0] if counts else None


def reference_emotions(references: Sequence[str], language: Language) -> frozenset[str]:
    """Every emotion that any of the references names."""
    return frozenset(
        emotion for reference in references for emotion in named_emotions(reference, language)
    )


@metric(
    "emotion",
    values=[
        Value(
            name,
            labels={"english": name.replace("_", " "), "chinese": chinese},
            tolerance=0.02,
            headline=4 if name == "emotion_accuracy" else None,
            paired=name == "emotion_accuracy",
        )
        for name, chinese in zip(
            EMOTION_METRICS, ("情绪准确率", "情绪召回率", "情绪精确率"), strict=True
        )
    ],
    takes="texts",
    needs=["language"],
    main=True,
    # Results of every version compare by these words.
    source=f"edgecloud.quality.emotion, lexicon {LEXICON_VERSION}",
    title="emotions",
)
def emotion_scores(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], *, language: Language
) -> MetricResult:
    """The emotions that captions name beside those of their references. All are 0..1, higher is better, each
    the mean over samples:

    - ``emotion_accuracy``: whether the emotion named first is that of the references.
    - ``emotion_recall``: the share of the emotions that the references name, all of them together,
      that the caption names too.
    - ``emotion_precision``: the share of the caption's emotions that a reference names.

    A sample whose references name none has no value; a caption that names none has 0 in all three.
    Raises :class:`~edgecloud.errors.MetricError` when the lengths differ.
    """
    if len(hypotheses) != len(references):
        raise MetricError(f"{len(hypotheses)} hypotheses but {len(references)} lists of references")
    rows = [
        _row(hypothesis, alternatives, language)
        for hypothesis, alternatives in zip(hypotheses, references, strict=True)
    ]
    notes = {}
    unnamed = sum(row["emotion_accuracy"] is None for row in rows)
    if unnamed:
        why = f"references of {unnamed} of {len(rows)} samples name no emotion of the lexicon"
        notes = dict.fromkeys(EMOTION_METRICS, why)
    corpus = {name: mean([row[name] for row in rows]) for name in EMOTION_METRICS}
    return MetricResult(corpus, tuple(rows), notes)


def _row(hypothesis: str, references: Sequence[str], language: Language) -> dict[str, float | None]:
    wanted = reference_emotions(references, language)
    if not wanted:
        return dict.fromkeys(EMOTION_METRICS)
    named = named_emotions(hypothesis, language)
    right = wanted.intersection(named)
    return {
        "emotion_accuracy": float(named[:1] == (reference_emotion(references, language),)),
        "emotion_recall": len(right) / len(wanted),
        "emotion_precision": len(right) / len(named) if named else 0.0,
    }
