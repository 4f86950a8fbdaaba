"""Conformance suites: what every gate, acceptance rule, metric, model family and converter obeys, for those of other packages too.

::

    from edgecloud.testing import check_gate

    def test_my_gate_obeys_the_laws() -> None:
        check_gate(my_gate, options=("entropy_threshold",))

So do ``check_metric``, ``check_family`` and ``check_converter``, of which the last two take a miniature: a
checkpoint of a few thousand weights, a dataset of a few recordings. Each law is a sentence and a search for what breaks it. The suites need hypothesis: ``pip install
'edgecloud[testing]'``.

That one token more never asks less is *no* law of a gate. Nothing relies on it: the loop asks about a whole
block, or about each token alone, and never concludes from one block to a longer one. A gate that looks at the
mean of a block, which a sure token lowers, is a sound gate; all that are built in look at the worst token and
happen to have the property.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgecloud.testing.acceptance import RULE_LAWS, check_acceptance_rule
from edgecloud.testing.gates import GATE_LAWS, check_gate
from edgecloud.testing.laws import Law
from edgecloud.testing.metrics import METRIC_LAWS, check_metric

if TYPE_CHECKING:
    from edgecloud.testing.converters import CONVERTER_LAWS, ConverterCase, check_converter
    from edgecloud.testing.families import FAMILY_LAWS, check_family
    from edgecloud.testing.models import MODEL_LAWS, ModelCase, check_model

__all__ = [
    "CONVERTER_LAWS",
    "FAMILY_LAWS",
    "GATE_LAWS",
    "METRIC_LAWS",
    "MODEL_LAWS",
    "RULE_LAWS",
    "ConverterCase",
    "Law",
    "ModelCase",
    "check_acceptance_rule",
    "check_converter",
    "check_family",
    "check_gate",
    "check_metric",
    "check_model",
]

_LAZY = {
    "CONVERTER_LAWS": "converters",
    "ConverterCase": "converters",
    "check_converter": "converters",
    "FAMILY_LAWS": "families",
    "check_family": "families",
    "MODEL_LAWS": "models",
    "ModelCase": "models",
    "check_model": "models",
}
"""What needs torch or a decoder of audio, and where it is."""


def __getattr__(name: str) -> Any:
    """A suite of models, families or converters. Raises ``AttributeError`` for another name."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
