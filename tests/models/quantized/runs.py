"""What can run a quantised text model here."""

from __future__ import annotations

import pytest

from edgecloud.models.quantized.vnni.text import available

VNNI = pytest.mark.skipif(not available(), reason="this processor has no AVX-512 VNNI")
RUNS = [
    pytest.param((8, "vnni"), marks=VNNI, id="int8-vnni"),
    pytest.param((4, "vnni"), marks=VNNI, id="int4-vnni"),
    pytest.param((8, "openvino"), id="int8-openvino"),
    pytest.param((4, "openvino"), id="int4-openvino"),
]
"""Bits and kernels."""
