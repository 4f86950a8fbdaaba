"""What weights need, known before they are loaded; and that no more is taken."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from edgecloud.edge import edge_process
from edgecloud.edge.messages import EdgeSetup
from edgecloud.errors import CheckpointError, OutOfMemoryError
from edgecloud.models import memory
from edgecloud.models.audio_lm import AudioLM
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.folder import INDEX
from edgecloud.models.memory import (
    Need,
    cache_bytes,
    check_cap,
    needed_bytes,
    plan,
    request_tokens,
)
from edgecloud.models.networks import TextNetwork
from edgecloud.models.precision import need_of
from edgecloud.models.quantized.convert import convert, quantized_bytes
from edgecloud.settings.config import resolve


def never(*args: object, **names: object) -> None:
    raise AssertionError("nothing may be loaded")


def test_headers_tell_what_the_weights_need(omni_folder: Path) -> None:
    checkpoint = Checkpoint.open(omni_folder)
    model = AudioLM.load(checkpoint, vocab_size=100, device="cpu", dtype="float32")
    sizes = [parameter.numel() for parameter in model._thinker.parameters()]
    for dtype in (torch.float32, torch.bfloat16):
        expected = sum(sizes) * dtype.itemsize
        assert needed_bytes(checkpoint, dtype) == {"cpu": expected}


def test_what_lies_on_several_devices_is_needed_on_each(text_folder: Path) -> None:
    checkpoint = Checkpoint.open(text_folder)
    found = needed_bytes(
        checkpoint, torch.float16, lambda name: "b" if name.startswith("model.layers.2.") else "a"
    )
    assert set(found) == {"a", "b"}
    assert found["a"] > found["b"] > 0


def test_too_little_memory_is_said_before_a_weight_is_read(
    omni_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda _: 100_000)
    monkeypatch.setattr(Checkpoint, "load_into", never)
    with pytest.raises(
        OutOfMemoryError, match=r"need 0\.00026 GB on cpu as float32, 0\.0001 GB"
    ) as info:
        AudioLM.load(Checkpoint.open(omni_folder), vocab_size=100, device="cpu", dtype="float32")
    assert "bfloat16 takes half" in str(info.value)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    "settings, precision",
    [({}, "float32"), ({"edge_dtype": "float16"}, "float16")],
)
def test_weights_over_the_edges_cap_are_refused_in_their_real_precision(
    omni_folder: Path,
    settings: dict[str, str],
    precision: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Checkpoint, "load_into", never)
    config = resolve({"max_cpu_cores": 0, "max_memory_gb": 0.0001, **settings})
    setup = EdgeSetup(mode="edge", config=config, model="m", path=str(omni_folder))
    ours, _ = Pipe()
    with pytest.raises(OutOfMemoryError, match=f"as {precision}, more than its cap of 0.0001 GB"):
        edge_process.main(ours, None, setup)


def test_the_cap_counts_what_a_quantised_edge_really_takes(tiny_checkpoint: Path) -> None:
    checkpoint = Checkpoint.open(tiny_checkpoint)
    needs = {
        quantization: need_of(checkpoint, device="cpu", dtype="auto", quantization=quantization)
        for quantization in ("none", "bf16", "int8", "int4")
    }
    names = {name: need.precision for name, need in needs.items()}
    assert names == {"none": "float32", "bf16": "bfloat16", "int8": "int8", "int4": "int4"}
    full, half, eight, four = (need.by_device["cpu"] for need in needs.values())
    assert full == 2 * half
    assert full > eight > four
    check_cap(needs["int8"], 1.01 * eight / 1e9)
    check_cap(needs["none"], 0)
    with pytest.raises(OutOfMemoryError, match=r"raise --max-memory-gb .*--edge-quantization int8"):
        check_cap(needs["none"], 1.01 * eight / 1e9)


def test_what_a_quantised_edge_takes_is_known_before_it_is_converted(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    checkpoint = Checkpoint.open(tiny_checkpoint)
    for bits in (8, 4):
        convert(checkpoint, tmp_path / str(bits), bits=bits)
        written = (tmp_path / str(bits) / "model.safetensors").stat().st_size
        header = 16_384
        assert written - header < quantized_bytes(checkpoint, bits) <= written
        assert quantized_bytes(Checkpoint.open(tmp_path / str(bits)), bits) == written


def test_the_cache_of_a_request_is_known_from_the_configuration(
    omni_folder: Path, audio_folder: Path, text_folder: Path
) -> None:
    for folder in (omni_folder, audio_folder, text_folder):
        checkpoint = Checkpoint.open(folder)
        model = AudioLM.load(checkpoint, vocab_size=100, device="cpu", dtype="float32")
        found = cache_bytes(checkpoint, tokens=10, width=4)
        assert found == 10 * model._decoder.token_bytes, folder


def test_longer_recordings_than_a_family_takes_ask_for_no_more_room() -> None:
    tokens = [request_tokens(resolve({"max_audio_s": seconds})) for seconds in (30, 300, 1e9)]
    assert tokens == [750 + 640, 7500 + 640, 7500 + 640]


def need(side: str, precision: str, gb: float, device: str = "cpu", copies: int = 1) -> Need:
    return Need(side=side, precision=precision, by_device={device: int(gb * 1e9)}, copies=copies)


def room(**gb: float) -> Callable[[str], int]:
    return lambda device: int(gb[device.replace(":", "")] * 1e9)


PAIR = [
    replace(need("edge", "int8", 4.37), ways=("--edge-quantization int4",)),
    need("cloud", "bfloat16", 8.06),
]


def test_one_plan_says_what_both_need_and_what_is_free() -> None:
    assert plan(PAIR, room=room(cpu=22)) == (
        "edge int8 4.4 GB + cloud bfloat16 8.1 GB of 22.0 GB free"
    )


def test_two_that_fit_alone_and_not_together_are_refused() -> None:
    for one in PAIR:
        plan([one], room=room(cpu=10))
    with pytest.raises(OutOfMemoryError, match=r"do not fit into memory together: edge") as info:
        plan(PAIR, room=room(cpu=10))
    assert "edge int8 4.4 GB + cloud bfloat16 8.1 GB of 10.0 GB free" in str(info.value)
    assert "--edge-quantization int4" in str(info.value)


def test_each_device_has_a_room_of_its_own() -> None:
    needs = [PAIR[0], need("cloud", "float16", 16.5, "cuda:0")]
    said = plan(needs, room=room(cpu=6, cuda0=20))
    assert said == (
        "edge int8 4.4 GB of 6.0 GB free; cloud float16 16.5 GB of 20.0 GB free on cuda:0"
    )
    with pytest.raises(OutOfMemoryError, match=r"of 12\.0 GB free on cuda:0"):
        plan(needs, room=room(cpu=6, cuda0=12))


def test_every_worker_holds_weights_of_its_own() -> None:
    three = [need("edge", "float32", 2, copies=3)]
    assert plan(three, room=room(cpu=7)) == "3 × edge float32 2.0 GB of 7.0 GB free"
    with pytest.raises(OutOfMemoryError, match="fewer --workers"):
        plan(three, room=room(cpu=5))


@pytest.mark.parametrize("left", [0, 7, 200, -8])
def test_a_cut_off_shard_is_found_before_memory_is_taken(
    omni_folder: Path, tmp_path: Path, left: int
) -> None:
    for path in omni_folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    shard = Checkpoint.open(tmp_path).shards[1]
    content = shard.read_bytes()[:left]
    shard.unlink()
    shard.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{shard.name} is broken"):
        needed_bytes(Checkpoint.open(tmp_path), torch.float32)


SIZES = {
    "model_type": "qwen2",
    "vocab_size": 1000,
    "hidden_size": 256,
    "intermediate_size": 4096,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
PEAK = """
import json, sys
from pathlib import Path
import torch
from edgecloud.models.assembly import assemble
from edgecloud.models.checkpoint import Checkpoint

