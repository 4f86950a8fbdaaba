"""Parts on several devices: who goes where, decided without the devices, and the way through them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from edgecloud.contracts import Prompt
from edgecloud.errors import ModelError
from edgecloud.models import audio_lm, stages
from edgecloud.models.assembly import on_meta
from edgecloud.models.audio_lm import AudioLM, extend_many
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.networks import Network
from edgecloud.models.placing import AUTO_MAP, Placement, placed
from edgecloud.models.stages import StagedCache, StagedDecoder, decoder_of


def network(folder: Path) -> Network:
    checkpoint = Checkpoint.open(folder)
    return on_meta(checkpoint, torch.float32)


def size(network: Network, *begins: str) -> int:
    """Bytes of parameters and buffers."""
    tensors = (*network.named_parameters(), *network.named_buffers())
    return sum(t.numel() * t.element_size() for name, t in tensors if name.startswith(begins))


def test_one_device_takes_everything(omni_folder: Path) -> None:
    place = placed(network(omni_folder), "cuda:3", torch.float32)
    assert place("model.layers.0.mlp.up_proj.weight") == place("lm_head.weight") == "cuda:3"
    assert place.parts(3) == [slice(0, None)]


def test_layers_are_spread_over_the_room_that_devices_have(omni_folder: Path) -> None:
    whole = network(omni_folder)
    # Room for what comes before the layers and for one of them; accelerate leaves room for one more.
    before = size(whole, "audio_tower.", "model.embed_tokens")
    room: dict[int | str, int] = {
        0: before + int(2.5 * size(whole, "model.layers.0.")),
        1: 10 * size(whole, ""),
        "cpu": 0,
    }
    place = placed(whole, AUTO_MAP, torch.float32, room=room)
    assert place("audio_tower.conv1.weight") == place("model.embed_tokens.weight") == "cuda:0"
    assert place("model.layers.2.mlp.up_proj.weight") == place("model.norm.weight") == "cuda:1"
    first, second = place.parts(3)
    assert (first, second) == (slice(0, 1), slice(1, None))
    for number in range(3):
        layer = f"model.layers.{number}."
        names = [name for name, _ in whole.named_parameters() if name.startswith(layer)]
        assert len({place(name) for name in names}) == 1, "a layer is not split"


def test_every_tensor_of_every_family_has_a_place(
    omni_folder: Path, audio_folder: Path, text_folder: Path
) -> None:
    for folder in (omni_folder, audio_folder, text_folder):
        whole = network(folder)
        total = 2 * size(whole, "")
        place = placed(whole, AUTO_MAP, torch.float32, room={0: total, 1: total, "cpu": 0})
        for name, _ in (*whole.named_parameters(), *whole.named_buffers()):
            assert place(name) in ("cuda:0", "cuda:1")


def test_what_fits_nowhere_is_said_before_anything_is_loaded(omni_folder: Path) -> None:
    with pytest.raises(ModelError, match="do not fit on all devices together"):
        placed(network(omni_folder), AUTO_MAP, torch.float32, room={0: 1000, "cpu": 1000})


def test_without_accelerate_the_extra_is_named(
    omni_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ModelError, match=r"edgecloud\[devices\]"):
        placed(network(omni_folder), AUTO_MAP, torch.float32)


def test_an_automatic_map_of_a_machine_without_cuda_is_its_processor(text_folder: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    model = AudioLM.load(
        Checkpoint.open(text_folder), vocab_size=100, device=AUTO_MAP, dtype="auto"
    )
    assert (model.device, model.dtype) == ("cpu", "float32")


def test_a_model_in_stages_is_the_same_model(
    omni_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Checkpoint.open(omni_folder)
    whole = AudioLM.load(checkpoint, vocab_size=100, device="cpu", dtype="float32")
    # Two names of one device, so that the map has two entries and both can be computed on.
    two = Placement({"": "cpu", "model.layers.1": "cpu:0", "model.layers.2": "cpu:0"})
    monkeypatch.setattr("edgecloud.models.assembly.placed", lambda *_: two)
    model = AudioLM.load(checkpoint, vocab_size=100, device="cpu", dtype="float32")
    assert isinstance(model._decoder, StagedDecoder)
    prompt = Prompt((1, 2, 3, 4, 5))
    assert torch.equal(model.prefill(prompt), whole.prefill(prompt))
    assert torch.equal(model.extend([7, 8]), whole.extend([7, 8]))
    model.rollback(6)
    whole.rollback(6)
    assert torch.equal(model.extend([9]), whole.extend([9]))
    other = model.new_sequence()
    other.prefill(Prompt((3, 3)))
    together = extend_many([model, other], [[1], [2, 4]])
    alone = whole.extend([1])
    torch.testing.assert_close(together[0], alone)
    assert isinstance(model._cache, StagedCache)
    assert model.cache_bytes == sum(part.nbytes for part in model._cache.parts) > 0
    assert model.cache_bytes_for(2, model.length) == model.cache_bytes


def test_a_placement_of_one_device_needs_no_stages(text_folder: Path) -> None:
    whole = AudioLM.load(
        Checkpoint.open(text_folder), vocab_size=100, device="cpu", dtype="float32"
    )
    decoder = decoder_of(whole._thinker.model, Placement({"": "cpu"}))
    assert type(decoder) is not stages.StagedDecoder
    assert audio_lm.pick_device(AUTO_MAP) == AUTO_MAP
