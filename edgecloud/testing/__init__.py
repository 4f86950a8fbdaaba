"""Conformance suites: what every gate, acceptance rule and metric obeys, for those of other packages too.

::

    from edgecloud.testing import check_gate

    def test_my_gate_obeys_the_laws() -> None:
        check_gate(my_gate, options=("entropy_threshold",))

Each law is a sentence and a search for what breaks it. The suites need hypothesis: ``pip install
'edgecloud[testing]'``.

That one token more never asks less is *no* law of a gate. Nothing relies on it: the loop asks about a whole
block, or about each token alone, and never concludes from one block to a longer one. A gate that looks at the
mean of a block, which a sure token lowers, is a sound gate; all that are built in look at the worst token and
happen to have the property.
"""

from __future__ import annotations

from edgecloud.testing.acceptance import RULE_LAWS, check_acceptance_rule
from edgecloud.testing.gates import GATE_LAWS, check_gate
from edgecloud.testing.laws import Law
from edgecloud.testing.metrics import METRIC_LAWS, check_metric

__all__ = [
    "GATE_LAWS",
    "METRIC_LAWS",
    "RULE_LAWS",
    "Law",
    "check_acceptance_rule",
    "check_gate",
    "check_metric",
]