def anonymous():
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024

checkpoint = Checkpoint.open(sys.argv[1])
seen = []
copy = torch.Tensor.copy_
def watched(self, other):
    result = copy(self, other)
    seen.append(anonymous())
    return result
torch.Tensor.copy_ = watched
before = anonymous()
network, _ = assemble(checkpoint, vocab_size=9, device="cpu", dtype=torch.bfloat16)
print(json.dumps([max(seen) - before, sum(p.nbytes for p in network.parameters())]))
"""


@pytest.mark.system
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_loading_takes_the_network_and_one_tensor(tmp_path: Path) -> None:
    """A float32 checkpoint of 110 MB in eight shards, loaded as bfloat16."""
    (tmp_path / "config.json").write_text(json.dumps(SIZES))
    with torch.device("meta"):
        shapes = {name: p.shape for name, p in TextNetwork("qwen2", SIZES).named_parameters()}
    weight_map: dict[str, str] = {}
    largest = 0
    for layer in range(8):
        mine = {
            name: torch.ones(shape)
            for name, shape in shapes.items()
            if f".{layer}." in name or (layer == 0 and ".layers." not in name)
        }
        save_file(mine, tmp_path / f"{layer}.safetensors")
        weight_map |= dict.fromkeys(mine, f"{layer}.safetensors")
        largest = max(largest, *(tensor.nbytes for tensor in mine.values()))
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    peak, target = json.loads(done.stdout)
    assert target > 50_000_000
    assert 0.9 * target < peak < target + largest + 8_000_000, (peak, target, largest)
