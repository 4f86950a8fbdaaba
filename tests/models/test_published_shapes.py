"""The published sizes, on the meta device: names and shapes without a byte of weights.

The values are those of the published config.json files of Qwen2.5-Omni-3B and 7B, Qwen2-Audio-7B and
Qwen2.5-7B; the counts those of the model cards of Qwen2.5-3B and 7B, and of Whisper large-v3's encoder.
"""

from __future__ import annotations

import json
import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    Qwen2_5OmniThinkerConfig,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from edgecloud.models.assembly import on_meta
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.families import FAMILIES
from edgecloud.models.folder import INDEX, read_json
from edgecloud.models.networks import Network

_SHARED = {
    "hidden_act": "silu",
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "use_sliding_window": False,
    "sliding_window": 32768,
}
_3B = {
    **_SHARED,
    "vocab_size": 151936,
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "max_window_layers": 70,
}
_7B = {
    **_SHARED,
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "max_window_layers": 28,
}
_TOWER = {
    "num_mel_bins": 128,
    "encoder_layers": 32,
    "encoder_attention_heads": 20,
    "encoder_ffn_dim": 5120,
    "d_model": 1280,
    "max_source_positions": 1500,
}


def omni(text: dict[str, Any]) -> dict[str, Any]:
    """A config.json of Qwen2.5-Omni, as far as its thinker goes."""
    turns = {"mrope_section": [16, 24, 24], "rope_type": "default", "type": "default"}
    thinker = {
        "model_type": "qwen2_5_omni_thinker",
        "audio_config": {
            **_TOWER,
            "model_type": "qwen2_5_omni_audio_encoder",
            "n_window": 100,
            "output_dim": text["hidden_size"],
        },
        "text_config": {**text, "model_type": "qwen2_5_omni_text", "rope_scaling": turns},
        "vision_config": {
            "depth": 32,
            "hidden_size": 1280,
            "out_hidden_size": text["hidden_size"],
        },
        "audio_token_index": 151646,
    }
    return {"model_type": "qwen2_5_omni", "thinker_config": thinker}


QWEN2_AUDIO = {
    "model_type": "qwen2_audio",
    "audio_token_index": 151646,
    "audio_config": {**_TOWER, "model_type": "qwen2_audio_encoder"},
    # The published file leaves the rest of the text model to the family's defaults.
    "text_config": {
        "model_type": "qwen2",
        "intermediate_size": 11008,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-05,
        "rope_theta": 10000,
        "vocab_size": 156032,
    },
}
CONFIGS: dict[str, dict[str, Any]] = {
    "Qwen2.5-Omni-3B": omni(_3B),
    "Qwen2.5-Omni-7B": omni(_7B),
    "Qwen2-Audio-7B": QWEN2_AUDIO,
    "Qwen2.5-7B": {**_7B, "model_type": "qwen2", "tie_word_embeddings": False},
}


@cache
def our_shapes(name: str) -> dict[str, tuple[int, ...]]:
    return shapes(built(CONFIGS[name]))


def built(config: dict[str, Any]) -> Network:
    family = FAMILIES[config["model_type"]]
    checkpoint = Checkpoint(Path("m"), config, (), family)
    return on_meta(checkpoint, torch.bfloat16)


def shapes(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in module.named_parameters()}


def family_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The family's own class at full size, its parameters under our names."""
    kind = config["model_type"]
    with torch.device("meta"):
        if kind == "qwen2":
            return shapes(Qwen2ForCausalLM(Qwen2Config(**config)))
        if kind == "qwen2_audio":
            found = shapes(Qwen2AudioForConditionalGeneration(Qwen2AudioConfig(**config)))
        else:
            thinker = Qwen2_5OmniThinkerConfig(**config["thinker_config"])
            found = shapes(Qwen2_5OmniThinkerForConditionalGeneration(thinker))
    ours = {}
    for name, shape in found.items():
        inside = name.removeprefix("model.").replace("language_model.", "model.")
        ours[inside.replace("multi_modal_projector.", "projector.")] = shape
    return {name: shape for name, shape in ours.items() if not name.startswith("visual.")}


