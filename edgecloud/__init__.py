"""Edge-cloud speculative decoding of audio language models, and the experiments that measure it.

Importing this package is cheap: no torch, no transformers, no model. The vocabulary of the system
(samples, drafts, verdicts, commits, traces) is in :mod:`edgecloud.contracts`, its failures in
:mod:`edgecloud.errors`.
"""

from __future__ import annotations

from edgecloud.contracts import Acceptance, Commit, Event, Prompt, Sample, Trace, Verdict
from edgecloud.errors import EdgeCloudError

__version__ = "0.1.0"

__all__ = [
    "Acceptance",
    "Commit",
    "EdgeCloudError",
    "Event",
    "Prompt",
    "Sample",
    "Trace",
    "Verdict",
    "__version__",
]
