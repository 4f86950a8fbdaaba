"""Every family of the fast path in 8 and 4 bits: no biases, norms of heads, tied or not, a tower over whole
recordings or over windows, with convolutions over time or over frequencies."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from edgecloud.cli.main import main
from edgecloud.contracts import Prompt
from edgecloud.edge.messages import Request
from edgecloud.errors import ModelError
from edgecloud.models.audio_lm import AudioLM
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.loading import load
from edgecloud.models.precision import load_model
from edgecloud.models.processor import Processor
from edgecloud.models.quantized.convert import cached, convert
from edgecloud.models.quantized.engine import Kernels
from edgecloud.models.quantized.file import Mapped
from edgecloud.models.quantized.loading import load_quantized
from edgecloud.models.quantized.own import kernels
from edgecloud.models.quantized.shapes import entries, shapes_of
from edgecloud.models.quantized.weights import Weights, dequantize
from edgecloud.testing import ModelCase, check_model
from tests.edge.test_other_families import EXACT, asking
from tests.models.miniatures import FAST
from tests.models.quantized.runs import RUNS

ALLOWED = 0.08
"""Error of the logits over their deviation, from activations in 8 bits alone: the same weights are compared."""


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def prompts(processor: Processor) -> list[Prompt]:
    if not processor.accepts_audio:
        return [Prompt(tuple(range(40, 47)))]
    draw = np.random.default_rng(3)
    recordings = [
        draw.normal(scale=0.1, size=size).astype(np.float32)
        for size in (
            12_900,
            384_900,
            480_000,
        )  # the second ends with a single embedding of Qwen3-ASR
    ]
    return [
        processor.prompt(processor.features(one), language="english", prompt_type="concise")
        for one in recordings
    ]


def rounded(checkpoint: Checkpoint, bits: int) -> AudioLM:
    """The model in float32 with the very weights of its quantised file."""
    loaded = load("m", str(checkpoint.path), device="cpu", dtype="float32")
    network = loaded.model._thinker
    weights = Weights(Mapped(cached(checkpoint, bits) / "model.safetensors"))
    for entry in entries(*shapes_of(network)):
        if entry.kind != "matrix":
            continue
        rows = torch.from_numpy(dequantize(weights.matrix(entry.name)))
        if entry.name == "head" and network.tied:
            # Embeddings stay as they were.
            network.lm_head.weight = torch.nn.Parameter(rows, requires_grad=False)
            continue
        for part, own in zip(entry.parts, rows.split([p.rows for p in entry.parts]), strict=True):
            assert part.source is not None
            network.get_parameter(part.source).data.copy_(own)
    return loaded.model


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("fixture", FAST.values())
def test_a_quantised_family_computes_what_its_weights_say(
    request: pytest.FixtureRequest, fixture: str, run: tuple[int, Kernels]
) -> None:
    checkpoint = Checkpoint.open(request.getfixturevalue(fixture))
    bits, kernels = run
    processor = checkpoint.processor()
    expecting = rounded(checkpoint, bits)
    model = load_quantized(checkpoint, bits=bits, vocab_size=processor.vocab_size, kernels=kernels)
    for prompt in prompts(processor):
        expected = torch.cat((expecting.prefill(prompt)[None], expecting.extend([5, 9, 200])))
        found = torch.cat((model.prefill(prompt)[None], model.extend([5, 9, 200])))
        off = (found - expected).square().mean().sqrt() / expected.std()
        assert off < ALLOWED, f"{off:.3f}"


def test_head_norms_and_missing_biases_obey_the_laws_of_models(qwen3_folder: Path) -> None:
    processor = Processor(Checkpoint.open(qwen3_folder))
    model = load_quantized(Checkpoint.open(qwen3_folder), bits=8, vocab_size=processor.vocab_size)
    check_model(ModelCase(model, Prompt((10, 20, 30, 40))))


def test_first_choices_of_a_quantised_qwen3_asr_are_its_own(asr_folder: Path) -> None:
    """After each token of an answer that the weights of the file say."""
    checkpoint = Checkpoint.open(asr_folder)
    processor = checkpoint.processor()
    for bits in (8, 4):
        expecting = rounded(checkpoint, bits)
        model = load_quantized(checkpoint, bits=bits, vocab_size=processor.vocab_size)
        alike = []
        for prompt in prompts(processor):
            logits, other = expecting.prefill(prompt), model.prefill(prompt)
            for _ in range(8):
                token = int(logits.argmax())
                alike.append(int(other.argmax()) == token)
                logits, other = expecting.extend([token])[0], model.extend([token])[0]
        assert sum(alike) >= len(alike) - 1, alike


def test_an_edge_of_qwen3_asr_is_quantised_ahead_of_time_and_drafts(
    asr_folder: Path, tmp_path: Path, tone: NDArray[np.float32]
) -> None:
    """By ``edgecloud quantize``; the cloud is the same model in float32, and the output is the cloud's own."""
    out = tmp_path / "edge4"
    assert main(["quantize", str(asr_folder), "--bits", "4", "-o", str(out)]) == 0
    settings = {"device": "cpu", "dtype": "auto"}
    edge = load_model("m", str(out), quantization="int4", **settings)
    assert edge.facts["dtype"] == "int4"
    soundfile.write(tmp_path / "a.wav", tone, 16_000)
    request = Request(str(tmp_path / "a.wav"))
    ask = asking(edge, load("m", str(asr_folder), device="cpu", dtype="float32"))
    both = ask("spec", request, **EXACT)
    assert both.tokens == ask("cloud", request).tokens
    assert sum(row["kept"] for row in both.trace if row["kind"] == "verify") > 0


