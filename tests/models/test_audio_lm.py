"""The thinker behind prefill, extend and rewind, against the family's own class."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from transformers import Qwen2_5OmniThinkerForConditionalGeneration

from edgecloud.contracts import LOG_MEL, Prompt
from edgecloud.errors import CheckpointError, ModelError
from edgecloud.models.audio_lm import AudioLM, pick_device, pick_dtype
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.features import audio_token_count
from edgecloud.models.loading import load
from edgecloud.models.processor import Processor

TOLERANCE = 2e-4


def load_tiny(folder: Path, *, vocab_size: int, dtype: str = "float32") -> AudioLM:
    return AudioLM.load(Checkpoint.open(folder), vocab_size=vocab_size, device="cpu", dtype=dtype)


def prompt_of(processor: Processor, waveform: NDArray[np.float32]) -> Prompt:
    return processor.prompt(processor.features(waveform), language="english", prompt_type="concise")


@pytest.mark.parametrize("seconds", [0.3, 0.8, 4.1])
def test_logits_are_those_of_the_familys_own_class(
    tiny_checkpoint: Path, tiny_processor: Processor, tiny_model: AudioLM, seconds: float
) -> None:
    family = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(
        str(tiny_checkpoint), dtype=torch.float32, local_files_only=True
    )
    family.train(mode=False)
    noise = np.random.default_rng(3).normal(scale=0.1, size=int(16_000 * seconds))
    prompt = prompt_of(tiny_processor, noise.astype(np.float32))
    assert prompt.features is not None
    answer = [5, 9, 200]
    with torch.inference_mode():
        expected = family(
            input_ids=torch.tensor([[*prompt.token_ids, *answer]]),
            input_features=torch.from_numpy(prompt.features).float()[None],
            feature_attention_mask=torch.ones(1, prompt.features.shape[1], dtype=torch.long),
        ).logits[0]
    model = tiny_model.new_sequence()
    first = model.prefill(prompt)
    rest = model.extend(answer)
    vocab = tiny_processor.vocab_size
    torch.testing.assert_close(
        first, expected[prompt.length - 1, :vocab], rtol=TOLERANCE, atol=TOLERANCE
    )
    torch.testing.assert_close(
        rest, expected[prompt.length :, :vocab], rtol=TOLERANCE, atol=TOLERANCE
    )


@pytest.mark.parametrize("most", [7, 100, 150, 1024])
@pytest.mark.parametrize("seconds", [3.99, 4.0, 4.02, 9.3])
def test_a_long_recording_is_heard_in_parts(
    tiny_processor: Processor, tiny_model: AudioLM, seconds: float, most: int
) -> None:
    noise = np.random.default_rng(3).normal(scale=0.1, size=int(16_000 * seconds))
    prompt = prompt_of(tiny_processor, noise.astype(np.float32))
    assert prompt.features is not None
    heard: list[int] = []
    whole, in_parts = tiny_model.new_sequence(), tiny_model.new_sequence()
    network = tiny_model._thinker
    with torch.inference_mode():
        heard += [len(part) for part in network.encode_audio(prompt, most)]
        embedded = torch.cat(list(network.embed_in_parts(prompt, most)))
        torch.testing.assert_close(
            embedded, network.embed(prompt)[0], rtol=TOLERANCE, atol=TOLERANCE
        )
    assert sum(heard) == audio_token_count(prompt.features.shape[1])
    assert max(heard) <= max(most, 100)  # two windows are the least
    expected = whole.prefill(prompt)
    *_, found = in_parts.prefill_in_parts(prompt, most)
    assert found is not None
    torch.testing.assert_close(found, expected, rtol=TOLERANCE, atol=1e-3)


def test_features_that_do_not_fit_are_refused_before_anything_is_computed(
    tiny_processor: Processor, tiny_model: AudioLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(3).normal(scale=0.1, size=16_000).astype(np.float32)
    prompt = prompt_of(tiny_processor, noise)
    monkeypatch.setattr(
        tiny_model._decoder, "_layers", None
    )  # nothing may be run of the text model
    more = Prompt((*prompt.token_ids, prompt.token_ids[5]), {LOG_MEL: np.ones((7, 9), np.float16)})
    with pytest.raises(ModelError, match="7 bands"):
        next(tiny_model.new_sequence().prefill_in_parts(more, 4))
    audio = tiny_model._thinker.audio_token_id
    more = Prompt((*prompt.token_ids, audio), {LOG_MEL: prompt.features})
    with pytest.raises(ModelError, match="placeholders"):
        next(tiny_model.new_sequence().prefill_in_parts(more, 4))


def test_the_audio_changes_the_answer(
    tiny_processor: Processor, tiny_model: AudioLM, tone: NDArray[np.float32]
) -> None:
    model = tiny_model.new_sequence()
    heard = model.prefill(prompt_of(tiny_processor, tone))
    other = model.prefill(prompt_of(tiny_processor, tone[::-1].copy()))
    assert not torch.allclose(heard, other, atol=1e-3)


def test_two_requests_in_turn_do_not_disturb_each_other(
    tiny_processor: Processor, tiny_model: AudioLM, tone: NDArray[np.float32]
) -> None:
    one, other = tiny_model.new_sequence(), tiny_model.new_sequence()
    alone = tiny_model.new_sequence()
    prompt, longer = prompt_of(tiny_processor, tone), prompt_of(tiny_processor, np.tile(tone, 3))
    alone.prefill(prompt)
    expected = alone.extend([7, 8])
    one.prefill(prompt)
    other.prefill(longer)
    step = one.extend([7])
    other.extend([1, 2, 3])
    torch.testing.assert_close(torch.cat((step, one.extend([8]))), expected, rtol=0, atol=1e-4)


def test_a_padded_vocabulary_is_cut_to_the_tokenizers_length(
    tiny_checkpoint: Path, tiny_model: AudioLM, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "padded"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text = config["thinker_config"]["text_config"]
    real = text["vocab_size"]
    text["vocab_size"] = real + 22
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tensors = load_file(folder / "model.safetensors")
    name = "thinker.model.embed_tokens.weight"
    # Padding that would win every argmax, were it seen.
    tensors[name] = torch.cat((tensors[name], torch.full((22, tensors[name].shape[1]), 9.0).half()))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    padded = load_tiny(folder, vocab_size=Processor(Checkpoint.open(folder)).vocab_size)
    assert padded.vocab_size == real
    prompt = Prompt((3, 4, 5))
    logits = padded.prefill(prompt)
    assert logits.shape == (real,)
    assert padded.extend([1, 2]).shape == (2, real)
    torch.testing.assert_close(logits, tiny_model.new_sequence().prefill(prompt))


def test_a_tokenizer_larger_than_the_output_layer_is_refused(tiny_checkpoint: Path) -> None:
    with pytest.raises(ModelError, match="10000 entries"):
        load_tiny(tiny_checkpoint, vocab_size=10_000)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_precision_asked_for_holds_whatever_the_configuration_says(
    tiny_checkpoint: Path, tmp_path: Path, dtype: str
) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "dtype"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for part in ("text_config", "audio_config"):
        config["thinker_config"][part]["torch_dtype"] = "bfloat16"
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    model = load_tiny(folder, vocab_size=100, dtype=dtype)
    dtypes = {parameter.dtype for parameter in model._thinker.parameters()}
    assert dtypes == {getattr(torch, dtype)}
    assert model.dtype == dtype
    assert torch.get_default_dtype() == torch.float32


def test_half_precision_gives_float32_logits_near_those_of_float32(
    tiny_checkpoint: Path,
    tiny_processor: Processor,
    tiny_model: AudioLM,
    tone: NDArray[np.float32],
) -> None:
    half = load_tiny(tiny_checkpoint, vocab_size=tiny_processor.vocab_size, dtype="float16")
    prompt = prompt_of(tiny_processor, tone)
    logits, expected = half.prefill(prompt), tiny_model.new_sequence().prefill(prompt)
    assert logits.dtype == torch.float32
    assert (logits - expected).abs().max() < 0.05 * expected.abs().max()


def test_a_prompt_whose_placeholders_do_not_fit_its_audio_is_refused(
    tiny_processor: Processor, tiny_model: AudioLM, tone: NDArray[np.float32]
) -> None:
    prompt = prompt_of(tiny_processor, tone)
    longer = Prompt((*prompt.token_ids, audio_id(tiny_processor)), {LOG_MEL: prompt.features})
    with pytest.raises(ModelError, match="placeholders"):
        tiny_model.new_sequence().prefill(longer)


def audio_id(processor: Processor) -> int:
    return processor._audio_id


@pytest.mark.parametrize("shape", [(64, 80), (128, 1), (128, 2)])
def test_features_that_the_audio_tower_cannot_take_are_refused(
    tiny_processor: Processor, tiny_model: AudioLM, shape: tuple[int, int]
) -> None:
    count = max(1, audio_token_count(shape[1]))
    prompt = Prompt(
        (1, *[audio_id(tiny_processor)] * count, 2), {LOG_MEL: np.zeros(shape, dtype=np.float16)}
    )
    with pytest.raises(ModelError):
        tiny_model.new_sequence().prefill(prompt)


def test_a_shape_that_the_configuration_does_not_ask_for_is_named(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "shape"))
    tensors = load_file(folder / "model.safetensors")
    tensors["thinker.model.norm.weight"] = torch.ones(7).half()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"thinker\.model\.norm\.weight has shape \(7,\)"):
        load_tiny(folder, vocab_size=100)


def test_missing_tensors_are_counted_and_the_first_is_named(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "missing"))
    tensors = load_file(folder / "model.safetensors")
    del tensors["thinker.model.norm.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 tensors missing, .*thinker\.model\.norm") as info:
        load_tiny(folder, vocab_size=100)
    assert "\n" not in str(info.value)


def test_loading_tells_what_a_result_says_about_the_model(tiny_checkpoint: Path) -> None:
    loaded = load("tiny", str(tiny_checkpoint), device="auto", dtype="float32")
    facts = loaded.facts
    assert facts["name"] == "tiny"
    assert facts["dtype"] == "float32"
    assert facts["parameters"] == loaded.model.parameters > 1000
    assert facts["vocab_size"] == loaded.model.vocab_size == loaded.processor.vocab_size
    assert len(facts["sha256"]) == len(facts["tokenizer_sha256"]) == 64
    json.dumps(facts, allow_nan=False)


def test_only_the_thinkers_text_and_audio_are_in_memory(tiny_model: AudioLM) -> None:
    names = {name.split(".")[0] for name, _ in tiny_model._thinker.named_parameters()}
    assert names <= {"audio_tower", "model", "lm_head"}


def test_an_unknown_or_absent_device_is_one_clear_line() -> None:
    assert pick_device("cpu") == "cpu"
    for name in ("toaster", "cuda:99"):
        with pytest.raises(ModelError, match=name) as info:
            pick_device(name)
        assert "\n" not in str(info.value)


def test_precision_auto_is_half_on_cuda_and_full_on_a_processor() -> None:
    assert pick_dtype("auto", "cuda:0") is torch.float16
    assert pick_dtype("auto", "cpu") is torch.float32
    assert pick_dtype("bfloat16", "cpu") is torch.bfloat16


def test_a_token_beyond_the_vocabulary_is_refused(tiny_model: AudioLM) -> None:
    model = tiny_model.new_sequence()
    model.prefill(Prompt((1, 2, 3)))
    with pytest.raises(ModelError, match="outside the vocabulary"):
        model.extend([model.vocab_size])
