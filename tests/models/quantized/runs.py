"""What can run a quantised text model here."""

from __future__ import annotations

import pytest

from edgecloud.models.quantized.own.text import available

OWN = pytest.mark.skipif(not available(), reason="this processor has no AVX2")
RUNS = [
    pytest.param((8, "own"), marks=OWN, id="int8-own"),
    pytest.param((4, "own"), marks=OWN, id="int4-own"),
    pytest.param((8, "openvino"), id="int8-openvino"),
    pytest.param((4, "openvino"), id="int4-openvino"),
]
"""Bits and kernels."""
