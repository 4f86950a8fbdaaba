"""The vocabulary of the whole system: what is passed between its parts, and the seams.

Data is in frozen dataclasses that know nothing of models, processes or files. The protocols at the
end are the seams: a new model, cloud or clock is one class with these methods.
"""

from __future__ import annotations

from edgecloud.contracts.cloud import (
    Acceptance,
    CloudChunk,
    CloudCost,
    CloudModel,
    CloudSession,
    Pending,
    Verdict,
)
from edgecloud.contracts.model import Clock, Drafted, EdgeModel, Model, Sized
from edgecloud.contracts.samples import LOG_MEL, Arrays, Language, Prompt, PromptType, Sample
from edgecloud.contracts.tokens import Origin, StopLimits, StopReason, TokenStats
from edgecloud.contracts.trace import (
    Commit,
    Degrade,
    Draft,
    Event,
    Features,
    Finish,
    Generate,
    Prefill,
    Trace,
    Verify,
)

__all__ = [
    "LOG_MEL",
    "Acceptance",
    "Arrays",
    "Clock",
    "CloudChunk",
    "CloudCost",
    "CloudModel",
    "CloudSession",
    "Commit",
    "Degrade",
    "Draft",
    "Drafted",
    "EdgeModel",
    "Event",
    "Features",
    "Finish",
    "Generate",
    "Language",
    "Model",
    "Origin",
    "Pending",
    "Prefill",
    "Prompt",
    "PromptType",
    "Sample",
    "Sized",
    "StopLimits",
    "StopReason",
    "TokenStats",
    "Trace",
    "Verdict",
    "Verify",
]
