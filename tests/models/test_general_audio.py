"""Families that hear on the general adapter, each against its own class, and what their prompts must hold."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file
from transformers import (
    Gemma4AudioFeatureExtractor,
    Gemma4ForConditionalGeneration,
    Gemma4UnifiedAudioFeatureExtractor,
    Gemma4UnifiedForConditionalGeneration,
    GraniteSpeechForConditionalGeneration,
    Phi4MultimodalFeatureExtractor,
    Phi4MultimodalForCausalLM,
    Qwen3OmniMoeConfig,
    Qwen3OmniMoeForConditionalGeneration,
    VoxtralForConditionalGeneration,
    WhisperFeatureExtractor,
)
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function
from transformers.models.gemma4.processing_gemma4 import Gemma4Processor
from transformers.models.gemma4_unified.processing_gemma4_unified import Gemma4UnifiedProcessor

from edgecloud.cloud.protocol import wire
from edgecloud.contracts import LOG_MEL, Prompt
from edgecloud.edge.messages import Request
from edgecloud.errors import AudioError, CheckpointError, ModelError
from edgecloud.models.assembly import on_meta
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.families.contract import published_context
from edgecloud.models.folder import SMALL_FILES, family_of, needed_shards
from edgecloud.models.general import GeneralLM, check_weights
from edgecloud.models.loading import Loaded
from edgecloud.testing import check_family
from tests.cloud.message_schema import REQUESTS, well_formed
from tests.edge.test_other_families import EXACT, asking
from tests.models.miniatures import (
    gemma4_checkpoint,
    gemma4_unified_checkpoint,
    granite_checkpoint,
    omni3_checkpoint,
    phi4_checkpoint,
    voxtral_checkpoint,
)
from tests.models.test_families import ANSWER, loaded, noise, same


@dataclass(frozen=True)
class Miniature:
    """A family's miniature as edge and as cloud, and its own class."""

    model_type: str
    edge: Path
    cloud: Path
    own: Callable[[Path], Any]
    extracted: Callable[[Path, Any], tuple[dict[str, Any], int]]
    """The features that its own extractor makes of a recording, and how many embeddings those are."""


def _thinker(folder: Path) -> Any:
    config = Qwen3OmniMoeConfig.from_pretrained(str(folder), enable_audio_output=False)
    whole: Any = Qwen3OmniMoeForConditionalGeneration.from_pretrained(
        str(folder), config=config, dtype=torch.float32
    )
    return whole.thinker.eval()


def _voxtral(folder: Path) -> Any:
    whole: Any = VoxtralForConditionalGeneration.from_pretrained(str(folder), dtype=torch.float32)
    return whole.eval()


def _gemma4(folder: Path) -> Any:
    whole: Any = Gemma4ForConditionalGeneration.from_pretrained(str(folder), dtype=torch.float32)
    assert whole.model.vision_tower is not None
    return whole.eval()


def _gemma4_unified(folder: Path) -> Any:
    """With the types of tokens that ``generate`` gives it."""
    whole: Any = Gemma4UnifiedForConditionalGeneration.from_pretrained(
        str(folder), dtype=torch.float32
    )
    whole.eval()

    def forward(input_ids: Any, **more: Any) -> Any:
        types = 3 * (input_ids == whole.config.audio_token_id).long()
        return whole(input_ids=input_ids, mm_token_type_ids=types, **more)

    return forward


def _granite(folder: Path) -> Any:
    """With its adapter, which peft loads by itself."""
    whole: Any = GraniteSpeechForConditionalGeneration.from_pretrained(
        str(folder), dtype=torch.float32
    )
    return whole.eval()


def _phi4(folder: Path) -> Any:
    """As transformers' documentation loads it for recordings."""
    whole: Any = Phi4MultimodalForCausalLM.from_pretrained(str(folder), dtype=torch.float32)
    whole.load_adapter(
        str(folder), adapter_name="speech", adapter_kwargs={"subfolder": "speech-lora"}
    )
    return whole.eval()


