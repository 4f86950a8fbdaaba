from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from edgecloud.contracts import LOG_MEL, Prompt
from edgecloud.datasets.audio import load_audio
from edgecloud.datasets.manifest import embedded_manifest, load_manifest
from edgecloud.embedded.pair import CLOUD_CHECKPOINT, EDGE_CHECKPOINT
from edgecloud.errors import CheckpointError, ConfigError, ModelError
from edgecloud.models.assembly import on_meta
from edgecloud.models.audio_lm import AudioLM
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.precision import load_model
from edgecloud.models.processor import Processor
from edgecloud.models.quantized.convert import convert
from edgecloud.models.quantized.engine import Kernels
from edgecloud.models.quantized.loading import load_quantized
from edgecloud.models.quantized.model import QuantizedLM
from edgecloud.models.quantized.openvino.running import Cache
from edgecloud.models.quantized.random import random_model
from edgecloud.models.quantized.shapes import TextShape
from tests.models.quantized.runs import OWN, RUNS

TOKENS = 24
CLIPS = 3

ALLOWED = {
    # (logit error over the deviation of the logits, share of equal tokens)
    ("edge", 8): (0.10, 0.95),
    ("cloud", 8): (0.06, 0.98),
    ("edge", 4): (0.60, 0.80),
    ("cloud", 4): (0.30, 0.90),
}


