"""Reading a checkpoint folder in the layout the Qwen2.5-Omni family is published in.

``config.json`` (with ``thinker_config``), ``*.safetensors`` (with an index when sharded), tokenizer
and feature extractor files. Of the weights only the thinker's text parts and audio tower are read:
no vision tower, talker or vocoder ever comes into memory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from edgecloud.errors import CheckpointError

__all__ = ["Checkpoint"]

_HASH_WHOLE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint folder that was found to be complete. Make one with :meth:`open`."""

    path: Path
    config: dict[str, Any]
    shards: tuple[Path, ...]

    @classmethod
    def open(cls, path: str | Path) -> Checkpoint:
        """Check the folder and read its configuration.

        Raises:
            CheckpointError: folder or file missing, unreadable, or of another family.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise CheckpointError(f"model {path}: no such folder; give the folder of a checkpoint")
        config = _read_json(folder / "config.json")
        if config.get("model_type") != "qwen2_5_omni":
            raise CheckpointError(
                f"model {path}: config.json says model_type {config.get('model_type')!r}; "
                "supported: 'qwen2_5_omni'"
            )
        thinker = config.get("thinker_config")
        if not isinstance(thinker, dict):
            raise CheckpointError(f"model {path}: config.json has no thinker_config")
        for part in ("text_config", "audio_config"):
            # Left out, the family's own sizes would be taken: gigabytes of the wrong shape.
            if not isinstance(thinker.get(part), dict):
                raise CheckpointError(f"model {path}: config.json has no thinker_config.{part}")
        index = folder / "model.safetensors.index.json"
        names = _shard_names(index) if index.exists() else ["model.safetensors"]
        shards = tuple(folder / name for name in names)
        missing = [shard.name for shard in shards if not shard.is_file()]
        if missing or not shards:
            raise CheckpointError(
                f"model {path}: weights missing: {', '.join(missing) or 'the index lists none'}"
            )
        return cls(folder, config, shards)

    def tensors(self, prefix: str) -> Iterator[tuple[str, Tensor]]:
        """Every tensor whose name begins with ``prefix``, without it, one at a time."""
        for shard in self.shards:
            try:
                with safe_open(shard, framework="pt", device="cpu") as file:
                    for name in file.keys():  # noqa: SIM118 - not a mapping
                        if name.startswith(prefix):
                            yield name[len(prefix) :], file.get_tensor(name)
            except SafetensorError as error:
                raise CheckpointError(
                    f"model {self.path}: {shard.name} is broken ({error}); fetch it again"
                ) from error

    def load_into(
        self, module: torch.nn.Module, prefix: str, *, ignore: tuple[str, ...] = ()
    ) -> None:
        """Fill ``module``'s parameters, converted to their dtype, from the tensors under ``prefix``.

        ``ignore`` names parameters the checkpoint may lack.

        Raises:
            CheckpointError: a parameter is missing or has another shape.
        """
        wanted = dict(module.named_parameters())
        with torch.no_grad():
            for name, tensor in self.tensors(prefix):
                parameter = wanted.pop(name, None)
                if parameter is None:
                    continue
                if parameter.shape != tensor.shape:
                    raise CheckpointError(
                        f"model {self.path}: {prefix}{name} has shape {tuple(tensor.shape)}, "
                        f"config.json asks for {tuple(parameter.shape)}"
                    )
                parameter.copy_(tensor)
        missing = [prefix + name for name in wanted if name not in ignore]
        if missing:
            raise CheckpointError(
                f"model {self.path}: {len(missing)} tensors missing, the first is {missing[0]}"
            )

    def fingerprint(self) -> str:
        """A sha256 of the weights: of whole files together up to 1 GiB, else of headers and sizes
        (then marked ``headers:``)."""
        whole = sum(shard.stat().st_size for shard in self.shards) <= _HASH_WHOLE_BYTES
        digest = hashlib.sha256()
        for shard in self.shards:
            with shard.open("rb") as file:
                if whole:
                    while block := file.read(1 << 20):
                        digest.update(block)
                else:
                    digest.update(str(shard.stat().st_size).encode())
                    digest.update(file.read(int.from_bytes(file.read(8), "little")))
        return ("" if whole else "headers:") + digest.hexdigest()


def _shard_names(index: Path) -> list[str]:
    weight_map = _read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(n, str) for n in weight_map.values()):
        raise CheckpointError(f"model {index.parent}: {index.name} has no weight_map of file names")
    return sorted(set(weight_map.values()))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"model {path.parent}: {path.name}: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"model {path.parent}: {path.name} is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"model {path.parent}: {path.name} is not a JSON object")
    return cast("dict[str, Any]", content)
