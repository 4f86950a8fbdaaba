"""Do captions say what is true of the voice? Truth is the object ``attributes`` of a manifest's entries; what a
caption says comes from the lexicons of :mod:`edgecloud.quality.attributes`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from edgecloud.contracts import Language
from edgecloud.quality.attributes import KNOWN, LEXICON_VERSION, Reading, read_attributes
from edgecloud.quality.metric import Value, metric
from edgecloud.quality.result import MetricResult, mean

__all__ = ["ATTRIBUTE_METRICS", "attribute_scores"]

_LABELS: Final = {
    "voice": "声线性别",
    "pitch": "音高",
    "rate": "语速",
    "loudness": "响度",
    "emotion": "情绪",
}
_ALL: Final = "attribute_accuracy"
ATTRIBUTE_METRICS: Final = (
    _ALL,
    *(f"{_ALL}_{name}" for name in KNOWN),
    "contradictions",
    "hallucinated",
)


@metric(
    "attributes",
    values=[
        Value(
            _ALL,
            labels={"english": "attribute accuracy", "chinese": "属性全对率"},
            tolerance=0.02,
            headline=0,
            paired=True,
            of_truth=True,
        ),
        *(
            Value(
                f"{_ALL}_{name}",
                labels={"english": f"{name} right", "chinese": f"{label}正确率"},
                tolerance=0.02,
                of_truth=True,
            )
            for name, label in _LABELS.items()
        ),
        Value(
            "contradictions",
            higher_is_better=False,
            labels={"english": "contradictions", "chinese": "自相矛盾率"},
            tolerance=0.02,
            headline=5,
            of_truth=True,
            fault=True,
        ),
        Value(
            "hallucinated",
            higher_is_better=False,
            labels={"english": "hallucinated attributes", "chinese": "属性幻觉率"},
            tolerance=0.02,
            headline=6,
            of_truth=True,
            fault=True,
        ),
    ],
    takes="texts",
    needs=["language", "attributes"],
    main=True,
    reference_free=True,
    source=f"edgecloud.quality.attributes, lexicon {LEXICON_VERSION}",
    title="attributes",
)
def attribute_scores(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    language: Language,
    attributes: Sequence[Mapping[str, str]],
) -> MetricResult:
    """What captions say of the voice beside the truth, ``attributes`` of each sample. All are 0..1, each the mean
    over the samples that have a value; references are not looked at:

    - ``attribute_accuracy_NAME``: 1 where the caption names the true value of ``NAME`` and no other value of
      it, else 0 (a phrase of manner names no emotion); ``None`` where the truth does not say it.
    - ``attribute_accuracy``: 1 where every attribute of the truth is right, else 0.
    - ``contradictions``: 1 where the caption contradicts itself
      (:attr:`~edgecloud.quality.attributes.Reading.contradicts_itself`), else 0. Lower is better.
    - ``hallucinated``: of the values that the caption gives to attributes of the truth, an emotion by its manner
      among them, the share that the truth denies; 0 where it gives none. Lower is better. CHAIR's share of
      mentions (Rohrbach et al., arXiv 1809.02156), of one caption.

    A sample without attributes, or with none that captions are read for, has ``None`` in all, and the notes count
    such samples.
    """
    rows = [
        _row(read_attributes(text, language), _usable(truth))
        for text, truth in zip(hypotheses, attributes, strict=True)
    ]
    corpus = {name: mean([row[name] for row in rows]) for name in ATTRIBUTE_METRICS}
    return MetricResult(corpus, tuple(rows), _notes(rows, attributes))


def _usable(truth: Mapping[str, str]) -> dict[str, str]:
    """The attributes with values that captions are read for."""
    return {name: value for name, value in truth.items() if value in KNOWN.get(name, ())}


def _row(reading: Reading, truth: Mapping[str, str]) -> dict[str, float | None]:
    row: dict[str, float | None] = dict.fromkeys(ATTRIBUTE_METRICS)
    if not truth:
        return row
    right = {name: reading.named[name] == (value,) for name, value in truth.items()}
    row |= {f"{_ALL}_{name}": float(its) for name, its in right.items()}
    said = [(name, value) for name in truth for value in reading.said_of(name)]
    wrong = [value for name, value in said if value != truth[name]]
    return row | {
        _ALL: float(all(right.values())),
        "contradictions": float(reading.contradicts_itself),
        "hallucinated": len(wrong) / len(said) if said else 0.0,
    }


def _notes(
    rows: Sequence[Mapping[str, float | None]], attributes: Sequence[Mapping[str, str]]
) -> dict[str, str]:
    """Why values are missing: no attributes, or none that captions are read for."""
    notes = {}
    for name in ATTRIBUTE_METRICS:
        if missing := sum(row[name] is None for row in rows):
            what = name.removeprefix(f"{_ALL}_") if name.startswith(f"{_ALL}_") else "attributes"
            others = sum(bool(truth) for truth in attributes) < len(rows)
            why = "no attributes" if others else f"no {what} that captions are read for"
            notes[name] = f"the manifest has {why} of {missing} of {len(rows)} samples"
    return notes