def _granite_features(folder: Path, waveform: Any) -> tuple[dict[str, Any], int]:
    """By NumPy: the family's own extractor needs torchaudio, and has a test of its own below."""
    mel = spectrogram(
        waveform,
        window_function(400, "hann"),
        frame_length=400,
        hop_length=160,
        fft_length=512,
        power=2.0,
        mel_filters=mel_filter_bank(257, 80, 0.0, 8000.0, 16_000, mel_scale="htk"),
    )
    logs = np.log10(np.maximum(mel.T, 1e-10))
    return {LOG_MEL: (np.maximum(logs, logs.max() - 8) / 4 + 1).reshape(1, -1, 160)}, 3 * 97


def _phi4_features(folder: Path, waveform: Any) -> tuple[dict[str, Any], int]:
    extractor: Any = Phi4MultimodalFeatureExtractor.from_pretrained(str(folder))
    made = extractor(waveform, sampling_rate=16_000, return_tensors="np")
    return {"audio_input_features": made["audio_input_features"]}, int(made["audio_embed_sizes"][0])


def _omni3_features(folder: Path, waveform: Any) -> tuple[dict[str, Any], int]:
    found = WhisperFeatureExtractor.from_pretrained(str(folder))(
        waveform, sampling_rate=16_000, padding="longest", truncation=False, return_tensors="np"
    )
    mask = np.ones((1, 2905), np.int32)
    return {LOG_MEL: found[LOG_MEL], "feature_attention_mask": mask}, 13 * 29 + 1


def _voxtral_features(folder: Path, waveform: Any) -> tuple[dict[str, Any], int]:
    whole = WhisperFeatureExtractor.from_pretrained(str(folder))(
        np.tile(waveform, 2),
        sampling_rate=16_000,
        padding="longest",
        truncation=False,
        pad_to_multiple_of=480_000,
    )[LOG_MEL][0]
    return {LOG_MEL: np.stack([whole[:, :3000], whole[:, 3000:]])}, 750


def _gemma4_features(folder: Path, waveform: Any) -> tuple[dict[str, Any], int]:
    found = Gemma4AudioFeatureExtractor.from_pretrained(str(folder))(
        [waveform], return_tensors="np"
    )
    return dict(found), _placed(Gemma4Processor, found)


def _gemma4_waveform(folder: Path, waveform: Any) -> tuple[dict[str, Any], int]:
    extractor = Gemma4UnifiedAudioFeatureExtractor.from_pretrained(str(folder))
    found = extractor([waveform], return_tensors="np")
    plain = found[LOG_MEL].reshape(-1)
    np.testing.assert_array_equal(plain[: len(waveform)], waveform)
    return dict(found), _placed(Gemma4UnifiedProcessor, found)


def _placed(kind: Any, found: Any) -> int:
    """As many placeholders as a Gemma's own processor has for such features; it needs torchvision as a whole."""
    tokens = SimpleNamespace(boa_token="<", audio_token="a", eoa_token=">")
    written = kind.replace_audio_token(tokens, found, 0)
    assert (written[0], written[-1]) == ("<", ">")
    return int(written.count("a"))


