"""The files of a checkpoint's folder: which there must be, and what the small ones say. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from edgecloud import textfiles
from edgecloud.errors import CheckpointError
from edgecloud.models.families import FAMILIES, Family
from edgecloud.models.families.general import general_family, unsupported

__all__ = [
    "INDEX",
    "QUANTIZED_KEY",
    "SMALL_FILES",
    "WEIGHTS",
    "family_at",
    "family_of",
    "needed_shards",
    "read_json",
    "same_vocabulary",
]

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
QUANTIZED_KEY = "edgecloud_quantization"
"""Key of the quantization in config.json of a quantized checkpoint."""
SMALL_FILES = (
    "config.json",
    INDEX,
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "chat_template.json",
    "chat_template.jinja",
    "adapter_config.json",
    "speech-lora/adapter_config.json",
)
"""Everything but weights that is read, where a folder has it."""


def family_of(folder: Path, config: dict[str, Any]) -> Family:
    """The family of a folder, by its ``config``.

    Raises:
        CheckpointError: no family that is supported.
    """
    family = _family(config)
    if family is None:
        raise CheckpointError(f"model {folder}: {unsupported(config.get('model_type'))}")
    return family


def _family(config: dict[str, Any]) -> Family | None:
    family = FAMILIES.get(str(config.get("model_type")))
    return family if family is not None and family.fits(config) else general_family(config)


def family_at(folder: str | Path) -> Family | None:
    """The family of the checkpoint in ``folder``; None where that cannot be told: opening it says why."""
    try:
        return _family(read_json(Path(folder) / "config.json"))
    except CheckpointError:
        return None


def needed_shards(folder: Path, family: Family, config: dict[str, Any]) -> list[str]:
    """The files with weights that hold a part of the family's network, by the folder's index and its ``config``.

    Raises:
        CheckpointError: the index is none.
    """
    index, beside = folder / INDEX, family.beside(config)
    if not index.exists():
        return [WEIGHTS, *beside]
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(
        isinstance(name, str) and Path(name).name == name for name in weight_map.values()
    ):
        raise CheckpointError(f"model {folder}: {INDEX} has no weight_map of file names")
    shards = sorted({file for name, file in weight_map.items() if family.parameter(name)})
    return [*shards, *beside] if shards else []


def same_vocabulary(one: str | Path, other: str | Path) -> bool:
    """True when two folders are of one family of the fast path and have the same files of a tokenizer, so that
    neither has to be read to know it; False says nothing."""
    families = {family_at(folder) for folder in (one, other)}
    return all(family is not None and family.fast for family in families) and (
        len(families) == 1
        and all(
            (Path(one) / name).is_file()
            and (Path(other) / name).is_file()
            and (Path(one) / name).read_bytes() == (Path(other) / name).read_bytes()
            for name in ("tokenizer.json", "tokenizer_config.json")
        )
    )


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a folder.

    Raises:
        CheckpointError: there is none.
    """
    content = textfiles.read_json(path, what="model's file", error=CheckpointError)
    if not isinstance(content, dict):
        raise CheckpointError(f"model {path.parent}: {path.name} is not a JSON object")
    return cast("dict[str, Any]", content)