@pytest.mark.parametrize("name", CONFIGS)
def test_names_and_shapes_are_those_of_the_familys_own_class(name: str) -> None:
    assert our_shapes(name) == family_shapes(CONFIGS[name])


@pytest.mark.parametrize(
    "name, text, beside_embeddings, tower",
    [
        ("Qwen2.5-Omni-3B", None, 2.77e9, 0.64e9),
        ("Qwen2.5-Omni-7B", 7.61e9, 6.53e9, 0.64e9),
        ("Qwen2.5-7B", 7.61e9, 6.53e9, None),
        ("Qwen2-Audio-7B", None, None, 0.64e9),
    ],
)
def test_parameter_counts_are_the_published_ones(
    name: str, text: float | None, beside_embeddings: float | None, tower: float | None
) -> None:
    counts: dict[str, int] = {}
    for parameter, shape in our_shapes(name).items():
        part = "layers" if ".layers." in parameter and parameter[:6] == "model." else parameter
        part = "tower" if parameter.startswith("audio_tower.") else part
        counts[part] = counts.get(part, 0) + torch.Size(shape).numel()
    embeddings = counts["model.embed_tokens.weight"] + counts["lm_head.weight"]
    inside = counts["layers"] + counts["model.norm.weight"]
    for found, published in (
        (inside + embeddings, text),
        (inside, beside_embeddings),
        (counts.get("tower"), tower),
    ):
        if published is not None:
            assert found == pytest.approx(published, abs=0.01e9)


def numberless(names: Any) -> set[str]:
    return {re.sub(r"\.\d+\.", ".N.", name) for name in names}


@pytest.mark.parametrize(
    "folder, name",
    [
        ("omni_folder", "Qwen2.5-Omni-3B"),
        ("omni_folder", "Qwen2.5-Omni-7B"),
        ("audio_folder", "Qwen2-Audio-7B"),
    ],
)
def test_names_are_those_of_an_index_in_the_published_layout(
    folder: str, name: str, request: pytest.FixtureRequest
) -> None:
    """The miniature was saved by the family's own class: prefix, shards and index are its."""
    index = read_json(request.getfixturevalue(folder) / INDEX)["weight_map"]
    family = FAMILIES[CONFIGS[name]["model_type"]]
    stored = {family.parameter(stored) for stored in index} - {None}
    assert numberless(stored) == numberless(our_shapes(name))
    if family.model_type == "qwen2_5_omni":
        left = {stored.split(".")[0] for stored in index if family.parameter(stored) is None}
        assert left == {"thinker", "talker", "token2wav"}, "vision tower, talker and vocoder"


def test_shards_without_a_part_of_the_network_are_not_needed(
    omni_folder: Path, tmp_path: Path
) -> None:
    opened = Checkpoint.open(omni_folder)
    index = read_json(omni_folder / INDEX)["weight_map"]
    assert {shard.name for shard in opened.shards} < set(index.values())
    copied = Path(shutil.copytree(omni_folder, tmp_path / "copy"))
    for file in set(index.values()) - {shard.name for shard in opened.shards}:
        (copied / file).unlink()
    assert Checkpoint.open(copied).fingerprint() == opened.fingerprint()


@pytest.mark.parametrize("harm", ["lost", "another shape"])
def test_what_the_shards_lack_is_found_from_their_headers(
    text_folder: Path, tmp_path: Path, harm: str
) -> None:
    copied = Path(shutil.copytree(text_folder, tmp_path / "copy"))
    index = json.loads((copied / INDEX).read_text("utf-8"))
    name = "model.layers.1.mlp.up_proj.weight"
    shard = copied / index["weight_map"][name]
    tensors = load_file(shard)
    tensors["model.other"] = tensors.pop(name)
    if harm == "another shape":
        tensors[name] = torch.zeros(3, 3)
    save_file(tensors, shard)
    checkpoint = Checkpoint.open(copied)
    says = "1 tensors missing" if harm == "lost" else r"has shape \(3, 3\)"
    with pytest.raises(Exception, match=says) as info:
        checkpoint.check(on_meta(checkpoint, torch.float32))
    assert name in str(info.value)