KINDS: dict[str, tuple[Any, Any, Any]] = {
    "granite_speech": (granite_checkpoint, _granite, _granite_features),
    "phi4_multimodal": (phi4_checkpoint, _phi4, _phi4_features),
    "qwen3_omni_moe": (omni3_checkpoint, _thinker, _omni3_features),
    "voxtral": (voxtral_checkpoint, _voxtral, _voxtral_features),
    "gemma4": (gemma4_checkpoint, _gemma4, _gemma4_features),
    "gemma4_unified": (gemma4_unified_checkpoint, _gemma4_unified, _gemma4_waveform),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """Files of a family's miniature as edge and as cloud, made once."""

    @cache
    def made(model_type: str) -> tuple[Path, Path]:
        make = KINDS[model_type][0]
        one, other = (make(tmp_path_factory.mktemp("m"), seed=seed) for seed in (1, 2))
        return one, other

    return made


@pytest.fixture(scope="module", params=KINDS)
def miniature(request: pytest.FixtureRequest, folders: Any) -> Miniature:
    edge, cloud = folders(request.param)
    _, own, extracted = KINDS[request.param]
    return Miniature(request.param, edge, cloud, own, extracted)


@pytest.fixture(scope="module")
def ours(miniature: Miniature) -> Loaded:
    return loaded(miniature.edge)


def heard(ours: Loaded, seconds: float) -> Prompt:
    features = ours.processor.features(noise(seconds))
    return ours.processor.prompt(features, language="english", prompt_type="concise")


ADAPTED = ("granite_speech", "phi4_multimodal")
"""Families with an adapter for recordings."""


def name_of(prompt: Prompt) -> str:
    """The name of the features: what is no mask."""
    return next(name for name, array in prompt.arrays.items() if array.dtype == np.float16)


def test_a_family_obeys_the_laws(miniature: Miniature) -> None:
    check_family(miniature.model_type, miniature.edge)


@pytest.mark.parametrize("seconds", [0.1, 4.103])
def test_it_hears_what_the_familys_own_class_hears(
    miniature: Miniature, ours: Loaded, seconds: float
) -> None:
    """Its forward of everything at once, with the mask that ``generate`` gives it."""
    assert isinstance(ours.model, GeneralLM)
    assert Checkpoint.open(miniature.edge).context == ours.model.context
    prompt = heard(ours, seconds)
    ids = torch.tensor([[*prompt.token_ids, *ANSWER]])
    given = {name: torch.from_numpy(array) for name, array in prompt.arrays.items()}
    name = name_of(prompt)
    given[name] = given[name].float()
    if miniature.model_type == "phi4_multimodal":
        places = prompt.token_ids.count(ours.processor.audio_id or 0)
        given["audio_embed_sizes"] = torch.tensor([places])
    with torch.inference_mode():
        expected = miniature.own(miniature.edge)(
            input_ids=ids, attention_mask=torch.ones_like(ids), **given
        ).logits[0, :, : ours.processor.vocab_size]
    model, other = ours.model.new_sequence(), ours.model.new_sequence()
    same(model.prefill(prompt), expected[prompt.length - 1])
    # Another client's session in between, of another length, without audio.
    other.prefill(ours.processor.text_prompt("the voice."))
    same(model.extend(ANSWER), expected[prompt.length :])
    model.rollback(prompt.length + 1)
    other.extend([4])
    same(model.extend(ANSWER[1:]), expected[prompt.length + 1 :])
    changed = _with(prompt, name, 0 * prompt.arrays[name])
    assert not torch.allclose(other.prefill(changed), expected[prompt.length - 1], atol=1e-3)


def test_features_are_the_familys_own_extractors(miniature: Miniature, ours: Loaded) -> None:
    waveform = noise(29.05)
    expected, embeddings = miniature.extracted(miniature.edge, waveform)
    whole = np.tile(waveform, 2) if miniature.model_type == "voxtral" else waveform
    made = ours.processor.features(whole)
    assert set(made) == set(expected)
    for name, array in expected.items():
        rounded = np.asarray(array).astype(np.float16 if array.dtype.kind == "f" else array.dtype)
        off = 1e-3 if miniature.model_type == "granite_speech" else 0
        np.testing.assert_allclose(made[name], rounded, rtol=0, atol=off)
    prompt = ours.processor.prompt(made, language="english", prompt_type="concise")
    assert prompt.token_ids.count(ours.processor.audio_id or 0) == embeddings


def test_a_recording_stands_between_the_tokens_that_the_familys_processor_has_there(
    ours: Loaded, miniature: Miniature
) -> None:
    spelled = ours.processor.tokenizer.decode(heard(ours, 0.1).token_ids)
    around = {
        "granite_speech": ("user<|end_of_role|>", "Summarise"),
        "phi4_multimodal": ("<|user|>", "Summarise"),
        "qwen3_omni_moe": ("<|audio_bos|>", "<|audio_eos|>"),
        "voxtral": ("[BEGIN_AUDIO]", ""),
        "gemma4": ("user\n<|audio>", "<audio|>Summarise"),
        "gemma4_unified": ("user\n<|audio>", "<audio|>Summarise"),
    }[miniature.model_type]
    placeholder = ours.processor.tokenizer.decode([ours.processor.audio_id])
    first, last = spelled.index(placeholder), spelled.rindex(placeholder) + len(placeholder)
    assert spelled[:first].endswith(around[0])
    assert spelled[last:].startswith(around[1])


def test_all_modes_run_and_exact_is_the_clouds_own(
    miniature: Miniature, ours: Loaded, tmp_path: Path
) -> None:
    """Over the wire's third version: a cloud that heard other numbers would write another text."""
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(1.3), 16_000)
    cloud, request = loaded(miniature.cloud), Request(str(path))
    ask = partial(asking(ours, cloud), max_new_tokens=12)
    alone = ask("cloud", request)
    both = ask("spec", request, **EXACT)
    edge = ask("edge", request)
    assert both.tokens == alone.tokens != edge.tokens
    assert len(alone.tokens) > 4
    same_model = asking(cloud, cloud)("spec", request, **EXACT, max_new_tokens=12)
    assert same_model.tokens == alone.tokens
    assert both.prompt_digest == alone.prompt_digest


