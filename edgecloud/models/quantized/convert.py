"""From a checkpoint to a quantised one, tensor by tensor.

A quantised checkpoint is a folder like any other: configuration, tokenizer and feature settings are
copied, ``model.safetensors`` holds what :mod:`edgecloud.models.quantized.shapes` lists, and config.json
says so under ``edgecloud_quantization``. Rows are quantised by themselves, so that no more than a block
of them is ever in memory.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgecloud.errors import CheckpointError, OutputError
from edgecloud.models.assembly import on_meta
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.folder import QUANTIZED_KEY, read_json
from edgecloud.models.quantized.cache import WEIGHTS, root, sweep_folder, use
from edgecloud.models.quantized.file import Spec, TensorWriter
from edgecloud.models.quantized.shapes import (
    Entry,
    bits_of,
    entries,
    group_size,
    shapes_of,
)
from edgecloud.models.quantized.weights import quantize
from edgecloud.stages import say, stage

__all__ = ["KEY", "cache_entry", "cached", "convert", "quantized_bytes", "scheme", "specs_of"]

KEY = QUANTIZED_KEY
_SCHEMA = 1
_BLOCK_BYTES = 8 << 20
_TABLE = "model.embed_tokens.weight"
_COPIED = (".json", ".jinja", ".txt")
_KINDS = ("F32", "F16", "BF16")


def scheme(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """The quantization in the checkpoint's config.json; ``None``: it is not quantized."""
    return checkpoint.quantized


def cached(checkpoint: Checkpoint, bits: int) -> Path:
    """The folder of ``checkpoint`` in ``bits``, converted now where it was not before.

    Raises:
        CheckpointError: weights are missing, broken or of other shapes.
        OutputError: the cache cannot be written.
    """
    folder = cache_entry(checkpoint, bits)
    if not (folder / WEIGHTS).is_file():
        say(f"converting {checkpoint.path} to int{bits}, once, into {folder}")
        convert(checkpoint, folder, bits=bits)
    use(folder, checkpoint.path)
    return folder


def cache_entry(checkpoint: Checkpoint, bits: int) -> Path:
    """The folder of ``checkpoint`` in ``bits``, there or not yet: named by the content of its weights and its
    config.json, so that a copy is not converted again, and other weights in its place are."""
    # The file itself: what was read of it may have been completed since.
    config = (checkpoint.path / "config.json").read_text(encoding="utf-8")
    facts = json.dumps([_SCHEMA, checkpoint.fingerprint(), config])
    return root() / f"{hashlib.sha256(facts.encode()).hexdigest()[:32]}-int{bits}"


