from __future__ import annotations

import numpy as np
import pytest

from edgecloud.models.quantized.shapes import bits_of, group_size
from edgecloud.models.quantized.weights import dequantize, quantize

DRAW = np.random.default_rng(0)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("columns", [6, 96, 192, 256, 576, 2048])
def test_a_weight_is_at_most_half_a_step_from_what_is_stored(columns: int, bits: int) -> None:
    weights = DRAW.standard_normal((5, columns)).astype(np.float32)
    matrix = quantize(weights, bits)
    assert matrix.shape == weights.shape
    step = np.repeat(np.abs(matrix.scales), columns // matrix.scales.shape[1], axis=1)
    error = np.abs(dequantize(matrix) - weights) / step
    if bits == 8:
        assert error.max() <= 0.5 + 1e-4
    else:
        # The side opposite to the largest weight ends at 7 steps, where that has 8.
        assert error.max() <= 1.0 + 1e-4
        assert (error <= 0.5 + 1e-4).mean() > 0.95


def test_the_largest_weight_of_a_group_is_stored_exactly() -> None:
    weights = np.array([[0.5, -2.0, 1.0, 0.25], [4.0, 1.0, -1.0, 0.0]], np.float32)
    found = dequantize(quantize(weights, 4))
    assert found[0, 1] == -2.0
    assert found[1, 0] == 4.0
    np.testing.assert_array_equal(found, weights)


def test_four_bits_lie_two_to_a_byte_the_even_column_low() -> None:
    matrix = quantize(np.array([[-8.0, 1.0, 7.0, -1.0]], np.float32), 4)
    assert matrix.scales.tolist() == [[1.0]]
    assert matrix.values.tolist() == [[0x18, 0xF7]]


@pytest.mark.parametrize("bits", [8, 4])
def test_a_group_of_zeros_stays_zero(bits: int) -> None:
    found = quantize(np.zeros((2, 8), np.float32), bits)
    assert np.isfinite(found.scales).all()
    assert not dequantize(found).any()


def test_rows_are_quantised_by_themselves() -> None:
    weights = DRAW.standard_normal((6, 256)).astype(np.float32)
    whole, part = quantize(weights, 4), quantize(weights[2:4], 4)
    np.testing.assert_array_equal(whole.values[2:4], part.values)
    np.testing.assert_array_equal(whole.scales[2:4], part.scales)


@pytest.mark.parametrize(
    "columns, bits, size",
    [(2048, 8, 2048), (2048, 4, 128), (192, 4, 96), (96, 4, 96), (254, 4, 127)],
)
def test_groups_divide_the_row(columns: int, bits: int, size: int) -> None:
    assert group_size(columns, bits) == size


def test_output_layer_and_audio_tower_keep_eight_bits() -> None:
    assert [bits_of(name, 4) for name in ("head", "audio.layers.0.fc1", "layers.0.down")] == [
        8,
        8,
        4,
    ]