def test_what_is_sent_is_what_is_foreseen(ours: Loaded) -> None:
    """By the schema that the tests of privacy hold messages against."""
    prompt = heard(ours, 0.4)
    opening = wire.pack_open(prompt)
    sent = wire.pack(0, "open", b"1" * 16, *opening, version=3)
    assert well_formed(wire.pack_frames([sent]), REQUESTS) != ours.processor.takes_waveform
    assert not well_formed(wire.pack_frames([wire.pack(0, "open", b"1" * 16, *opening)]), REQUESTS)
    samples = Prompt(prompt.token_ids, {"audio": noise(0.4).astype(np.float16)})
    other = wire.pack(0, "open", b"1" * 16, *wire.pack_open(samples), version=3)
    assert not well_formed(wire.pack_frames([other]), REQUESTS)


@pytest.mark.parametrize("raised", [KeyError("mel"), RuntimeError("no\nkernel"), TypeError("x")])
def test_what_a_familys_own_code_raises_names_the_model(
    ours: Loaded, monkeypatch: pytest.MonkeyPatch, raised: Exception
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise raised

    processor = ours.processor
    monkeypatch.setattr(type(processor._extractor), "arrays", fails)
    monkeypatch.setattr(type(processor.tokenizer), "decode", fails)
    said = f"its {{}} fails \\({type(raised).__name__}: .*\\)$"
    with pytest.raises(ModelError, match=said.format("feature extractor")):
        processor.features(noise(0.4))
    with pytest.raises(ModelError, match=said.format("tokenizer")):
        processor.text([4])


def test_a_multimodal_model_without_a_family_answers_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = voxtral_checkpoint(tmp_path)
    monkeypatch.setattr("edgecloud.models.families.voxtral.Voxtral.fits", lambda *_: False)
    plain = loaded(folder)
    assert not plain.processor.accepts_audio
    prompt = plain.processor.text_prompt("the voice.")
    with torch.inference_mode():
        expected = _voxtral(folder)(torch.tensor([[*prompt.token_ids, *ANSWER]])).logits[0]
    model = plain.model.new_sequence()
    same(model.prefill(prompt), expected[prompt.length - 1])
    same(model.extend(ANSWER), expected[prompt.length :])
    with pytest.raises(ModelError, match="takes text alone"):
        model.prefill(replace(prompt, arrays={LOG_MEL: np.zeros((1, 128, 3000), np.float16)}))


def _without(prompt: Prompt, name: str) -> Prompt:
    return replace(prompt, arrays={k: v for k, v in prompt.arrays.items() if k != name})


def _with(prompt: Prompt, name: str, array: Any) -> Prompt:
    return replace(prompt, arrays={**prompt.arrays, name: array})


def test_other_features_are_refused_before_the_forward(ours: Loaded) -> None:
    prompt = heard(ours, 0.4)
    features = name_of(prompt)
    mel = prompt.arrays[features]
    model = ours.model.new_sequence()
    for bad, said in (
        (_with(prompt, "pixel_values", mel), "the prompt has .*, pixel_values, a .* takes"),
        (_with(_without(prompt, features), "mel", mel), "edge and cloud must be of one family"),
        (_without(prompt, features), "takes|placeholders"),
        (_with(prompt, features, np.tile(mel, (1, 2, 2))), f"{features} is float16 of shape"),
        (_with(prompt, features, mel[0]), f"{features} is float16 of shape"),
        (_with(prompt, features, mel > 0), f"{features} is bool"),
        (replace(prompt, token_ids=prompt.token_ids[1:] * 2), "audio placeholders"),
        (Prompt(prompt.token_ids), "audio placeholders, the audio tower gives 0"),
    ):
        with pytest.raises(ModelError, match=said):
            model.prefill(bad)
    for name in set(prompt.arrays) - {features}:
        mask = prompt.arrays[name]
        for wrong, said in (
            (2 * mask, "other values than 0 and 1|is int64 of shape"),
            (np.zeros_like(mask), "gives 0 embeddings"),
            (mask[:, 1:], f"{name} is .* of shape"),
        ):
            with pytest.raises(ModelError, match=said):
                model.prefill(_with(prompt, name, wrong))
    torch.testing.assert_close(
        model.prefill(prompt), ours.model.new_sequence().prefill(prompt), rtol=0, atol=0
    )


def test_the_share_that_is_loaded_is_told(
    miniature: Miniature, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(
        "edgecloud.models.general.stage", lambda what, share=None: told.append((what, share))
    )
    loaded(miniature.edge)
    shares = [share for what, share in told if what == "loading weights" and share is not None]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] > 0.9


def test_a_voxtral_without_a_tokenizer_file_is_one_line(tmp_path: Path) -> None:
    folder = voxtral_checkpoint(tmp_path)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"tekken\.json\) alone give a converted checkpoint"):
        Checkpoint.open(folder).processor()


