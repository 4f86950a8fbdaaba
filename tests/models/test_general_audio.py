"""Families that hear on the general adapter, each against its own class, and what their prompts must hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from transformers import (
    Qwen3OmniMoeConfig,
    Qwen3OmniMoeForConditionalGeneration,
    VoxtralForConditionalGeneration,
    WhisperFeatureExtractor,
)

from edgecloud.cloud.protocol import wire
from edgecloud.contracts import LOG_MEL, Prompt
from edgecloud.edge.messages import Request
from edgecloud.errors import CheckpointError, ModelError
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.general import GeneralLM
from edgecloud.models.loading import Loaded
from edgecloud.testing import check_family
from tests.cloud.message_schema import REQUESTS, well_formed
from tests.edge.test_other_families import EXACT, asking
from tests.models.miniatures import omni3_checkpoint, voxtral_checkpoint
from tests.models.test_families import ANSWER, loaded, noise, same


@dataclass(frozen=True)
class Miniature:
    """A family's miniature as edge and as cloud, and its own class."""

    model_type: str
    edge: Path
    cloud: Path
    own: Callable[[Path], Any]


def _thinker(folder: Path) -> Any:
    config = Qwen3OmniMoeConfig.from_pretrained(str(folder), enable_audio_output=False)
    whole: Any = Qwen3OmniMoeForConditionalGeneration.from_pretrained(
        str(folder), config=config, dtype=torch.float32
    )
    return whole.thinker.eval()


def _voxtral(folder: Path) -> Any:
    whole: Any = VoxtralForConditionalGeneration.from_pretrained(str(folder), dtype=torch.float32)
    return whole.eval()


KINDS = {
    "qwen3_omni_moe": (omni3_checkpoint, _thinker),
    "voxtral": (voxtral_checkpoint, _voxtral),
}


@pytest.fixture(scope="module", params=KINDS)
def miniature(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    make, own = KINDS[request.param]
    folders = [make(tmp_path_factory.mktemp("m"), seed=seed) for seed in (1, 2)]
    return Miniature(request.param, *folders, own)


@pytest.fixture(scope="module")
def ours(miniature: Miniature) -> Loaded:
    return loaded(miniature.edge)


def heard(ours: Loaded, seconds: float) -> Prompt:
    features = ours.processor.features(noise(seconds))
    return ours.processor.prompt(features, language="english", prompt_type="concise")


def test_a_family_obeys_the_laws(miniature: Miniature) -> None:
    check_family(miniature.model_type, miniature.edge)


@pytest.mark.parametrize("seconds", [0.1, 4.103])
def test_it_hears_what_the_familys_own_class_hears(
    miniature: Miniature, ours: Loaded, seconds: float
) -> None:
    """Its forward of everything at once, with the mask that ``generate`` gives it."""
    assert isinstance(ours.model, GeneralLM)
    prompt = heard(ours, seconds)
    ids = torch.tensor([[*prompt.token_ids, *ANSWER]])
    given = {name: torch.from_numpy(array) for name, array in prompt.arrays.items()}
    given[LOG_MEL] = given[LOG_MEL].float()
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
    changed = replace(prompt, arrays={**prompt.arrays, LOG_MEL: 0 * prompt.arrays[LOG_MEL]})
    assert not torch.allclose(other.prefill(changed), expected[prompt.length - 1], atol=1e-3)


def test_features_are_the_familys_own_extractors(miniature: Miniature, ours: Loaded) -> None:
    waveform = noise(31.05)
    extractor = WhisperFeatureExtractor.from_pretrained(str(miniature.edge))
    made = ours.processor.features(waveform)
    if miniature.model_type == "voxtral":
        whole = extractor(
            waveform,
            sampling_rate=16_000,
            padding=True,
            truncation=False,
            pad_to_multiple_of=480_000,
        )["input_features"][0]
        expected = np.stack([whole[:, :3000], whole[:, 3000:]])
    else:
        expected = extractor(
            waveform, sampling_rate=16_000, padding=True, truncation=False, return_tensors="np"
        )["input_features"]
        assert made["feature_attention_mask"].tolist() == [[1] * 3105]
    np.testing.assert_array_equal(made[LOG_MEL], np.asarray(expected).astype(np.float16))
    counts = {"voxtral": 750, "qwen3_omni_moe": 13 * 31 + 1}
    prompt = heard(ours, 31.05)
    assert prompt.token_ids.count(ours.processor.audio_id or 0) == counts[miniature.model_type]


def test_all_modes_run_and_exact_is_the_clouds_own(
    miniature: Miniature, ours: Loaded, tmp_path: Path
) -> None:
    """Over the wire's third version: a cloud that heard other numbers would write another text."""
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(1.3), 16_000)
    cloud, request = loaded(miniature.cloud), Request(str(path))
    ask = asking(ours, cloud)
    alone = ask("cloud", request)
    both = ask("spec", request, **EXACT)
    edge = ask("edge", request)
    assert both.tokens == alone.tokens != edge.tokens
    assert len(alone.tokens) > 4
    assert asking(cloud, cloud)("spec", request, **EXACT).tokens == alone.tokens
    assert both.prompt_digest == alone.prompt_digest


def test_what_is_sent_is_what_is_foreseen(ours: Loaded) -> None:
    """By the schema that the tests of privacy hold messages against."""
    prompt = heard(ours, 0.4)
    opening = wire.pack_open(prompt)
    sent = wire.pack(0, "open", b"1" * 16, *opening, version=3)
    assert well_formed(wire.pack_frames([sent]), REQUESTS)
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
    mel = prompt.arrays[LOG_MEL]
    model = ours.model.new_sequence()
    for bad, said in (
        (_with(prompt, "pixel_values", mel), "the prompt has input_features,|feature_attention"),
        (_with(_without(prompt, LOG_MEL), "mel", mel), "edge and cloud must be of one family"),
        (_without(prompt, LOG_MEL), "takes|placeholders"),
        (_with(prompt, LOG_MEL, mel[:, :80]), r"input_features is float16 of shape"),
        (_with(prompt, LOG_MEL, mel[0]), r"input_features is float16 of shape"),
        (_with(prompt, LOG_MEL, mel > 0), "input_features is bool"),
        (replace(prompt, token_ids=prompt.token_ids[1:] * 2), "audio placeholders"),
        (Prompt(prompt.token_ids), "audio placeholders, the audio tower gives 0"),
    ):
        with pytest.raises(ModelError, match=said):
            model.prefill(bad)
    mask = prompt.arrays.get("feature_attention_mask")
    if mask is not None:
        for bad, said in (
            (2 * mask, "other values than 0 and 1"),
            (0 * mask, "gives 0 embeddings"),
            (mask[:, 1:], "feature_attention_mask is int32 of shape"),
        ):
            with pytest.raises(ModelError, match=said):
                model.prefill(_with(prompt, "feature_attention_mask", bad))
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
