"""What weights need, known before they are loaded; and that no more is taken."""

from __future__ import annotations

import json
import subprocess
import sys
from multiprocessing import Pipe
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from edgecloud.config import resolve
from edgecloud.errors import CheckpointError, OutOfMemoryError
from edgecloud.hardware import edge_process
from edgecloud.hardware.edge_process import EdgeSetup
from edgecloud.models import memory
from edgecloud.models.audio_lm import AudioLM
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.folder import INDEX
from edgecloud.models.memory import free_bytes, needed_bytes
from edgecloud.models.networks import TextNetwork


def test_headers_tell_what_the_weights_need(omni_folder: Path) -> None:
    checkpoint = Checkpoint.open(omni_folder)
    model = AudioLM.load(checkpoint, vocab_size=100, device="cpu", dtype="float32")
    sizes = [parameter.numel() for parameter in model._thinker.parameters()]
    for dtype in (torch.float32, torch.bfloat16):
        expected = (sum(sizes) + max(sizes)) * dtype.itemsize
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

    def never(*args: object, **names: object) -> None:
        raise AssertionError("nothing may be loaded")

    monkeypatch.setattr(Checkpoint, "load_into", never)
    with pytest.raises(OutOfMemoryError, match=r"need 0\.0 GB on cpu as float32, 0\.0 GB") as info:
        AudioLM.load(Checkpoint.open(omni_folder), vocab_size=100, device="cpu", dtype="float32")
    assert "bfloat16 takes half" in str(info.value)
    assert "\n" not in str(info.value)


def test_the_free_memory_is_a_machines_or_a_containers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "_CGROUP_LIMITS", (str(limit), str(tmp_path / "absent")))
    free = free_bytes("cpu")
    assert free > 10_000_000
    limit.write_text("max\n")
    assert free_bytes("cpu") > 10_000_000
    limit.write_text("5000000\n")
    assert free_bytes("cpu") == 5_000_000


def test_weights_over_the_edges_cap_are_warned_of(
    omni_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = resolve({"max_cpu_cores": 0, "max_memory_gb": 0.0001})
    setup = EdgeSetup(mode="edge", config=config, model="m", path=str(omni_folder))
    ours, theirs = Pipe()
    theirs.close()
    with pytest.raises((EOFError, BrokenPipeError)):
        edge_process.main(ours, None, setup)
    assert "more than the cap of 0.0001 GB" in capsys.readouterr().err


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
from edgecloud.models.networks import TextNetwork

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
network, _ = assemble(checkpoint, TextNetwork, vocab_size=9, device="cpu", dtype=torch.bfloat16)
print(json.dumps([max(seen) - before, sum(p.nbytes for p in network.parameters())]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_loading_takes_the_network_and_one_tensor(tmp_path: Path) -> None:
    """A float32 checkpoint of 110 MB in eight shards, loaded as bfloat16."""
    (tmp_path / "config.json").write_text(json.dumps(SIZES))
    with torch.device("meta"):
        shapes = {name: p.shape for name, p in TextNetwork(SIZES).named_parameters()}
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
