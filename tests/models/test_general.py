"""The general adapter: what has no fast path here runs by transformers' own forward."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edgecloud.contracts import LOG_MEL, Prompt
from edgecloud.errors import CheckpointError, ModelError
from edgecloud.experiments.preflight import Side, _open
from edgecloud.models.assembly import on_meta
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.general import GeneralLM, check_weights
from edgecloud.models.loading import Loaded, load
from edgecloud.models.precision import load_model
from edgecloud.profiling.engines import loaded as measured
from edgecloud.testing import ModelCase, check_model
from tests.models.miniatures import llama_checkpoint


@pytest.fixture(scope="module")
def gemma(gemma_folder: Path) -> Loaded:
    return load("m", str(gemma_folder), device="cpu", dtype="float32")


def copied(folder: Path, into: Path, **changes: Any) -> Path:
    for path in folder.iterdir():
        (into / path.name).write_bytes(path.read_bytes())
    config = json.loads((into / "config.json").read_text())
    (into / "config.json").write_text(json.dumps({**config, **changes}))
    return into


def test_it_obeys_the_laws_of_models_beyond_its_window(gemma: Loaded) -> None:
    assert isinstance(gemma.model, GeneralLM)
    assert gemma.facts["adapter"] == "general"
    check_model(ModelCase(gemma.model.new_sequence(), Prompt(tuple(range(40, 60)))))


def test_its_cache_is_known_before_it_grows(gemma: Loaded) -> None:
    model = gemma.model.new_sequence()
    assert model.cache_bytes == 0
    told = model.cache_bytes_for(20, 23)
    model.prefill(Prompt(tuple(range(20))))
    model.extend([1, 2, 3])
    assert model.cache_bytes == told
    assert model.context == 4096


def test_a_forward_that_fails_leaves_what_was_held(
    gemma: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = gemma.model.new_sequence()
    model.prefill(Prompt((1, 2, 3)))
    expected = model.extend([4, 5])
    model.rollback(3)
    whole = model._network.whole  # type: ignore[union-attr]

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("cut")

    with monkeypatch.context() as patch:
        patch.setattr(whole.model.layers[2], "forward", broken)
        with pytest.raises(RuntimeError, match="cut"):
            model.extend([4])
    torch.testing.assert_close(model.extend([4, 5]), expected)


def test_layers_of_a_known_family_that_the_fast_path_does_not_know_run_on_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "a").mkdir()
    folder = copied(llama_checkpoint(tmp_path / "plain"), tmp_path / "a", hidden_act="gelu")
    general = load("m", str(folder), device="cpu", dtype="float32")
    assert general.facts["adapter"] == "general"
    assert torch.isfinite(general.model.prefill(Prompt((1, 2, 3)))).all()
    fast = load("m", str(tmp_path / "plain"), device="cpu", dtype="float32")
    assert fast.facts["adapter"] == "fast"


def test_both_adapters_compute_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(llama_checkpoint(tmp_path))
    fast = load("m", folder, device="cpu", dtype="float32")
    monkeypatch.setattr("edgecloud.models.families.text.TextFamily.fits", lambda *_: False)
    general = load("m", folder, device="cpu", dtype="float32")
    assert isinstance(general.model, GeneralLM)
    assert general.facts["tokenizer_sha256"] == fast.facts["tokenizer_sha256"]
    prompt = general.processor.text_prompt("the voice.")
    assert fast.processor.text_prompt("the voice.") == prompt
    for one, other in (
        (general.model.prefill(prompt), fast.model.prefill(prompt)),
        (general.model.extend([3, 4]), fast.model.extend([3, 4])),
    ):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_a_tensor_that_is_missing_or_of_another_shape_is_said_from_headers(
    gemma_folder: Path, tmp_path: Path
) -> None:
    folder = copied(gemma_folder, tmp_path)
    check_weights(Checkpoint.open(folder), "cpu")
    name = "model.layers.0.self_attn.q_norm.weight"
    (shard,) = [
        folder / file
        for key, file in json.loads((folder / "model.safetensors.index.json").read_text())[
            "weight_map"
        ].items()
        if key == name
    ]
    tensors = load_file(shard)
    save_file({**tensors, name: torch.ones(3)}, shard, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"q_norm.weight has shape \(3,\), config.json asks"):
        check_weights(Checkpoint.open(folder), "cpu")
    del tensors[name]
    save_file(tensors, shard, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 tensors missing, the first is .*q_norm\.weight"):
        load("m", str(folder), device="cpu", dtype="float32")


@pytest.mark.parametrize(
    ("model_type", "said"),
    [
        (
            "nothing",
            "'nothing'; supported: 'audioflamingo3', .* of transformers 5.* have; for a model family of your own",
        ),
        ("mamba", "keep a state that cannot be taken back"),
        (
            "gemma3n",
            r"'gemma3n' need what is not installed here \(TimmWrapperModel requires the timm",
        ),
    ],
)
def test_what_cannot_run_is_said_before_weights_are_read(
    gemma_folder: Path, tmp_path: Path, model_type: str, said: str
) -> None:
    folder = copied(gemma_folder, tmp_path)
    config = {"model_type": model_type, "architectures": ["AForCausalLM"], "num_hidden_layers": 1}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=said):
        on_meta(Checkpoint.open(folder), torch.float32)


def test_what_only_the_fast_path_has_is_refused_in_one_line(gemma_folder: Path) -> None:
    path = str(gemma_folder)
    with pytest.raises(ModelError, match="only families of the fast path can be quantised"):
        load_model("m", path, device="cpu", dtype="auto", quantization="int8")
    with pytest.raises(ModelError, match="only families of the fast path are measured"):
        measured(path, "int8")
    with pytest.raises(ModelError, match="knows one device"):
        check_weights(Checkpoint.open(path), "auto-map")
    with pytest.raises(ModelError, match="takes text alone"):
        load("m", path, device="cpu", dtype="float32").model.prefill(
            Prompt((1, 2), {LOG_MEL: np.zeros((128, 4), np.float16)})
        )


def test_a_token_that_the_output_layer_has_no_row_for_is_left_out(gemma_folder: Path) -> None:
    found = _open(Side("edge", str(gemma_folder), "cpu", "auto"))
    assert found.network is not None
    assert found.processor.vocab_size == found.network.lm_head.out_features
    assert len(found.processor._tokenizer) == found.processor.vocab_size + 1
