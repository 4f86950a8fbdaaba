"""Edge-cloud speculative decoding of audio language models, and the experiments that measure it.

Importing this package is cheap: no torch, no transformers, no model. The vocabulary of the system
(samples, drafts, verdicts, commits, traces) is in :mod:`edgecloud.contracts`, its failures in
:mod:`edgecloud.errors`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgecloud.contracts import Acceptance, Commit, Event, Prompt, Sample, Trace, Verdict
from edgecloud.errors import EdgeCloudError

if TYPE_CHECKING:
    from edgecloud.datasets.converters import converter
    from edgecloud.decoding.acceptance import Rule
    from edgecloud.decoding.gates import Gate
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
    "converter": "edgecloud.datasets.converters",
    "family": "edgecloud.models.families",
    "metric": "edgecloud.quality.metric",
}
"""Decorators by which other packages register their parts; importing this package loads none of them."""


def __getattr__(name: str) -> Any:
    """A public decorator, from its module. Raises ``AttributeError`` for another name."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def gate(
    name: str, *, options: Sequence[str] = (), own: Mapping[str, float] | None = None
) -> Callable[[Gate], Gate]:
    """Register a gate, ``(block, thresholds) -> bool``, under ``name``: see :mod:`edgecloud.decoding.gates`.

    ``options`` names the settings that it looks at, such as ``entropy_threshold``.

    ``own`` are numbers that it alone knows, with their defaults: it finds them in ``thresholds.own``, and
    ``--gate-options`` sets them.

    Raises:
        PluginError: the name is taken or cannot be one.
    """
    from edgecloud.decoding import gates

    return gates.gate(name, options=options, own=own or {})


def acceptance_rule(
    name: str, *, options: Sequence[str] = (), own: Mapping[str, float] | None = None
) -> Callable[[Rule], Rule]:
    """Register an acceptance rule, ``(token, acceptance) -> bool``, under ``name``: see
    :mod:`edgecloud.decoding.acceptance`. It must be known where the cloud runs, too.

    ``options`` names the settings that it looks at, such as ``rank_threshold``.

    ``own`` are numbers that it alone knows, with their defaults: it finds them in ``acceptance.own``, and
    ``--acceptance-options`` sets them.

    Raises:
        PluginError: the name is taken or cannot be one.
    """
    from edgecloud.decoding import acceptance

    return acceptance.rule(name, options=options, own=own or {})