def convert(checkpoint: Checkpoint, folder: Path, *, bits: int) -> None:
    """Write ``checkpoint`` in ``bits`` 8 or 4 to ``folder``.

    Raises:
        CheckpointError: weights are missing, broken or of other shapes, or quantised already.
        OutputError: the folder cannot be written.
    """
    if scheme(checkpoint) is not None:
        raise CheckpointError(f"model {checkpoint.path} is quantised already")
    if folder.resolve() == checkpoint.path.resolve():
        raise OutputError(f"{folder} is the checkpoint itself; give another folder")
    listed = _listed(checkpoint)
    about = {"schema": _SCHEMA, "bits": bits, "source_sha256": checkpoint.fingerprint()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sweep_folder(folder)
        _copy_settings(checkpoint, folder, about)
        specs = specs_of(listed, bits, _table_kind(checkpoint))
        path = folder / WEIGHTS
        with TensorWriter(path, specs, {"format": "edgecloud-quantized"}) as writer:
            _write(checkpoint, listed, writer, bits)
    except OSError as error:
        raise OutputError(
            f"quantised weights {folder}: {error.strerror or error}; give a folder with "
            "`edgecloud quantize CHECKPOINT -o FOLDER`, or another XDG_CACHE_HOME"
        ) from error


def quantized_bytes(checkpoint: Checkpoint, bits: int) -> int:
    """Bytes of the weights of ``checkpoint`` in ``bits``, converted already or not; from headers alone.

    Raises:
        CheckpointError: config.json does not describe the family's network, or a shard is broken.
        ModelError: its layers cannot be quantised.
    """
    if checkpoint.quantized is not None:
        return sum(shard.stat().st_size for shard in checkpoint.shards)
    specs = specs_of(_listed(checkpoint), bits, _table_kind(checkpoint))
    return sum(spec.nbytes for spec in specs.values())


def specs_of(listed: list[Entry], bits: int, table: str) -> dict[str, Spec]:
    """Specifications of the file's tensors for these entries; ``table`` is the embeddings' type."""
    specs: dict[str, Spec] = {}
    for entry in listed:
        if entry.kind == "matrix":
            rows, columns = entry.shape
            own = bits_of(entry.name, bits)
            values = (rows, columns * own // 8)
            specs[entry.name] = Spec("U8" if own == 4 else "I8", values)
            groups = columns // group_size(columns, own)
            specs[f"{entry.name}.scales"] = Spec("F32", (rows, groups))
        else:
            specs[entry.name] = Spec(table if entry.kind == "table" else "F32", entry.shape)
    return specs


def _copy_settings(checkpoint: Checkpoint, folder: Path, about: dict[str, Any]) -> None:
    for file in sorted(checkpoint.path.iterdir()):
        if file.suffix in _COPIED and not file.name.endswith(".index.json"):
            shutil.copyfile(file, folder / file.name)
    config = read_json(checkpoint.path / "config.json")
    text = json.dumps({**config, KEY: about}, ensure_ascii=False, indent=2)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")


def _listed(checkpoint: Checkpoint) -> list[Entry]:
    return list(entries(*shapes_of(on_meta(checkpoint, torch.float32))))


def _table_kind(checkpoint: Checkpoint) -> str:
    kind = checkpoint.kind(_TABLE)
    if kind not in _KINDS:
        raise CheckpointError(
            f"model {checkpoint.path}: {checkpoint.published(_TABLE)} is missing, or of another "
            "type than float32, float16 and bfloat16"
        )
    return kind


def _write(checkpoint: Checkpoint, listed: list[Entry], writer: TensorWriter, bits: int) -> None:
    places: dict[str, list[tuple[Entry, int, int]]] = {}
    for entry in listed:
        first = 0
        for part in entry.parts:
            # Where the family has no tensor, the file's zeros stay.
            if part.source is not None:
                places.setdefault(part.source, []).append((entry, first, part.rows))
            first += part.rows
    total, done = sum(shard.stat().st_size for shard in checkpoint.shards), 0
    for name, tensor in checkpoint.tensors():
        stage(f"converting to int{bits}", min(1.0, done / total))
        done += tensor.nbytes
        for entry, first, rows in places.pop(name, []):
            expected = (rows, *entry.shape[1:])
            if tuple(tensor.shape) != expected:
                raise CheckpointError(
                    f"model {checkpoint.path}: {checkpoint.published(name)} has shape {tuple(tensor.shape)}, "
                    f"config.json asks for {expected}"
                )
            for begin, block in _blocks(tensor):
                _write_rows(writer, entry, block, first + begin, bits_of(entry.name, bits))
    if places:
        raise CheckpointError(
            f"model {checkpoint.path}: {len(places)} tensors missing, "
            f"the first is {checkpoint.published(next(iter(places)))}"
        )


def _blocks(tensor: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Rows of ``tensor``, and where they begin."""
    size = max(1, _BLOCK_BYTES * len(tensor) // (4 * tensor.numel()))
    for begin in range(0, len(tensor), size):
        yield begin, tensor[begin : begin + size]


def _write_rows(writer: TensorWriter, entry: Entry, rows: Tensor, first: int, bits: int) -> None:
    if entry.kind == "table":
        stored: NDArray[Any] = (
            rows.view(torch.uint16).numpy() if rows.dtype == torch.bfloat16 else rows.numpy()
        )
        writer.write(entry.name, stored, first=first)
        return
    values = rows.float().numpy()
    if not np.isfinite(values).all():
        raise CheckpointError(
            f"{entry.name} holds values that are not finite numbers; fetch the checkpoint again"
        )
    if entry.kind == "vector":
        writer.write(entry.name, values, first=first)
        return
    matrix = quantize(values, bits)
    writer.write(entry.name, matrix.values, first=first)
    writer.write(f"{entry.name}.scales", matrix.scales, first=first)
