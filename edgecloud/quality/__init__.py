"""Quality of captions: pure functions on top of the field's libraries, registered in :data:`METRICS`."""

from __future__ import annotations

from edgecloud.quality import metrics as _metrics  # registers what lies there
from edgecloud.quality.language import detect_language
from edgecloud.quality.metric import METRICS
from edgecloud.quality.metrics.bertscore import BertScoreSettings, bertscore_settings
from edgecloud.quality.score import METEOR_FROM, Scores, corpus_references_of, score

__all__ = [
    "METEOR_FROM",
    "METRICS",
    "BertScoreSettings",
    "Scores",
    "bertscore_settings",
    "corpus_references_of",
    "detect_language",
    "score",
]

del _metrics
