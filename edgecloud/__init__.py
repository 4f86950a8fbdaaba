"""Edge-cloud speculative decoding of audio language models, and the experiments that measure it.

Importing this package is cheap: no torch, no transformers, no model. The vocabulary of the system
(samples, drafts, verdicts, commits, traces) is in :mod:`edgecloud.contracts`, its failures in
:mod:`edgecloud.errors`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgecloud.contracts import Acceptance, Commit, Event, Prompt, Sample, Trace, Verdict
from edgecloud.errors import EdgeCloudError

if TYPE_CHECKING:
    from edgecloud.datasets.converters import converter
    from edgecloud.decoding.acceptance import rule as acceptance_rule
    from edgecloud.decoding.gates import gate
    from edgecloud.models.families import family
    from edgecloud.quality.metric import metric

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
    "acceptance_rule",
    "converter",
    "family",
    "gate",
    "metric",
]

_LAZY = {
    "acceptance_rule": "edgecloud.decoding.acceptance:rule",
    "converter": "edgecloud.datasets.converters:converter",
    "family": "edgecloud.models.families:family",
    "gate": "edgecloud.decoding.gates:gate",
    "metric": "edgecloud.quality.metric:metric",
}
"""Decorators by which other packages register their parts; importing this package loads none of them."""


def __getattr__(name: str) -> Any:
    """A public decorator, from its module. Raises ``AttributeError`` for another name."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, decorator = _LAZY[name].partition(":")
    return getattr(import_module(module), decorator)