@pytest.mark.parametrize(
    ("fixture", "changed", "said"),
    [
        ("asr_folder", {"activation_function": "relu"}, "two with gelu between them"),
        ("asr_folder", {"scale_embedding": True}, "scaled embeddings"),
        ("omni_folder", {"n_window": 99}, "an odd window"),
    ],
)
def test_other_towers_are_refused_before_anything_is_converted(
    fixture: str,
    changed: dict[str, Any],
    said: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    found = Checkpoint.open(request.getfixturevalue(fixture))
    config = json.loads(json.dumps(found.config))
    config.get("thinker_config", config)["audio_config"].update(changed)
    checkpoint = replace(found, config=config)
    with pytest.raises(ModelError, match=said):
        load_quantized(checkpoint, bits=8, vocab_size=300)
    with pytest.raises(ModelError, match=said):
        convert(checkpoint, tmp_path / "out", bits=8)
    assert not (tmp_path / "out").exists()


def test_a_quantised_model_takes_no_more_than_its_window(mistral_folder: Path) -> None:
    processor = Processor(Checkpoint.open(mistral_folder))
    model = load_quantized(Checkpoint.open(mistral_folder), bits=8, vocab_size=processor.vocab_size)
    model.prefill(Prompt(tuple(range(40, 50))))
    model.extend([5, 9])
    with pytest.raises(ModelError, match="attends to its last 12 tokens"):
        model.extend([5])
    assert model.length == 12


def test_our_kernels_normalize_each_head_before_they_rotate_it() -> None:
    """The one part of them that differs between families, on any processor."""
    draw = np.random.default_rng(5)
    heads, kv_heads, dim, rows = 2, 1, 4, 16
    head_norms = draw.normal(1, 0.3, (1, 2, dim)).astype(np.float32)
    scales = draw.normal(1, 0.3, (1, rows)).astype(np.float32)
    whole, cos, sin = (draw.normal(size=(1, size)).astype(np.float32) for size in (rows, dim, dim))
    none, cache = (
        np.empty((1, 1), np.float32),
        kernels.Cache(*np.zeros((2, 1, 1, 4, dim), np.float32)),
    )
    matrices = kernels.Matrices(np.empty((1, 1), np.uint8), scales, none[None], 1, 1, 8)
    text = kernels.Text(
        *[matrices] * 6,
        np.zeros((1, rows), np.float32),
        none,
        head_norms,
        1e-5,
        heads,
        kv_heads,
        dim,
    )
    work = kernels.Work(
        none, cos, sin, whole.copy(), none, np.empty((1, 1), np.int8), none,
        np.empty((1, 1), np.int32), none, np.zeros(3, np.int64),
    )  # fmt: skip
    kernels._placed(text, cache, 0, work, 2, 0, 1)
    rotated = []
    for head, own in enumerate(np.split((whole * scales)[0], 4)[:3]):
        normed = own / np.sqrt((own**2).mean() + 1e-5) * head_norms[0, int(head >= heads)]
        swapped = np.concatenate((-normed[2:], normed[:2]))
        rotated.append(normed * cos[0] + swapped * sin[0])
    np.testing.assert_allclose(work.whole[0, :12], np.concatenate(rotated), rtol=1e-5)
    np.testing.assert_allclose(cache.keys[0, 0, 2], rotated[2], rtol=1e-5)
    np.testing.assert_allclose(cache.values[0, 0, 2], (whole * scales)[0, 12:], rtol=1e-6)
