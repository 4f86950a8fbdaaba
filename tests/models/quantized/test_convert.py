from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edgecloud.errors import CheckpointError, OutputError
from edgecloud.models.assembly import on_meta
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.processor import Processor
from edgecloud.models.quantized.convert import cached, convert, scheme
from edgecloud.models.quantized.file import Mapped
from edgecloud.models.quantized.shapes import Entry, entries, shapes_of
from edgecloud.models.quantized.weights import Matrix, dequantize

PEAK = """
import resource, sys
from pathlib import Path
from edgecloud.models.assembly import on_meta
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.quantized.convert import convert

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

checkpoint = Checkpoint.open(sys.argv[1])
before = peak()
convert(checkpoint, Path(sys.argv[2]), bits=8)
print(peak() - before)
"""


def entries_of(checkpoint: Checkpoint) -> list[Entry]:
    return list(entries(*shapes_of(on_meta(checkpoint, torch.float32))))


def sharded(
    source: Path, folder: Path, *, without: str = "", odd: dict[str, torch.Tensor] | None = None
) -> Path:
    """A copy of ``source`` whose weights lie in three shards, changed as asked."""
    folder.mkdir()
    for file in source.iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    tensors = {**load_file(source / "model.safetensors"), **(odd or {})}
    names = [name for name in tensors if name != without]
    places = {name: f"model-{place % 3}.safetensors" for place, name in enumerate(names)}
    for shard in sorted(set(places.values())):
        save_file({n: tensors[n] for n in names if places[n] == shard}, folder / shard)
    index = json.dumps({"weight_map": places})
    (folder / "model.safetensors.index.json").write_text(index, encoding="utf-8")
    return folder


@pytest.mark.parametrize("bits", [8, 4])
def test_every_tensor_of_every_shard_arrives_in_its_place(
    tiny_checkpoint: Path, tmp_path: Path, bits: int
) -> None:
    checkpoint = Checkpoint.open(sharded(tiny_checkpoint, tmp_path / "sharded"))
    convert(checkpoint, tmp_path / "out", bits=bits)
    arrays = Mapped(tmp_path / "out" / "model.safetensors").arrays
    source = {name: tensor.float().numpy() for name, tensor in checkpoint.tensors()}
    listed = entries_of(checkpoint)
    used = {part.source for entry in listed for part in entry.parts}
    assert set(source) - used == {"audio_tower.audio_bos_eos_token.weight"}  # the talker's
    for entry in listed:
        rows = [
            np.zeros((part.rows, *entry.shape[1:]), np.float32)
            if part.source is None
            else source[part.source]
            for part in entry.parts
        ]
        expected = np.concatenate(rows)
        found = arrays[entry.name]
        if entry.kind == "matrix":
            scales = arrays[f"{entry.name}.scales"]
            matrix = Matrix(found, scales, 4 if found.dtype == np.uint8 else 8)
            step = np.abs(scales).max()
            np.testing.assert_allclose(dequantize(matrix), expected, atol=step * 1.01)
        else:
            np.testing.assert_array_equal(found.astype(np.float32), expected)


def test_a_quantised_folder_is_a_checkpoint_with_the_same_tokenizer(
    tiny_checkpoint: Path, tiny_processor: Processor, tmp_path: Path
) -> None:
    convert(Checkpoint.open(tiny_checkpoint), tmp_path / "out", bits=4)
    checkpoint = Checkpoint.open(tmp_path / "out")
    said = scheme(checkpoint)
    assert said is not None
    assert said["bits"] == 4
    assert said["source_sha256"] == Checkpoint.open(tiny_checkpoint).fingerprint()
    assert Processor(checkpoint).fingerprint() == tiny_processor.fingerprint()
    with pytest.raises(CheckpointError, match="quantised already"):
        convert(checkpoint, tmp_path / "again", bits=4)


def test_bfloat16_embeddings_are_kept_bit_by_bit(tiny_checkpoint: Path, tmp_path: Path) -> None:
    name = "thinker.model.embed_tokens.weight"
    table = load_file(tiny_checkpoint / "model.safetensors")[name].to(torch.bfloat16)
    folder = sharded(tiny_checkpoint, tmp_path / "sharded", odd={name: table})
    convert(Checkpoint.open(folder), tmp_path / "out", bits=8)
    found = load_file(tmp_path / "out" / "model.safetensors")["embedding"]
    assert torch.equal(found, table)