class Pair:
    """A miniature in float32, with prompts and its own greedy captions; quantised on demand."""

    def __init__(self, folder: Path) -> None:
        self.checkpoint = Checkpoint.open(folder)
        self.processor = Processor(self.checkpoint)
        self._quantized: dict[tuple[int, Kernels | None], QuantizedLM] = {}
        size = self.processor.vocab_size
        self.exact = AudioLM.load(self.checkpoint, vocab_size=size, device="cpu", dtype="float32")
        self.prompts, self.captions, self.logits = [], [], []
        samples = load_manifest(
            embedded_manifest("english"), language="english", caption_type="original"
        )
        for sample in samples[:CLIPS]:
            features = self.processor.features(load_audio(sample.audio_path, max_audio_s=30))
            prompt = self.processor.prompt(features, language="english", prompt_type="default")
            rows = [self.exact.prefill(prompt)]
            for _ in range(TOKENS):
                rows.append(self.exact.extend([int(rows[-1].argmax())])[0])
            self.prompts.append(prompt)
            self.captions.append([int(row.argmax()) for row in rows[:-1]])
            self.logits.append(torch.stack(rows))

    def quantized(self, bits: int, kernels: Kernels | None = None) -> QuantizedLM:
        if (bits, kernels) not in self._quantized:
            size = self.processor.vocab_size
            self._quantized[bits, kernels] = load_quantized(
                self.checkpoint, bits=bits, vocab_size=size, kernels=kernels
            )
        return self._quantized[bits, kernels].new_sequence()


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module", params=["edge", "cloud"])
def side(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def pair(side: str) -> Pair:
    return Pair(EDGE_CHECKPOINT if side == "edge" else CLOUD_CHECKPOINT)


@pytest.mark.parametrize("run", RUNS)
def test_logits_stay_near_those_of_float32(side: str, pair: Pair, run: tuple[int, Kernels]) -> None:
    bits, kernels = run
    model = pair.quantized(bits, kernels)
    error, equal = ALLOWED[side, bits]
    errors, same = [], []
    for prompt, caption, logits in zip(pair.prompts, pair.captions, pair.logits, strict=True):
        found = torch.cat([model.prefill(prompt)[None], model.extend(caption)])
        errors.append(((found - logits).square().mean().sqrt() / logits.std()).item())
        same.append((found.argmax(1) == logits.argmax(1)).float().mean().item())
    assert np.mean(errors) < error
    assert np.mean(same) >= equal


@OWN
@pytest.mark.parametrize("bits", [8, 4])
def test_our_own_kernels_and_the_engine_agree(pair: Pair, bits: int) -> None:
    own, engine = pair.quantized(bits, "own"), pair.quantized(bits, "openvino")
    assert re.match(r"edgecloud (VNNI|AVX2) kernels", own.engine_name)
    assert engine.engine_name.startswith("OpenVINO")
    for prompt, caption in zip(pair.prompts, pair.captions, strict=True):
        found, expected = (
            torch.cat([model.prefill(prompt)[None], model.extend(caption)])
            for model in (own, engine)
        )
        error = (found - expected).square().mean().sqrt() / expected.std()
        assert error < 0.03


@OWN
@pytest.mark.parametrize("bits", [8, 4])
def test_one_by_one_or_together_gives_the_same_bits(pair: Pair, bits: int) -> None:
    model = pair.quantized(bits, "own")
    prompt, caption = pair.prompts[0], pair.captions[0]
    model.prefill(prompt)
    together = model.extend(caption)
    for sizes in ([1] * len(caption), [2, 3, 7, len(caption) - 12]):
        model.rollback(prompt.length)
        parts, first = [], 0
        for size in sizes:
            parts.append(model.extend(caption[first : first + size]))
            first += size
        assert torch.equal(torch.cat(parts), together)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("wanted", [1, 3, 9])
def test_many_tokens_are_run_in_parts(
    pair: Pair, run: tuple[int, Kernels], wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if a run took four tokens at most: memory is linear in what is new."""
    model = pair.quantized(*run)
    engine, cache = model._engine, model._engine.cache()
    embedded = engine.tokens(pair.captions[0][:9])
    at_once = engine.run(embedded, cache, wanted)
    cache.length = 0
    monkeypatch.setattr("edgecloud.models.quantized.engine._AT_ONCE", 4)
    in_parts = engine.run(embedded, cache, wanted)
    assert cache.length == 9
    assert in_parts.shape == at_once.shape
    error = (in_parts - at_once).square().mean().sqrt() / at_once.std()
    assert error < 0.03


@pytest.mark.parametrize("run", RUNS)
def test_what_was_rewound_comes_back_bit_by_bit(pair: Pair, run: tuple[int, Kernels]) -> None:
    model = pair.quantized(*run)
    prompt, caption = pair.prompts[0], pair.captions[0]
    model.prefill(prompt)
    once = model.extend(caption[:8]), model.extend(caption[8:9]), model.extend(caption[9:14])
    for kept in (8, 9, 0):
        model.rollback(prompt.length + kept)
        model.extend([5, 6, 7])
        model.rollback(prompt.length + kept)
        if kept == 0:
            assert torch.equal(model.extend(caption[:8]), once[0])
        if kept in (0, 8):
            assert torch.equal(model.extend(caption[8:9]), once[1])
        assert torch.equal(model.extend(caption[9:14]), once[2])


@pytest.mark.parametrize("frames", [3, 4, 150, 199, 200, 201, 203, 400, 930])
def test_the_audio_tower_hears_what_the_family_hears(pair: Pair, frames: int) -> None:
    features = np.random.default_rng(frames).standard_normal((128, frames)).astype(np.float16)
    model = pair.quantized(8)
    with torch.inference_mode():
        expected = pair.exact._thinker.audio_tower(
            torch.from_numpy(features).float(),
            feature_lens=torch.tensor([frames]),
            aftercnn_lens=torch.tensor([(frames - 1) // 2 + 1]),
        ).last_hidden_state.numpy()
    found = model.encode_audio(features)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


def test_embeddings_of_another_count_or_with_other_bands_are_refused(pair: Pair) -> None:
    model = pair.quantized(8)
    prompt = pair.prompts[0]
    features = prompt.features
    assert features is not None
    with pytest.raises(ModelError, match="placeholders"):
        model.prefill(Prompt(prompt.token_ids, {LOG_MEL: features[:, :-50]}))
    with pytest.raises(ModelError, match="bands"):
        model.prefill(Prompt(prompt.token_ids, {LOG_MEL: features[:80]}))
    model.prefill(prompt)
    with pytest.raises(ModelError, match="outside the vocabulary"):
        model.extend([model.vocab_size])


def test_a_cache_that_grows_keeps_its_content() -> None:
    shape = TextShape.of(on_meta(Checkpoint.open(EDGE_CHECKPOINT), torch.float32))
    cache = Cache(shape)
    draw = np.random.default_rng(0)
    rows = (1, 100, shape.kv_heads, shape.head_dim)
    added = [[draw.standard_normal(rows, np.float32) for _ in cache.held()] for _ in range(6)]
    before = cache.nbytes
    for new in added:
        cache.append(new)
    assert (cache.length, cache.nbytes > before) == (600, True)
    for place, held in enumerate(cache.held()):
        np.testing.assert_array_equal(held, np.concatenate([new[place] for new in added], axis=1))
    cache.length = 350
    assert {held.shape[1] for held in cache.held()} == {350}


@pytest.mark.parametrize("run", RUNS)
def test_its_cache_is_known_before_it_grows(pair: Pair, run: tuple[int, Kernels]) -> None:
    model = pair.quantized(*run)
    for begun in (
        lambda prompt: model.prefill(prompt),
        lambda prompt: list(model.prefill_in_parts(prompt, 7)),
    ):
        told = model.new_sequence().cache_bytes_for(40, 40)
        begun(Prompt(tuple(range(10, 50))))
        assert model.cache_bytes == told
    assert model.cache_bytes_for(40, 41) == model.cache_bytes
    for more in (300, 1, 700):
        told = model.cache_bytes_for(40, model.length + more)
        model.extend([9] * more)
        assert model.cache_bytes <= told
    assert model.context == pair.exact.context


def test_a_random_model_of_a_shape_runs_and_repeats_with_its_seed(tiny_checkpoint: Path) -> None:
    network = on_meta(Checkpoint.open(tiny_checkpoint), torch.float32)
    one, same, other = (
        random_model(network, layers=1, bits=4, seed=seed).prefill(Prompt((1, 2)))
        for seed in (1, 1, 2)
    )
    assert torch.isfinite(one).all()
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_our_own_kernels_refuse_what_they_cannot_run(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgecloud.models.quantized.engine.suits", lambda *_: False)
    with pytest.raises(ModelError, match="a processor with AVX2 or AVX-512 VNNI"):
        load_quantized(pair.checkpoint, bits=8, vocab_size=10, kernels="own")


def test_without_the_instructions_the_engine_takes_over(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgecloud.models.quantized.engine.available", lambda: False)
    loaded = load_model(
        "tiny", str(tiny_checkpoint), device="cpu", dtype="auto", quantization="int8"
    )
    assert loaded.facts["engine"].startswith("OpenVINO")


def test_other_bits_than_the_folder_holds_are_told(pair: Pair, tmp_path: Path) -> None:
    convert(pair.checkpoint, tmp_path / "out", bits=4)
    quantized = Checkpoint.open(tmp_path / "out")
    with pytest.raises(CheckpointError, match="the quantization int4"):
        load_quantized(quantized, bits=8, vocab_size=10)
    found = load_quantized(quantized, bits=4, vocab_size=pair.processor.vocab_size)
    expected = pair.quantized(4)
    assert torch.equal(found.prefill(pair.prompts[0]), expected.prefill(pair.prompts[0]))


def test_a_vocabulary_larger_than_the_output_layer_is_told(pair: Pair) -> None:
    with pytest.raises(ModelError, match="its output layer only"):
        load_quantized(pair.checkpoint, bits=8, vocab_size=10**6)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"dtype": "float16", "quantization": "int8"}, "--edge-dtype"),
        ({"dtype": "float32", "quantization": "bf16"}, "--edge-dtype"),
        ({"device": "cuda", "quantization": "int8"}, "--edge-device cpu"),
    ],
)
def test_settings_that_exclude_each_other_are_told(
    tiny_checkpoint: Path, settings: dict[str, str], message: str
) -> None:
    given = {"device": "cpu", "dtype": "auto", **settings}
    with pytest.raises(ConfigError, match=message):
        load_model("tiny", str(tiny_checkpoint), **given)


@pytest.mark.parametrize(
    "quantization, dtype", [("none", "float32"), ("bf16", "bfloat16"), ("int8", "int8")]
)
def test_each_quantisation_loads_and_says_so(
    tiny_checkpoint: Path, quantization: str, dtype: str
) -> None:
    loaded = load_model(
        "tiny", str(tiny_checkpoint), device="cpu", dtype="auto", quantization=quantization
    )
    assert loaded.facts["dtype"] == dtype
    assert loaded.facts["sha256"] == Checkpoint.open(tiny_checkpoint).fingerprint()
    assert ("engine" in loaded.facts) == (quantization == "int8")
    assert loaded.model.prefill(Prompt((1, 2))).shape == (loaded.processor.vocab_size,)


def test_without_openvino_the_extra_is_named(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = ("edgecloud.models.quantized.openvino.", "edgecloud.models.quantized.")
    for name in [name for name in sys.modules if name.startswith(parts)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ModelError, match=r"edgecloud\[openvino\]"):
        load_model("tiny", str(tiny_checkpoint), device="cpu", dtype="auto", quantization="int8")


@pytest.mark.system
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.alone
def test_the_cap_of_cores_holds_for_the_engine(tiny_checkpoint: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from edgecloud.hardware.limits import apply_in_child, apply_torch_threads\n"
        "apply_in_child(1, 0.0, first_core=1)\n"
        "import os\n"
        "apply_torch_threads(1)\n"
        "from edgecloud.contracts import Prompt\n"
        "from edgecloud.models.precision import load_model\n"
        f"model = load_model('tiny', {str(tiny_checkpoint)!r}, device='cpu', dtype='auto',"
        " quantization='int8').model\n"
        "model.prefill(Prompt(tuple(range(200))))\n"
        "masks = {line for task in Path('/proc/self/task').iterdir()\n"
        "         for line in (task / 'status').read_text().splitlines()\n"
        "         if line.startswith('Cpus_allowed_list')}\n"
        "print(len(masks), os.sched_getaffinity(0), masks)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("1 "), done.stdout
    own = done.stdout.split("{")[1].split("}")[0]
    assert f"\\t{own}'" in done.stdout, done.stdout
