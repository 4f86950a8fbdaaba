"""Edge-cloud speculative decoding of audio language models, and the experiments that measure it.

Importing this package is cheap: what a name needs is loaded when the name is used. The vocabulary of the system
(samples, drafts, verdicts, commits, traces) is in :mod:`edgecloud.contracts`, its failures in
:mod:`edgecloud.errors`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgecloud.contracts import Acceptance, Commit, Event, Prompt, Sample, Trace, Verdict
    from edgecloud.datasets.converters import converter
    from edgecloud.decoding.acceptance import rule as acceptance_rule
    from edgecloud.decoding.gates import gate
    from edgecloud.errors import EdgeCloudError
    from edgecloud.library.data import samples
    from edgecloud.library.evaluation import Evaluation, evaluate
    from edgecloud.library.experiments import run
    from edgecloud.library.outcome import Outcome
    from edgecloud.library.pair import Pair, load_pair
    from edgecloud.library.requests import Stream, decode, stream
    from edgecloud.models.families import family
    from edgecloud.quality.metric import metric
    from edgecloud.results.result import Result, read_result

__version__ = "0.1.0"

__all__ = [
    "Acceptance",
    "Commit",
    "EdgeCloudError",
    "Evaluation",
    "Event",
    "Outcome",
    "Pair",
    "Prompt",
    "Result",
    "Sample",
    "Stream",
    "Trace",
    "Verdict",
    "__version__",
    "acceptance_rule",
    "converter",
    "decode",
    "evaluate",
    "family",
    "gate",
    "load_pair",
    "metric",
    "read_result",
    "run",
    "samples",
    "stream",
]

_VOCABULARY = ("Acceptance", "Commit", "Event", "Prompt", "Sample", "Trace", "Verdict")
_LAZY = {
    **dict.fromkeys(_VOCABULARY, "edgecloud.contracts"),
    "EdgeCloudError": "edgecloud.errors",
    "Evaluation": "edgecloud.library.evaluation",
    "Outcome": "edgecloud.library.outcome",
    "Pair": "edgecloud.library.pair",
    "Result": "edgecloud.results.result",
    "Stream": "edgecloud.library.requests",
    "acceptance_rule": "edgecloud.decoding.acceptance:rule",
    "converter": "edgecloud.datasets.converters",
    "decode": "edgecloud.library.requests",
    "evaluate": "edgecloud.library.evaluation",
    "family": "edgecloud.models.families",
    "gate": "edgecloud.decoding.gates",
    "load_pair": "edgecloud.library.pair",
    "metric": "edgecloud.quality.metric",
    "read_result": "edgecloud.results.result",
    "run": "edgecloud.library.experiments",
    "samples": "edgecloud.library.data",
    "stream": "edgecloud.library.requests",
}
"""The vocabulary, the library's functions and types, and the decorators by which other packages register their parts,
each with its module; importing this package loads none of them."""
_MODULES = ("contracts", "errors")
"""Modules that may be named without an import of their own."""


def __getattr__(name: str) -> Any:
    """A public name, from its module. Raises ``AttributeError`` for another name."""
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, own = _LAZY[name].partition(":")
    return getattr(import_module(module), own or name)


def __dir__() -> list[str]:
    """The public names, for completion."""
    return __all__
