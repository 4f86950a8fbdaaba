"""The laws of :class:`edgecloud.contracts.Model`, for any implementation.

Subclass :class:`ModelConformance` in a test file and give it ``model`` and ``prompt`` fixtures; what
an implementation rounds differently in a batch goes into ``tolerance``.
"""

from __future__ import annotations

import pytest

from edgecloud.contracts import Model, Prompt
from edgecloud.testing import MODEL_LAWS, Law, ModelCase

__all__ = ["ModelConformance"]


class ModelConformance:
    """The test takes a ``model`` without a sequence yet."""

    tolerance = 1e-4
    """Largest difference of logits between one forward over n tokens and n forwards."""

    @pytest.mark.parametrize("law", MODEL_LAWS, ids=lambda law: law.name)
    def test_it_obeys(self, model: Model, prompt: Prompt, law: Law[ModelCase]) -> None:
        law.check(ModelCase(model, prompt, self.tolerance), ())
