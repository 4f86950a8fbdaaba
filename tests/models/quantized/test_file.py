from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from edgecloud.errors import CheckpointError
from edgecloud.models.quantized.file import Mapped, Spec, TensorWriter

SPECS = {"values": Spec("I8", (3, 5)), "scales": Spec("F32", (3, 1)), "table": Spec("F16", (2, 3))}
VALUES = np.arange(15, dtype=np.int8).reshape(3, 5)
SCALES = np.array([[1.0], [2.0], [3.0]], np.float32)
TABLE = np.arange(6).reshape(2, 3).astype(np.float16)


def written(folder: Path) -> Path:
    path = folder / "weights.safetensors"
    with TensorWriter(path, SPECS, {"made": "here"}) as writer:
        writer.write("values", VALUES[2:], first=2)
        writer.write("table", TABLE)
        writer.write("values", VALUES[:2])
        writer.write("scales", SCALES)
    return path


def test_rows_written_in_any_order_are_a_file_of_the_known_format(tmp_path: Path) -> None:
    found = load_file(written(tmp_path))
    np.testing.assert_array_equal(found["values"], VALUES)
    np.testing.assert_array_equal(found["scales"], SCALES)
    np.testing.assert_array_equal(found["table"], TABLE)


def test_mapped_tensors_are_the_written_ones_even_after_their_pages_were_given_back(
    tmp_path: Path,
) -> None:
    mapped = Mapped(written(tmp_path))
    assert mapped.metadata == {"made": "here"}
    for _ in range(2):
        np.testing.assert_array_equal(mapped.arrays["values"], VALUES)
        np.testing.assert_array_equal(mapped.arrays["scales"], SCALES)
        mapped.release()


def test_a_file_that_was_not_finished_never_appears(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    with pytest.raises(RuntimeError, match="halfway"), TensorWriter(path, SPECS, {}):
        raise RuntimeError("halfway")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name, rows, first",
    [("values", VALUES, 1), ("values", VALUES.astype(np.int16), 0), ("scales", VALUES, 0)],
)
def test_rows_that_do_not_fit_are_refused(
    tmp_path: Path, name: str, rows: np.ndarray, first: int
) -> None:
    with (
        pytest.raises(ValueError, match=r"rows"),
        TensorWriter(tmp_path / "weights.safetensors", SPECS, {}) as writer,
    ):
        writer.write(name, rows, first=first)


@pytest.mark.parametrize("cut", [0, 4, 60, -7])
def test_a_file_that_was_cut_off_is_told_in_one_line(tmp_path: Path, cut: int) -> None:
    path = written(tmp_path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(CheckpointError, match="convert again"):
        Mapped(path)
