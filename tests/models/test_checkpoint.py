"""Folders of the published layout: whole, in shards, and in every way incomplete."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgecloud.contracts import Prompt
from edgecloud.errors import CheckpointError
from edgecloud.models.audio_lm import AudioLM
from edgecloud.models.checkpoint import Checkpoint

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))


def shard(folder: Path) -> None:
    """Split the weights in two, with an index, as published folders do."""
    tensors = load_file(folder / WEIGHTS)
    names = sorted(tensors)
    halves = {
        "model-00001-of-00002.safetensors": names[::2],
        "model-00002-of-00002.safetensors": names[1::2],
    }
    for file, chosen in halves.items():
        save_file(
            {name: tensors[name] for name in chosen}, folder / file, metadata={"format": "pt"}
        )
    (folder / WEIGHTS).unlink()
    weight_map = {name: file for file, chosen in halves.items() for name in chosen}
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, **changes}), encoding="utf-8")


def test_every_tensor_of_the_network_is_given_by_its_parameters_name(tiny_checkpoint: Path) -> None:
    stored = load_file(tiny_checkpoint / WEIGHTS)
    found = dict(Checkpoint.open(tiny_checkpoint).tensors())
    assert set(found) == {n.removeprefix("thinker.") for n in stored}
    for name, tensor in found.items():
        assert torch.equal(tensor, stored[f"thinker.{name}"])


def test_weights_in_shards_are_the_same_model(
    folder: Path, tiny_model: AudioLM, tiny_checkpoint: Path
) -> None:
    shard(folder)
    opened = Checkpoint.open(folder)
    assert len(opened.shards) == 2
    model = AudioLM.load(opened, vocab_size=tiny_model.vocab_size, device="cpu", dtype="float32")
    prompt = Prompt((1, 2, 3))
    assert torch.equal(model.prefill(prompt), tiny_model.new_sequence().prefill(prompt))


def test_tensors_of_other_parts_of_the_family_are_not_wanted(
    folder: Path, tiny_model: AudioLM
) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors["thinker.visual.patch_embed.proj.weight"] = torch.zeros(4)
    tensors["talker.model.norm.weight"] = torch.zeros(4)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    model = AudioLM.load(
        Checkpoint.open(folder), vocab_size=tiny_model.vocab_size, device="cpu", dtype="float32"
    )
    assert model.parameters == tiny_model.parameters


def test_the_fingerprint_follows_the_weights(tiny_checkpoint: Path, folder: Path) -> None:
    before = Checkpoint.open(tiny_checkpoint).fingerprint()
    assert Checkpoint.open(folder).fingerprint() == before
    tensors = load_file(folder / WEIGHTS)
    tensors["thinker.model.norm.weight"] *= 2
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    assert Checkpoint.open(folder).fingerprint() != before


def _remove(name: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        (folder / name).unlink()

    return remove


def _write(name: str, text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_text(text, encoding="utf-8")

    return write


def _config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        change_config(folder, **changes)

    return change


def _lose_a_shard(folder: Path) -> None:
    shard(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()


@pytest.mark.parametrize(
    "harm, says",
    [
        (shutil.rmtree, "no such folder"),
        (_remove("config.json"), "config.json"),
        (_write("config.json", "{"), "config.json is not JSON"),
        (_write("config.json", "[]"), "not a JSON object"),
        (
            _config(model_type="resnet", architectures=["ResNetForImageClassification"]),
            "'resnet'; supported: 'audioflamingo3', 'gemma4', 'gemma4_unified', ",
        ),
        (_config(thinker_config=None), "no thinker_config"),
        (_config(thinker_config={"audio_config": {}}), "no thinker_config.text_config"),
        (_config(thinker_config={"text_config": {}}), "no thinker_config.audio_config"),
        (_remove(WEIGHTS), f"weights missing: {WEIGHTS}"),
        (_lose_a_shard, "weights missing: model-00002-of-00002.safetensors"),
        (_write(INDEX, '{"weight_map": {}}'), "the index lists none"),
        (_write(INDEX, '{"weight_map": [1]}'), INDEX),
        (_write(INDEX, '{"weight_map": {"a": 1}}'), INDEX),
        (_write(INDEX, "{}"), INDEX),
        (_write(INDEX, "nonsense"), f"{INDEX} is not JSON"),
    ],
    ids=[
        "no-folder",
        "no-config",
        "broken-config",
        "config-is-a-list",
        "another-family",
        "no-thinker",
        "no-text-model",
        "no-audio-tower",
        "no-weights",
        "no-shard",
        "empty-index",
        "index-of-a-list",
        "index-of-numbers",
        "index-without-map",
        "broken-index",
    ],
)
def test_an_incomplete_folder_is_one_line_that_names_it(
    folder: Path, harm: Callable[[Path], None], says: str
) -> None:
    harm(folder)
    with pytest.raises(CheckpointError) as info:
        Checkpoint.open(folder)
    message = str(info.value)
    assert str(folder) in message
    assert says in message
    assert "\n" not in message


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.touch()
    with pytest.raises(CheckpointError, match="no such folder"):
        Checkpoint.open(path)


@pytest.mark.parametrize("left", [0, 4, 500, -8])
def test_broken_weights_are_one_line_that_names_the_file(folder: Path, left: int) -> None:
    weights = folder / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:left])
    with pytest.raises(CheckpointError, match=rf"{WEIGHTS} is broken") as info:
        AudioLM.load(Checkpoint.open(folder), vocab_size=100, device="cpu", dtype="float32")
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    "part, changes",
    [
        ("text_config", {"hidden_size": "wide"}),
        ("text_config", {"hidden_size": 0}),
        ("text_config", {"num_attention_heads": 0}),
        ("text_config", {"hidden_act": "nope"}),
        ("audio_config", {"d_model": None}),
        ("audio_config", {"d_model": -4}),
    ],
)
def test_a_configuration_that_describes_no_model_is_one_line(
    folder: Path, part: str, changes: dict[str, Any]
) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["thinker_config"][part].update(changes)
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(CheckpointError, match="does not describe a thinker") as info:
        AudioLM.load(Checkpoint.open(folder), vocab_size=100, device="cpu", dtype="float32")
    assert "\n" not in str(info.value)
    assert torch.get_default_dtype() == torch.float32