def test_a_recording_that_would_be_cut_off_is_refused(tmp_path: Path) -> None:
    processor = Checkpoint.open(gemma4_checkpoint(tmp_path)).processor()
    with pytest.raises(AudioError, match=r"lasts 30\.1 s; this family hears at most 30 s"):
        processor.features(noise(30.1))


def test_a_gemma_without_an_audio_tower_takes_text(tmp_path: Path) -> None:
    folder = gemma4_checkpoint(tmp_path)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "audio_config": None}))
    family = Checkpoint.open(folder).family
    assert (family.accepts_audio, family.fast) == (False, False)


def test_a_conversation_is_written_as_published(miniature: Miniature, ours: Loaded) -> None:
    """What the two families' own documentation and tests have around a request."""
    if miniature.model_type not in ADAPTED:
        pytest.skip("has a test of its template elsewhere, or none is published")
    first = "You listen to speech and describe the voice and its emotion."
    last = "Summarise the speaker's voice and emotion in one short phrase. Write only the phrase."
    expected = {
        "granite_speech": f"<|start_of_role|>system<|end_of_role|>{first}<|end_of_text|>\n"
        f"<|start_of_role|>user<|end_of_role|><|audio|>{last}<|end_of_text|>\n"
        "<|start_of_role|>assistant<|end_of_role|>",
        "phi4_multimodal": f"<|system|>{first}<|end|><|user|><|audio|>{last}<|end|><|assistant|>",
    }
    messages = Checkpoint.open(miniature.edge).family.messages("english", "concise")
    assert ours.processor.rendered(messages) == expected[miniature.model_type]


def test_log_mel_in_pairs_is_that_of_granite_speechs_own_extractor(folders: Any) -> None:
    """Which transformers 5.23 gives with torchaudio 2.11.0, for a tone that rises from 200 Hz to 3.2 kHz."""
    at = np.arange(8000) / 16_000
    waveform = (0.3 * np.sin(2 * np.pi * (200 + 3000 * at) * at)).astype(np.float32)
    edge, _ = folders("granite_speech")
    made = Checkpoint.open(edge).family.feature_extractor(edge).arrays(waveform)[LOG_MEL]
    expected = [
        [1.3943, 0.9851, 0.5982, 0.3570, 0.8156, 0.4949, 0.0895, -0.1530],
        [-0.2124, 0.3584, -0.2124, -0.2124, -0.2124, 0.1134, -0.2124, -0.2124],
        [-0.2124, -0.2124, 1.0470, -0.2124, -0.2124, -0.2124, 1.4538, -0.2124],
        [-0.2124, -0.2124, -0.1455, -0.2124, -0.2124, -0.2124, -0.2124, -0.2124],
        [-0.2124, -0.2124, -0.2124, -0.2124, -0.0024, 0.0882, 0.2471, 0.4054],
    ]
    assert made.shape == (1, 25, 160)
    np.testing.assert_allclose(made[0, ::6, ::20], expected, atol=1e-3)


