"""A safetensors file that is written piece by piece and read without being loaded.

The library's own writer wants every tensor in memory. The format: eight bytes with the length of a
JSON header, the header (dtype, shape and place of each tensor), then the tensors without gaps.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from edgecloud.errors import CheckpointError
from edgecloud.textfiles import parse_json

__all__ = ["Mapped", "Spec", "TensorWriter"]

_KINDS: dict[str, np.dtype[Any]] = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(np.uint16),  # numpy has no bfloat16: its bits
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
}
_ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Spec:
    """A tensor to be written: ``kind`` is the format's name of its type (F32, F16, BF16, I8, U8)."""

    kind: str
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, an entry of the first axis."""
        return int(np.prod(self.shape[1:])) * _KINDS[self.kind].itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return self.shape[0] * self.row_bytes


class TensorWriter:
    """Context manager: writes rows of tensors in any order to ``path``, which appears only at the end.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, path: Path, specs: Mapping[str, Spec], metadata: Mapping[str, str]) -> None:
        # The widest types first keep every tensor aligned.
        order = sorted(specs, key=lambda name: -_KINDS[specs[name].kind].itemsize)
        header: dict[str, Any] = {"__metadata__": dict(metadata)}
        self._begins: dict[str, int] = {}
        end = 0
        for name in order:
            spec = specs[name]
            self._begins[name] = end
            end += spec.nbytes
            places = [self._begins[name], end]
            header[name] = {"dtype": spec.kind, "shape": spec.shape, "data_offsets": places}
        text = json.dumps(header).encode()
        text += b" " * (-(8 + len(text)) % _ALIGNMENT)
        self._specs = specs
        self._path = path
        self._part = path.with_name(f"{path.name}.{os.getpid()}.part")
        self._file = self._part.open("wb")
        self._file.write(len(text).to_bytes(8, "little") + text)
        self._start = self._file.tell()
        self._file.truncate(self._start + end)

    def write(self, name: str, rows: NDArray[Any], *, first: int = 0) -> None:
        """Write ``rows`` of tensor ``name``, from row ``first`` on."""
        spec = self._specs[name]
        kind = _KINDS[spec.kind]
        if rows.dtype != kind or rows.shape[1:] != spec.shape[1:]:
            raise ValueError(f"{name} takes rows of {spec}, not {rows.dtype} {rows.shape}")
        if first + len(rows) > spec.shape[0]:
            raise ValueError(f"{name} has {spec.shape[0]} rows")
        self._file.seek(self._start + self._begins[name] + first * spec.row_bytes)
        self._file.write(np.ascontiguousarray(rows).data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
        if kind is None:
            self._part.replace(self._path)
        else:
            self._part.unlink(missing_ok=True)


class Mapped:
    """The tensors of a file as arrays on its mapped pages: read when touched, and given back on demand.

    Raises:
        CheckpointError: it is missing, cut off, or none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.arrays: dict[str, NDArray[Any]] = {}
        try:
            with path.open("rb") as file:
                # Private and writable, as the engine wants its memory; nothing ever writes to it.
                self._memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            start = 8 + int.from_bytes(self._memory[:8], "little")
            header = parse_json(self._memory[8:start])
            self.metadata: dict[str, str] = header.pop("__metadata__", {})
            for name, entry in header.items():
                begin, end = (start + place for place in entry["data_offsets"])
                kind, shape = _KINDS[entry["dtype"]], entry["shape"]
                held = np.frombuffer(
                    self._memory, kind, count=(end - begin) // kind.itemsize, offset=begin
                )
                self.arrays[name] = held.reshape(shape)
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise CheckpointError(
                f"quantised weights {path}: broken or cut off ({error}); delete the folder and "
                "convert again"
            ) from error

    @property
    def nbytes(self) -> int:
        """The file's size."""
        return len(self._memory)

    def release(self) -> None:
        """Let the system take back the pages that were read; they are read again when touched."""
        if hasattr(self._memory, "madvise"):
            self._memory.madvise(mmap.MADV_DONTNEED)
