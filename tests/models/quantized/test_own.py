"""Our own kernels, part by part, against numpy."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edgecloud.contracts import Prompt
from edgecloud.errors import ModelError
from edgecloud.models.assembly import on_meta
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.quantized.own import kernels, parts, text
from edgecloud.models.quantized.own.text import Cache, OwnText
from edgecloud.models.quantized.own.tile import ROWS
from edgecloud.models.quantized.random import random_model
from edgecloud.models.quantized.shapes import TextShape
from edgecloud.models.quantized.weights import Matrix, dequantize, quantize
from tests.models.quantized.runs import OWN

pytestmark = OWN

DRAW = np.random.default_rng(0)


@dataclass
class Held:
    """Matrices by name, as a file of weights has them."""

    matrices: dict[str, Matrix]

    def matrix(self, name: str) -> Matrix:
        return self.matrices[name]


def packed(matrix: Matrix) -> kernels.Matrices:
    return text._packed(Held({"m": matrix}), ["m"])  # type: ignore[arg-type]


def work_of(rows: NDArray[np.float32], of: kernels.Matrices) -> kernels.Work:
    """``rows`` quantised for matrices, with room for a product."""
    count, columns = rows.shape
    group, wide = of.group, of.scales.shape[1]
    floats = np.empty((2, count, max(wide, columns)), np.float32)
    work = kernels.Work(
        hidden=rows,
        cos=rows,
        sin=rows,
        whole=floats[0],
        other=floats[1],
        x=np.empty((count, columns), parts.NUMBER),
        scales=np.empty((count, columns // group), np.float32),
        sums=np.empty((count, columns // group), np.int32),
        scores=rows,
        met=np.zeros(3, np.int64),
    )
    kernels._take(work, rows, 0, count, of)
    return work


def numbers(work: kernels.Work) -> NDArray[np.float64]:
    """What was quantised, column by column."""
    fours = work.x.reshape(len(work.x), -1, 4)
    in_order = fours[..., [0, 2, 1, 3]] if parts.NUMBER is np.int16 else fours
    return np.asarray(in_order.reshape(work.x.shape).astype(np.float64))


def dequantised(work: kernels.Work) -> NDArray[np.float64]:
    count, columns = work.x.shape
    groups = numbers(work).reshape(count, work.scales.shape[1], -1)
    return np.asarray((groups * work.scales[:, :, None]).reshape(count, columns))


def product(matrix: Matrix, rows: NDArray[np.float32], *shares: tuple[int, int]) -> Any:
    """Matrix times rows by the kernels, ``(tokens, padded rows)``; and what was quantised."""
    of = packed(matrix)
    wide = of.scales.shape[1]
    work = work_of(rows, of)
    out = np.full((len(rows), wide), np.nan, np.float32)
    for share in shares or ((0, wide // ROWS),):
        kernels._product(of, 0, work, out, (0, len(rows)), share)
    return out * of.scales[0], work


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 12, 13, 40])
@pytest.mark.parametrize("size", [(64, 128), (100, 96), (192, 8), (70, 2304)])
@pytest.mark.parametrize("bits", [8, 4])
def test_a_product_is_that_of_the_quantised_numbers(
    bits: int, size: tuple[int, int], count: int
) -> None:
    matrix = quantize(DRAW.standard_normal(size, np.float32), bits)
    rows = DRAW.standard_normal((count, size[1]), np.float32)
    found, work = product(matrix, rows)
    expected = dequantised(work) @ dequantize(matrix).astype(np.float64).T
    np.testing.assert_allclose(
        found[:, : size[0]], expected, rtol=0, atol=2e-6 * np.abs(expected).max()
    )
    assert not found[:, size[0] :].any()


def test_four_columns_are_enough_in_8_bits() -> None:
    matrix = quantize(np.array([[1, -2, 3, 4]], np.float32), 8)
    found, _ = product(matrix, np.array([[1, 1, 1, 1]], np.float32))
    assert found[0, 0] == pytest.approx(6, rel=0.01)


def test_the_largest_numbers_do_not_overflow() -> None:
    matrix = Matrix(np.full((64, 128), -127, np.int8), np.ones((64, 1), np.float32), 8)
    found, _ = product(matrix, np.full((2, 128), 127, np.float32))
    np.testing.assert_allclose(found, -127.0 * 127 * 128, rtol=1e-6)


@pytest.mark.parametrize("bits", [8, 4])
def test_a_token_does_not_hang_on_those_beside_it(bits: int) -> None:
    matrix = quantize(DRAW.standard_normal((128, 2304), np.float32), bits)
    rows = DRAW.standard_normal((23, 2304), np.float32)
    together = product(matrix, rows)[0]
    for first, last in ((0, 1), (3, 5), (1, 14)):
        np.testing.assert_array_equal(product(matrix, rows[first:last])[0], together[first:last])
    np.testing.assert_array_equal(product(matrix, rows, (1, 128 // ROWS), (0, 1))[0], together)


def test_activations_are_rounded_in_groups() -> None:
    rows = DRAW.standard_normal((3, 256), np.float32)
    rows[1, :128] = 0
    work = work_of(rows, packed(quantize(np.ones((64, 256), np.float32), 8)))
    grouped = rows.reshape(3, 2, 128)
    np.testing.assert_array_equal(
        work.scales, np.abs(grouped).max(axis=2).astype(np.float32) / np.float32(parts.LARGEST)
    )
    np.testing.assert_array_equal(
        work.sums, -128 * work.x.reshape(3, 2, 128).astype(np.int32).sum(axis=2)
    )
    half = np.repeat(work.scales, 128, axis=1) * (0.5001 + 1e-7 * parts.LARGEST)
    assert (np.abs(dequantised(work) - rows) <= half).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_stays_none(value: float) -> None:
    matrix = quantize(DRAW.standard_normal((64, 256), np.float32), 8)
    rows = DRAW.standard_normal((2, 256), np.float32)
    rows[0, 200] = value
    found, _ = product(matrix, rows)
    assert not np.isfinite(found[0]).any()
    assert np.isfinite(found[1]).all()


def test_numbers_next_to_nothing_are_zeros() -> None:
    matrix = quantize(DRAW.standard_normal((64, 128), np.float32), 8)
    found, _ = product(matrix, np.full((1, 128), 1e-40, np.float32))
    assert not found.any()


def test_the_exponential_is_exact_to_a_few_units_and_ends_at_its_bounds() -> None:
    x = np.linspace(-87, 88, 10_001, dtype=np.float32)
    found = np.array([parts.exp(value) for value in x])
    assert np.abs(found / np.exp(x.astype(np.float64)) - 1).max() < 3e-7
    assert parts.exp(np.float32(-200)) == parts.exp(np.float32(-87))
    assert parts.exp(np.float32(200)) == parts.exp(np.float32(88))


def test_a_cache_that_grows_keeps_its_content(tiny_checkpoint: Path) -> None:
    cache = Cache(TextShape.of(on_meta(Checkpoint.open(tiny_checkpoint), torch.float32)))
    assert cache.nbytes == 0
    cache.reserve(3)
    room = cache.memory.keys.shape[2]
    cache.memory.keys[:, :, :3] = 1
    cache.length = 3
    cache.reserve(room)
    assert cache.memory.keys.shape[2] == room
    cache.reserve(room + 1)
    assert cache.memory.keys.shape[2] >= 2 * room
    assert (cache.memory.keys[:, :, :3] == 1).all()


@pytest.fixture(scope="module", params=[8, 4])
def logits(request: pytest.FixtureRequest, tiny_checkpoint: Path) -> dict[int, torch.Tensor]:
    """Of the same model and tokens, by the number of threads."""
    network = on_meta(Checkpoint.open(tiny_checkpoint), torch.float32)
    before = torch.get_num_threads()
    found = {}
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            model = random_model(network, bits=request.param, kernels="own", with_audio=False)
            model.prefill(Prompt(tuple(range(1, 40))))
            found[threads] = model.extend([5, 6, 7, 8, 9])
    finally:
        torch.set_num_threads(before)
    return found


@pytest.mark.parametrize("threads", [2, 3])
def test_the_number_of_threads_changes_no_bit(
    logits: dict[int, torch.Tensor], threads: int
) -> None:
    assert torch.isfinite(logits[1]).all()
    assert torch.equal(logits[threads], logits[1])


def test_threads_that_do_not_meet_end_with_an_error(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = on_meta(Checkpoint.open(tiny_checkpoint), torch.float32)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        model = random_model(network, kernels="own", with_audio=False)
    finally:
        torch.set_num_threads(before)
    runner = model._engine._text
    assert isinstance(runner, OwnText)
    monkeypatch.setattr(text, "_POLLS", 10_000)
    monkeypatch.setattr(text, "_DEADLINE_S", 0.2)
    with ThreadPoolExecutor(1) as busy:
        monkeypatch.setattr(runner, "_others", busy)
        end = threading.Event()
        busy.submit(end.wait, 20)
        with pytest.raises(ModelError, match="in vain"):
            model.prefill(Prompt((1, 2, 3)))
        end.set()
    monkeypatch.undo()
    assert torch.isfinite(model.prefill(Prompt((1, 2, 3)))).all()