def test_text_is_answered_without_the_adapter(miniature: Miniature, ours: Loaded) -> None:
    if miniature.model_type not in ADAPTED:
        pytest.skip("has no adapter")
    prompt = ours.processor.text_prompt("the voice.")
    whole = miniature.own(miniature.edge)
    for layer in whole.modules():
        if isinstance(layer, BaseTunerLayer):
            layer.enable_adapters(enabled=False)
    ids = torch.tensor([[*prompt.token_ids, *ANSWER]])
    with torch.inference_mode():
        expected = whole(ids).logits[0, :, : ours.processor.vocab_size]
    model = ours.model.new_sequence()
    same(model.prefill(prompt), expected[prompt.length - 1])
    # Another client's session in between, with a recording.
    ours.model.new_sequence().prefill(heard(ours, 0.4))
    same(model.extend(ANSWER), expected[prompt.length :])


def test_an_adapter_that_cannot_be_used_is_one_line(
    folders: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(folders("phi4_multimodal")[0], tmp_path / "m")
    checkpoint = Checkpoint.open(folder)
    name = "speech-lora/adapter_model.safetensors"
    assert needed_shards(folder, checkpoint.family, checkpoint.config)[-1] == name
    assert "speech-lora/adapter_config.json" in SMALL_FILES
    tensors = load_file(folder / name)
    first = min(tensors)
    for changed, said in (
        (
            {k: v for k, v in tensors.items() if k != first},
            "1 tensors missing, the first is .*lora",
        ),
        ({**tensors, first: tensors[first][:1]}, r"lora_A.* has shape \(1, 48\), config.json asks"),
        (
            {**tensors, "base_model.model.x.lora_A.weight": tensors[first].clone()},
            "1 tensors for which a",
        ),
    ):
        before = checkpoint.fingerprint()
        save_file(changed, folder / name, {"format": "pt"})
        assert checkpoint.fingerprint() != before
        with pytest.raises(CheckpointError, match=said):
            check_weights(checkpoint, "cpu")
    (folder / "speech-lora" / "adapter_config.json").unlink()
    with pytest.raises(CheckpointError, match="adapter model file not found"):
        check_weights(checkpoint, "cpu")
    monkeypatch.setattr("edgecloud.models.general.is_peft_available", lambda: False)
    with pytest.raises(ModelError, match=r"pip install 'edgecloud\[adapters\]'"):
        on_meta(checkpoint, torch.float32)
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"weights missing: {name}$"):
        Checkpoint.open(folder)


def test_weights_into_which_the_adapter_is_merged_need_none(
    folders: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Granite Speech is published since 4.0."""
    folder = shutil.copytree(folders("granite_speech")[0], tmp_path / "m")
    (folder / "adapter_model.safetensors").unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "has_lora_adapter": False}))
    monkeypatch.setattr("edgecloud.models.general.is_peft_available", lambda: False)
    # A file that is left is not looked at.
    assert (folder / "adapter_config.json").is_file()
    ours = loaded(folder)
    prompt = heard(ours, 0.4)
    (folder / "adapter_config.json").unlink()
    with torch.inference_mode():
        expected = _granite(folder)(
            input_ids=torch.tensor([prompt.token_ids]),
            input_features=torch.from_numpy(prompt.arrays[LOG_MEL]).float(),
        ).logits[0, -1, : ours.processor.vocab_size]
    same(ours.model.prefill(prompt), expected)


def test_beyond_where_rotary_embeddings_change_is_one_line(
    miniature: Miniature, ours: Loaded
) -> None:
    if miniature.model_type != "phi4_multimodal":
        pytest.skip("rotates alike at each length")
    checkpoint = Checkpoint.open(miniature.edge)
    assert (checkpoint.context, published_context(checkpoint.config)) == (1024, 4096)
    model = ours.model.new_sequence()
    model.prefill(Prompt((5,) * 1020))
    model.extend([5] * 4)
    with pytest.raises(ModelError, match="over 1024 tokens"):
        model.extend([5])
    assert model.length == 1024
    with pytest.raises(ModelError, match="over 1024 tokens"):
        model.prefill(Prompt((5,) * 1025))


def test_towers_of_other_steps_take_text_alone() -> None:
    for model_type, changed in (
        ("granite_speech", {"window_size": 10}),
        ("granite_speech", {"downsample_rate": 3}),
        ("phi4_multimodal", {"audio_config": {"time_reduction": 4}}),
    ):
        config = {"architectures": ["XForConditionalGeneration"], "model_type": model_type}
        assert family_of(Path(), config).accepts_audio
        assert not family_of(Path(), {**config, **changed}).accepts_audio
