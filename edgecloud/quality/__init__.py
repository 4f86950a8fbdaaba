"""Quality of captions: pure functions on top of the field's libraries."""

from __future__ import annotations

from edgecloud.quality.bertscore import BertScoreSettings, bertscore_settings
from edgecloud.quality.language import detect_language
from edgecloud.quality.score import Scores, corpus_references_of, score

__all__ = [
    "BertScoreSettings",
    "Scores",
    "bertscore_settings",
    "corpus_references_of",
    "detect_language",
    "score",
]