def test_a_checkpoint_is_converted_once_and_again_when_its_weights_change(
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = sharded(tiny_checkpoint, tmp_path / "sharded")
    first = cached(Checkpoint.open(folder), 8)
    assert "converting" in capsys.readouterr().err
    assert cached(Checkpoint.open(folder), 8) == first
    assert capsys.readouterr().err == ""
    assert cached(Checkpoint.open(folder), 4) != first
    name = "thinker.model.norm.weight"
    changed = sharded(tiny_checkpoint, tmp_path / "changed", odd={name: torch.zeros(32).half()})
    assert cached(Checkpoint.open(changed), 8) != first


@pytest.mark.parametrize(
    "change, message",
    [
        ({"without": "thinker.model.layers.1.mlp.up_proj.weight"}, r"1 tensors missing.*up_proj"),
        ({"odd": {"thinker.model.norm.weight": torch.ones(7)}}, r"norm.weight has shape \(7,\)"),
        (
            {"odd": {"thinker.model.norm.weight": torch.full((32,), float("nan"))}},
            "not finite",
        ),
        ({"odd": {"thinker.model.embed_tokens.weight": torch.ones(8, 8).int()}}, "another type"),
    ],
)
def test_weights_that_cannot_be_used_leave_nothing_behind(
    tiny_checkpoint: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    folder = sharded(tiny_checkpoint, tmp_path / "sharded", **change)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match=message):
        convert(Checkpoint.open(folder), tmp_path / "out", bits=8)
    assert not list((tmp_path / "out").glob("model.safetensors*"))


def test_a_folder_that_cannot_be_written_is_told(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    checkpoint = Checkpoint.open(tiny_checkpoint)
    with pytest.raises(OutputError, match="XDG_CACHE_HOME"):
        convert(checkpoint, tmp_path / "file" / "out", bits=8)
    with pytest.raises(OutputError, match="the checkpoint itself"):
        convert(checkpoint, tiny_checkpoint, bits=8)


@pytest.mark.system
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
def test_memory_stays_under_the_quantised_size_and_one_shard(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = sharded(tiny_checkpoint, tmp_path / "sharded")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text = config["thinker_config"]["text_config"]
    text |= {"hidden_size": 1024, "num_attention_heads": 8, "intermediate_size": 8192}
    text |= {"num_key_value_heads": 8, "num_hidden_layers": 3}
    config["thinker_config"]["audio_config"]["output_dim"] = 1024
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    shards = _large_shards(Checkpoint.open(folder))
    places = {}
    for number, tensors in enumerate(shards):
        save_file(tensors, folder / f"model-{number}.safetensors")
        places |= dict.fromkeys(tensors, f"model-{number}.safetensors")
    index = json.dumps({"weight_map": places})
    (folder / "model.safetensors.index.json").write_text(index, encoding="utf-8")
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(folder), str(out)],
        capture_output=True,
        text=True,
        check=True,
    )
    sizes = [shard.stat().st_size for shard in folder.glob("*.safetensors")]
    quantized = (out / "model.safetensors").stat().st_size
    assert sum(sizes) > 3 * max(sizes) / 1.2, "no shard may dominate"
    assert sum(sizes) > 350e6
    assert int(done.stdout) < quantized + max(sizes)


def _large_shards(checkpoint: Checkpoint) -> list[dict[str, torch.Tensor]]:
    """Constant weights of the configured shape: a shard for each layer, what is left in the first."""
    shards: list[dict[str, torch.Tensor]] = [{}, {}, {}]
    for entry in entries_of(checkpoint):
        layer = int(entry.name.split(".")[1]) if entry.name.startswith("layers.") else 0
        for part in entry.parts:
            if part.source is not None:
                tensor = torch.full((part.rows, *entry.shape[1:]), 0.5)
                shards[layer][checkpoint.published(part.source)] = tensor
    return shards
