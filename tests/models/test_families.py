"""Each family against its own classes in transformers: the same logits for the same request."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import (
    AudioFlamingo3ForConditionalGeneration,
    AudioFlamingo3Processor,
    AutoModelForCausalLM,
    Qwen2_5OmniThinkerConfig,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    Qwen2ForCausalLM,
    Qwen2Tokenizer,
    Qwen3ASRFeatureExtractor,
    Qwen3ASRForConditionalGeneration,
    Qwen3ASRProcessor,
    WhisperFeatureExtractor,
)

from edgecloud.contracts import LOG_MEL, Prompt, StopLimits
from edgecloud.embedded.factory import tokenizer as tok
from edgecloud.errors import AudioError, CheckpointError, ModelError
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.folder import read_json
from edgecloud.models.loading import Loaded, load
from edgecloud.models.pairing import differences
from edgecloud.models.processor import Processor
from edgecloud.models.prompts import prompt_messages
from tests.models.miniatures import (
    gemma_checkpoint,
    llama_checkpoint,
    mistral_checkpoint,
    qwen3_checkpoint,
    text_checkpoint,
)

TOLERANCE = 1e-3
ANSWER = [5, 9, 200]


def loaded(folder: Path, dtype: str = "float32") -> Loaded:
    return load("m", str(folder), device="cpu", dtype=dtype)


def noise(seconds: float) -> NDArray[np.float32]:
    drawn = np.random.default_rng(3).normal(scale=0.1, size=int(16_000 * seconds))
    return drawn.astype(np.float32)


def same(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("seconds", [0.1, 0.71, 4.103, 29.99, 30.0])
def test_qwen2_audio_hears_what_the_familys_own_class_hears(
    audio_folder: Path, seconds: float
) -> None:
    family = Qwen2AudioForConditionalGeneration.from_pretrained(
        str(audio_folder), dtype=torch.float32, local_files_only=True
    ).eval()
    processor = Qwen2AudioProcessor(
        WhisperFeatureExtractor.from_pretrained(str(audio_folder)),
        Qwen2Tokenizer.from_pretrained(str(audio_folder), local_files_only=True),
    )
    ours = loaded(audio_folder)
    waveform = noise(seconds)
    text = processor.apply_chat_template(
        prompt_messages("english", "concise"), tokenize=False, add_generation_prompt=True
    )
    inputs = processor(text=text, audio=[waveform], sampling_rate=16_000, return_tensors="pt")
    prompt = ours.processor.prompt(
        ours.processor.features(waveform), language="english", prompt_type="concise"
    )
    assert list(prompt.token_ids) == inputs["input_ids"][0].tolist()
    inputs["input_features"] = inputs["input_features"].half().float()
    ids = torch.cat((inputs.pop("input_ids"), torch.tensor([ANSWER])), dim=1)
    inputs.pop("attention_mask")
    with torch.inference_mode():
        expected = family(input_ids=ids, **inputs).logits[0, :, : ours.processor.vocab_size]
    model = ours.model.new_sequence()
    same(model.prefill(prompt), expected[prompt.length - 1])
    same(model.extend(ANSWER), expected[prompt.length :])


def _flamingo(folder: Path) -> Any:
    return AudioFlamingo3Processor(
        WhisperFeatureExtractor.from_pretrained(str(folder)),
        Qwen2Tokenizer.from_pretrained(str(folder), local_files_only=True),
    )


def _asr(folder: Path) -> Any:
    special = {"audio_token": "<|audio_pad|>", "audio_bos_token": tok.AUDIO_START}
    tokenizer = Qwen2Tokenizer.from_pretrained(
        str(folder),
        local_files_only=True,
        extra_special_tokens={**special, "audio_eos_token": tok.AUDIO_END},
    )
    return Qwen3ASRProcessor(Qwen3ASRFeatureExtractor.from_pretrained(str(folder)), tokenizer)


@pytest.mark.parametrize("seconds", [0.1, 4.103, 30.0])
@pytest.mark.parametrize(
    ("fixture", "kind", "processor"),
    [
        ("flamingo_folder", AudioFlamingo3ForConditionalGeneration, _flamingo),
        ("asr_folder", Qwen3ASRForConditionalGeneration, _asr),
    ],
)
def test_an_audio_family_hears_what_its_own_class_hears(
    request: pytest.FixtureRequest, fixture: str, kind: Any, processor: Any, seconds: float
) -> None:
    folder = request.getfixturevalue(fixture)
    family = kind.from_pretrained(str(folder), dtype=torch.float32, local_files_only=True).eval()
    ours = loaded(folder)
    assert Checkpoint.open(folder).context == ours.model.context == 4096
    waveform = noise(seconds)
    text = ours.processor.rendered(prompt_messages("english", "concise"))
    inputs = processor(folder)(text=text, audio=[waveform])
    prompt = ours.processor.prompt(
        ours.processor.features(waveform), language="english", prompt_type="concise"
    )
    assert list(prompt.token_ids) == inputs["input_ids"][0].tolist()
    inputs["input_features"] = inputs["input_features"].half().float()
    ids = torch.cat((inputs.pop("input_ids"), torch.tensor([ANSWER])), dim=1)
    given = {name: inputs[name] for name in ("input_features", "input_features_mask")}
    with torch.inference_mode():
        expected = family(input_ids=ids, **given).logits[0, :, : ours.processor.vocab_size]
    model = ours.model.new_sequence()
    same(model.prefill(prompt), expected[prompt.length - 1])
    same(model.extend(ANSWER), expected[prompt.length :])


def test_qwen2_audio_takes_no_more_than_its_window(audio_folder: Path) -> None:
    processor = Processor(Checkpoint.open(audio_folder))
    with pytest.raises(AudioError, match=r"lasts 30\.1 s; this family hears at most 30 s"):
        processor.features(noise(30.1))


@pytest.mark.parametrize("shape", [(80, 40), (128, 2), (128, 3003)])
def test_qwen2_audio_refuses_features_of_another_size(
    audio_folder: Path, shape: tuple[int, int]
) -> None:
    model = loaded(audio_folder).model
    with pytest.raises(ModelError, match="the audio tower takes 128 of up to 3000"):
        model.prefill(Prompt((1, 2), {LOG_MEL: np.zeros(shape, np.float16)}))


@pytest.mark.parametrize("tied", [True, False])
def test_qwen2_answers_as_the_familys_own_class(tmp_path: Path, tied: bool) -> None:
    folder = text_checkpoint(tmp_path, tied=tied, padded_rows=5)
    family = Qwen2ForCausalLM.from_pretrained(
        str(folder), dtype=torch.float32, local_files_only=True
    ).eval()
    ours = loaded(folder)
    prompt = ours.processor.text_prompt("the voice 的 ?")
    with torch.inference_mode():
        expected = family(torch.tensor([[*prompt.token_ids, *ANSWER]])).logits[0]
    model = ours.model.new_sequence()
    vocab = ours.processor.vocab_size
    assert family.config.vocab_size == vocab + 5
    same(model.prefill(prompt), expected[prompt.length - 1, :vocab])
    same(model.extend(ANSWER), expected[prompt.length :, :vocab])


TEXT_FAMILIES = {
    "gemma 3": gemma_checkpoint,
    "llama": llama_checkpoint,
    "llama, untied": partial(llama_checkpoint, tied=False),
    "mistral": mistral_checkpoint,
    "mistral, sliding": partial(mistral_checkpoint, window=7),
    "qwen3": qwen3_checkpoint,
    "qwen3, untied": partial(qwen3_checkpoint, tied=False),
}


@pytest.mark.parametrize("name", TEXT_FAMILIES)
def test_a_text_family_answers_as_its_own_class(tmp_path: Path, name: str) -> None:
    """Logits of a prompt and of what follows, at once and token by token, and ``generate``'s own answer; all
    of them longer than the window that slides."""
    folder = TEXT_FAMILIES[name](tmp_path)
    family = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()
    ours = loaded(folder)
    assert Checkpoint.open(folder).context == ours.model.context == 4096
    prompt = ours.processor.text_prompt("the voice 的 ?")
    vocab = ours.processor.vocab_size
    with torch.inference_mode():
        expected = family(torch.tensor([[*prompt.token_ids, *ANSWER]])).logits[0, :, :vocab]
        answer = family.generate(
            torch.tensor([prompt.token_ids]),
            max_new_tokens=24,
            do_sample=False,
            pad_token_id=0,
            suppress_tokens=[*range(vocab, family.config.vocab_size)] or None,
        )[0, prompt.length :].tolist()
    model = ours.model.new_sequence()
    same(model.prefill(prompt), expected[prompt.length - 1])
    same(model.extend(ANSWER), expected[prompt.length :])
    model.rollback(prompt.length)
    same(torch.cat([model.extend([token]) for token in ANSWER]), expected[prompt.length :])
    model = ours.model.new_sequence()
    logits, ours_said = model.prefill(prompt), list[int]()
    ends = ours.stopping().end_ids
    while len(ours_said) < 24 and not ends & set(ours_said):
        ours_said.append(int(logits.argmax()))
        logits = model.extend(ours_said[-1:])[0]
    assert ours_said == answer


@pytest.mark.parametrize("scores", [1 << 24, 40])
def test_a_window_slides_over_what_a_long_prompt_left(
    mistral_folder: Path, monkeypatch: pytest.MonkeyPatch, scores: int
) -> None:
    """Also where the attention of many new tokens is computed some of them at a time."""
    family = AutoModelForCausalLM.from_pretrained(str(mistral_folder), dtype=torch.float32).eval()
    tokens = [int(token) for token in np.random.default_rng(1).integers(0, 250, 90)]
    with torch.inference_mode():
        expected = family(torch.tensor([tokens])).logits[0]
    monkeypatch.setattr("edgecloud.models.decoder._MOST_SCORES", scores)
    model = loaded(mistral_folder).model
    same(model.prefill(Prompt(tuple(tokens[:40]))), expected[39])
    same(model.extend(tokens[40:]), expected[40:])
    model.rollback(50)
    same(model.extend(tokens[50:53]), expected[50:53])


def test_answers_end_with_the_tokens_that_the_checkpoint_names(
    llama_folder: Path, tmp_path: Path
) -> None:
    for path in llama_folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    named = Processor(Checkpoint.open(tmp_path))
    ids = named.stopping(StopLimits(max_sentences=1)).end_ids
    assert {named._tokenizer.decode([i]) for i in ids} == {"<|end_of_text|>", "<|eot_id|>"}
    (tmp_path / "generation_config.json").unlink()
    other = Processor(Checkpoint.open(tmp_path))
    assert len(other.stopping(StopLimits(max_sentences=1)).end_ids) == 1
    # Two models that end their answers differently do not decode together.
    assert differences(named.shared(), other.shared())[0].startswith("end ids: ")
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**settings, "eos_token": None}))
    with pytest.raises(CheckpointError, match="names a token that ends an answer"):
        Processor(Checkpoint.open(tmp_path))


def test_a_text_is_one_turn_of_the_user_under_the_templates_own_system_prompt(
    text_folder: Path,
) -> None:
    processor = Processor(Checkpoint.open(text_folder))
    tokenizer = Qwen2Tokenizer.from_pretrained(str(text_folder), local_files_only=True)
    ids = processor.text_prompt("say.").token_ids
    assert tokenizer.decode(ids) == (
        "<|im_start|>system\nYou help.<|im_end|>\n<|im_start|>user\nsay.<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_a_model_of_text_alone_refuses_recordings(text_folder: Path) -> None:
    ours = loaded(text_folder)
    assert not ours.processor.accepts_audio
    with pytest.raises(ModelError, match="--dataset-type text"):
        ours.processor.features(noise(1))
    with pytest.raises(ModelError, match="text alone"):
        ours.model.prefill(Prompt((1, 2), {LOG_MEL: np.zeros((128, 40), np.float16)}))


def test_models_that_hear_take_text_too(audio_folder: Path, omni_folder: Path) -> None:
    for folder in (audio_folder, omni_folder):
        ours = loaded(folder)
        logits = ours.model.prefill(ours.processor.text_prompt("the voice"))
        assert torch.isfinite(logits).all()


def test_a_whole_omni_gives_its_thinker_alone(omni_folder: Path) -> None:
    ours = loaded(omni_folder)
    parts = {name.split(".")[0] for name, _ in ours.model._thinker.named_parameters()}
    assert parts == {"audio_tower", "model", "lm_head"}
    config = Qwen2_5OmniThinkerConfig(**read_json(omni_folder / "config.json")["thinker_config"])
    family = Qwen2_5OmniThinkerForConditionalGeneration(config).eval()
    stored = dict(Checkpoint.open(omni_folder).tensors())
    # In memory transformers 5 has the thinker's parts under `model.`, the text model by another name.
    renamed = {}
    for name, tensor in stored.items():
        inside = name.replace("model.", "language_model.", 1) if name[:6] == "model." else name
        renamed[inside if name[:8] == "lm_head." else f"model.{inside}"] = tensor
    wanted = {name for name, _ in family.named_parameters() if ".visual." not in name}
    assert wanted <= set(renamed)
    family.load_state_dict({name: renamed[name] for name in wanted}, strict=False)
    waveform = noise(1.3)
    prompt = ours.processor.prompt(
        ours.processor.features(waveform), language="chinese", prompt_type="default"
    )
    assert prompt.features is not None
    with torch.inference_mode():
        expected = family(
            input_ids=torch.tensor([prompt.token_ids]),
            input_features=torch.from_numpy(prompt.features).float()[None],
            feature_attention_mask=torch.ones(1, prompt.features.shape[1], dtype=torch.long),
        ).logits[0, -1]
    same(ours.model.new_sequence().prefill(prompt), expected[: ours.processor.vocab_size])


@pytest.mark.parametrize("dtype, tolerance", [("bfloat16", 0.5), ("float16", 0.06)])
@pytest.mark.parametrize(
    "family", ["audio_folder", "text_folder", "omni_folder", "tiny_checkpoint"]
)
def test_every_family_runs_in_every_precision(
    family: str, dtype: str, tolerance: float, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(family)
    whole, half = loaded(folder), loaded(folder, dtype)
    assert half.facts["dtype"] == dtype
    assert {p.dtype for p in half.model._thinker.parameters()} == {getattr(torch, dtype)}
    prompt = whole.processor.text_prompt("the voice.")
    if whole.processor.accepts_audio:
        features = whole.processor.features(noise(1))
        prompt = whole.processor.prompt(features, language="english", prompt_type="concise")
    expected = whole.model.prefill(prompt)
    scale = expected.abs().max()
    assert (half.model.prefill(prompt) - expected).abs().max() < tolerance * scale
    half.model.extend(ANSWER)
    half.model.rollback(prompt.length)
    assert half.model.extend(ANSWER).shape == (3, whole.processor.vocab_size)


def test_the_facts_name_the_family(audio_folder: Path) -> None:
    facts = loaded(audio_folder).facts
    assert facts["family"] == facts["shared"]["family"] == "qwen2_audio"


def test_a_template_without_a_place_for_audio_is_refused(
    audio_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "m").symlink_to(audio_folder)
    processor = Processor(Checkpoint.open(tmp_path / "m"))
    processor._tokenizer.chat_template = "{{- messages[0]['role'] }}"
    with pytest.raises(ModelError, match="gives 0 audio placeholders"):
        processor.prompt(processor.features(noise(1)), language="english", prompt_type="concise")


def test_a_size_left_out_of_a_text_models_configuration_is_one_line(tmp_path: Path) -> None:
    folder = text_checkpoint(tmp_path)
    path = folder / "config.json"
    path.write_text(path.read_text("utf-8").replace("hidden_size", "hidden"), "utf-8")
    with pytest.raises(CheckpointError, match=r"config\.json has no hidden_size"):
        Checkpoint.open(folder)
