"""Requests to pairs of the other families: prompts of text alone, and recordings padded to 30 s."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken
from transformers import Qwen2ForCausalLM

from edgecloud.cloud.engine.local import LocalCloud
from edgecloud.cloud.loopback import Loopback
from edgecloud.cloud.pipe_server import MessageServer
from edgecloud.cloud.protocol.remote import RemoteCloud
from edgecloud.contracts import Language
from edgecloud.datasets.manifest import embedded_manifest, load_manifest
from edgecloud.decoding.gates import TERMS, Calibration
from edgecloud.edge import edge_process
from edgecloud.edge.gate_calibration import to_json
from edgecloud.edge.messages import EdgeSetup, Mode, Request, Response
from edgecloud.edge.request_handler import RequestHandler
from edgecloud.embedded.pair import CLOUD_CHECKPOINT, OTHER_CHECKPOINT
from edgecloud.errors import ConfigError, DataError
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.loading import Loaded, load
from edgecloud.models.processor import Processor
from edgecloud.models.translation import of_pair
from edgecloud.settings.config import resolve
from tests.models.miniatures import (
    asr_checkpoint,
    audio_checkpoint,
    flamingo_checkpoint,
    gemma_checkpoint,
    llama_checkpoint,
    mistral_checkpoint,
    qwen3_checkpoint,
    text_checkpoint,
)
from tests.models.test_translation import sentencepiece

Ask = Callable[..., Response]
EXACT = {"gate_type": "always", "acceptance": "exact"}


def loaded(folder: Path) -> Loaded:
    return load("m", str(folder), device="cpu", dtype="float32")


def asking(edge: Loaded, cloud: Loaded) -> Ask:
    processor, drafter = of_pair(edge.processor, cloud.processor)

    def ask(mode: Mode, request: Request, **settings: Any) -> Response:
        flags = {"clock": "modelled", "max_new_tokens": 24, "language": "english", **settings}
        server = MessageServer(LocalCloud(cloud.model, cloud.stopping()))
        return RequestHandler(
            resolve(flags),
            edge.processor if mode == "edge" else processor,
            edge=None if mode == "cloud" else edge.model.new_sequence(),
            cloud=None if mode == "edge" else RemoteCloud(Loopback(server), deadline_s=60),
            drafter=drafter if mode == "spec" else None,
        ).caption(request)

    return ask


@pytest.fixture(scope="module")
def text_pair(tmp_path_factory: pytest.TempPathFactory, text_folder: Path) -> Ask:
    """Of sizes and paddings of their own."""
    cloud = text_checkpoint(tmp_path_factory.mktemp("cloud"), seed=2, padded_rows=12, layers=4)
    return asking(loaded(text_folder), loaded(cloud))


@pytest.fixture(scope="module")
def audio_pair(tmp_path_factory: pytest.TempPathFactory, audio_folder: Path) -> Ask:
    cloud = audio_checkpoint(tmp_path_factory.mktemp("cloud"), seed=2)
    return asking(loaded(audio_folder), loaded(cloud))


@pytest.mark.parametrize("prompt", ["the voice.", "的 ?"])
def test_speculation_over_text_is_exact(text_pair: Ask, prompt: str) -> None:
    request = Request(None, prompt=prompt)
    alone = text_pair("cloud", request)
    both = text_pair("spec", request, **EXACT)
    edge = text_pair("edge", request)
    assert both.tokens == alone.tokens != edge.tokens
    assert edge.tokens == text_pair("spec", request, gate_type="never").tokens


PENALTIES = {"repetition_penalty": 1.3, "no_repeat_ngram": 2}


def test_with_penalties_the_cloud_writes_what_generate_writes(
    text_pair: Ask, text_folder: Path
) -> None:
    found = text_pair("edge", Request(None, prompt="the voice."), **PENALTIES, max_new_tokens=40)
    processor = Processor(Checkpoint.open(text_folder))
    model: Any = Qwen2ForCausalLM.from_pretrained(text_folder, dtype=torch.float32)
    ids = torch.tensor([processor.text_prompt("the voice.").token_ids])
    written = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=40,
        repetition_penalty=1.3,
        no_repeat_ngram_size=2,
        pad_token_id=0,
    )[0, ids.shape[1] :].tolist()
    assert list(found.tokens) == written[: len(found.tokens)]
    assert len(found.tokens) > 20
    assert found.tokens != text_pair("edge", Request(None, prompt="the voice.")).tokens
    here = loaded(text_folder)
    alone = asking(here, here)(
        "cloud", Request(None, prompt="the voice."), **PENALTIES, max_new_tokens=40
    )
    assert alone.tokens == found.tokens


@pytest.mark.parametrize("mode", ["edge", "cloud", "spec"])
def test_drawn_tokens_are_penalised_on_both_sides(
    text_pair: Ask, text_folder: Path, mode: Mode
) -> None:
    """With n-grams of one token no token comes twice, nor one of the prompt."""
    sampled = {"temperature": 1.0, "top_p": 1.0, "acceptance": "rejection", "gate_type": "always"}
    found = text_pair(mode, Request(None, prompt="the voice."), **sampled, no_repeat_ngram=1)
    asked = Processor(Checkpoint.open(text_folder)).text_prompt("the voice.").token_ids
    assert len(found.tokens) == 24
    assert len({*asked, *found.tokens}) == len(set(asked)) + 24
    free = text_pair(mode, Request(None, prompt="the voice."), **sampled)
    assert len({*asked, *free.tokens}) < len(set(asked)) + len(free.tokens)


@pytest.mark.parametrize(
    "settings",
    [
        {"k": 4},
        {"k": 3, "continuation": 3},
        {"k": 4, "draft_ahead": True, "parallel_prefill": True, "cloud_seed_tokens": 2},
        {"k": 4, "verify_scope": "since-last-call", "gate_type": "entropy", "final_check": True},
    ],
)
def test_with_penalties_exact_is_exact(text_pair: Ask, settings: dict[str, Any]) -> None:
    request = Request(None, prompt="the voice.")
    alone = text_pair("cloud", request, **PENALTIES)
    assert alone.tokens != text_pair("cloud", request).tokens
    assert text_pair("spec", request, **{**EXACT, **PENALTIES, **settings}).tokens == alone.tokens


@pytest.mark.parametrize(
    ("fixture", "checkpoint"),
    [
        ("gemma_folder", gemma_checkpoint),
        ("llama_folder", llama_checkpoint),
        ("mistral_folder", partial(mistral_checkpoint, window=12)),
        ("qwen3_folder", qwen3_checkpoint),
    ],
)
def test_speculation_of_a_text_family_is_exact(
    fixture: str,
    checkpoint: Callable[..., Path],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """With an edge whose drafts are rejected, and with one whose drafts are all kept; beyond windows."""
    edge, cloud = loaded(request.getfixturevalue(fixture)), loaded(checkpoint(tmp_path, seed=2))
    asked = Request(None, prompt="the voice.")
    alone = asking(edge, cloud)("cloud", asked)
    apart = asking(edge, cloud)("spec", asked, **EXACT)
    alike = asking(cloud, cloud)("spec", asked, **EXACT)
    assert apart.tokens == alike.tokens == alone.tokens
    assert len(alone.tokens) > 4
    never = asking(edge, cloud)("spec", asked, gate_type="never")
    assert asking(edge, cloud)("edge", asked).tokens == never.tokens != alone.tokens
    assert sum(row["kind"] == "verify" for row in apart.trace) > sum(
        row["kind"] == "verify" for row in alike.trace
    )


def test_a_prompt_has_no_audio_and_no_features_and_is_otherwise_complete(text_pair: Ask) -> None:
    request = Request(None, prompt="the voice.")
    for mode in ("edge", "cloud", "spec"):
        one, again = (text_pair(mode, request, **EXACT) for _ in range(2))
        assert one.audio_s is None
        assert one.input_tokens > 10
        assert "features" not in {row["kind"] for row in one.trace}
        assert one.trace[-1]["kind"] == "finish"
        assert json.dumps(one.trace) == json.dumps(again.trace)


def test_the_calibration_of_a_prompt_is_that_of_its_own_language(
    text_pair: Ask, tmp_path: Path
) -> None:
    weights = (0.0,) * len(TERMS)
    fitted = {"chinese/default": 50.0, "english/default": -50.0, "any": 0.0}
    models = {name: Calibration(intercept, weights) for name, intercept in fitted.items()}
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(to_json(models)), encoding="utf-8")
    settings = {
        "dataset_type": "text",
        "dataset_path": "prompts.json",
        "gate_type": "calibrated",
        "calibration": str(path),
    }
    for language, asked in (("chinese", True), ("english", False), (None, False)):
        request = Request(None, prompt="the voice.", language=language)  # type: ignore[arg-type]
        answer = text_pair("spec", request, **settings)
        assert any(row["kind"] == "verify" for row in answer.trace) is asked, language


def test_speculation_over_audio_of_qwen2_audio_is_exact(
    audio_pair: Ask, tmp_path: Path, tone: NDArray[np.float32]
) -> None:
    soundfile.write(tmp_path / "a.wav", tone, 16_000)
    request = Request(str(tmp_path / "a.wav"))
    alone = audio_pair("cloud", request)
    assert audio_pair("spec", request, **EXACT).tokens == alone.tokens
    assert alone.audio_s == pytest.approx(0.8)


def renumbered(folder: Path, to: Path) -> Path:
    """The model in ``folder``, its tokens of text numbered from the other end."""
    other = Path(shutil.copytree(folder, to))
    content = json.loads((other / "tokenizer.json").read_text("utf-8"))
    vocabulary = content["model"]["vocab"]
    last = len(vocabulary) - 1
    content["model"]["vocab"] = {token: last - index for token, index in vocabulary.items()}
    (other / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    for shard in other.glob("*.safetensors"):
        tensors = load_file(shard)
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            if name in tensors:
                tensors[name][: last + 1] = tensors[name][: last + 1].flip(0)
        save_file(tensors, shard, {"format": "pt"})
    return other


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory, omni_folder: Path) -> Ask:
    """A Qwen2.5-Omni on the edge, a Qwen2-Audio with a vocabulary and features of its own in the cloud."""
    folder = tmp_path_factory.mktemp("cloud")
    cloud = audio_checkpoint(folder, seed=2, words="她的声音 a happy child, lauter 🙂 talks. !")
    return asking(loaded(omni_folder), loaded(cloud))


@pytest.mark.parametrize(
    "settings",
    [
        {"k": 1},
        {"k": 4},
        {"k": 5, "verify_scope": "since-last-call", "gate_type": "entropy", "final_check": True},
        {"k": 4, "draft_ahead": True, "parallel_prefill": True, "cloud_seed_tokens": 2},
        {"k": 3, "continuation": 2},
        {"k": 4, "temperature": 0.8, "acceptance": "rejection"},
        {"k": 4, **PENALTIES},
    ],
)
def test_speculation_across_families_and_vocabularies_is_exact(
    families: Ask, tmp_path: Path, tone: NDArray[np.float32], settings: dict[str, Any]
) -> None:
    soundfile.write(tmp_path / "a.wav", tone, 16_000)
    request = Request(str(tmp_path / "a.wav"))
    changed = ("temperature", *PENALTIES, *["acceptance"] * ("temperature" in settings))
    alone = families(
        "cloud", request, **{name: settings[name] for name in changed if name in settings}
    )
    both = families("spec", request, **{**EXACT, **settings})
    (prefill,) = [row for row in both.trace if row["kind"] == "prefill" and row["side"] == "edge"]
    assert prefill["input_tokens"] != both.input_tokens == alone.input_tokens
    if "temperature" not in settings:
        assert (both.tokens, both.text, both.stop) == (alone.tokens, alone.text, alone.stop)
    drafted = [token for row in both.trace if row["kind"] == "draft" for token in row["tokens"]]
    assert drafted


@pytest.mark.parametrize("turned", [False, True])
def test_speculation_across_kinds_of_tokenizers_is_exact(
    text_folder: Path, tmp_path: Path, turned: bool
) -> None:
    """Between bytes and SentencePiece, in both directions; characters of several bytes among the drafts."""
    tokenizer = sentencepiece()
    tokenizer.add_special_tokens([AddedToken("<s>", special=True)])
    pair = loaded(text_folder), loaded(mistral_checkpoint(tmp_path, tokenizer=tokenizer, seed=2))
    ask = asking(*pair[::-1]) if turned else asking(*pair)
    request = Request(None, prompt="the voice 的 🙂")
    for settings in ({}, PENALTIES):
        alone = ask("cloud", request, **settings)
        both = ask("spec", request, k=4, **EXACT, **settings)
        assert (both.tokens, both.text, both.stop) == (alone.tokens, alone.text, alone.stop)
        assert len(alone.tokens) > 4
        assert any(row["tokens"] for row in both.trace if row["kind"] == "draft")


@pytest.fixture(scope="module")
def embedded_families() -> Ask:
    return asking(loaded(OTHER_CHECKPOINT), loaded(CLOUD_CHECKPOINT))


@pytest.mark.parametrize("language", ["chinese", "english"])
def test_the_embedded_edge_of_another_family_gives_the_clouds_own_tokens(
    embedded_families: Ask, language: Language
) -> None:
    """One recording, at full length; ``tox -e families`` takes all of tests/system/test_pair.py."""
    sample = load_manifest(embedded_manifest(language), language=language, caption_type="original")[
        0
    ]
    settings = {"language": language, "max_new_tokens": 64}
    request = Request(str(sample.audio_path))
    alone = embedded_families("cloud", request, **settings)
    both = embedded_families("spec", request, **EXACT, **settings)
    assert (both.tokens, both.text, both.stop) == (alone.tokens, alone.text, alone.stop)
    assert alone.tokens != embedded_families("edge", request, **settings).tokens
    kept = sum(row["kept"] for row in both.trace if row["kind"] == "verify")
    assert kept > len(both.tokens) / 5


def test_an_edge_of_the_clouds_words_has_its_drafts_kept_in_another_vocabulary(
    tmp_path: Path, text_folder: Path
) -> None:
    """The same network under a vocabulary whose numbers are turned round drafts what the cloud would."""
    cloud = loaded(text_folder)
    edge = loaded(renumbered(text_folder, tmp_path / "edge"))
    ask = asking(edge, cloud)
    request = Request(None, prompt="the voice.")
    both = ask("spec", request, k=4, **EXACT)
    assert both.tokens == ask("cloud", request).tokens != ask("edge", request).tokens
    verified = [row for row in both.trace if row["kind"] == "verify"]
    assert sum(row["kept"] for row in verified) > 12
    spelled = cloud.processor.vocabulary().spellings
    # Special tokens, which these weights like as well as any, are the cloud's alone; up to the first of them
    # every draft is what the cloud writes.
    first = next(row for row in verified if row["kept"] < row["drafted"])
    assert spelled[first["token"]] is None


@pytest.mark.parametrize(
    ("fixture", "checkpoint"),
    [("flamingo_folder", flamingo_checkpoint), ("asr_folder", asr_checkpoint)],
)
def test_speculation_of_an_audio_family_is_exact(
    fixture: str,
    checkpoint: Callable[..., Path],
    tmp_path: Path,
    tone: NDArray[np.float32],
    request: pytest.FixtureRequest,
) -> None:
    soundfile.write(tmp_path / "a.wav", tone, 16_000)
    asked = Request(str(tmp_path / "a.wav"))
    cloud = loaded(checkpoint(tmp_path / "cloud", seed=2))
    ask = asking(loaded(request.getfixturevalue(fixture)), cloud)
    alone = ask("cloud", asked)
    assert ask("spec", asked, **EXACT).tokens == alone.tokens
    assert len(alone.tokens) > 4


def test_a_request_for_nothing_is_refused(text_pair: Ask) -> None:
    with pytest.raises(DataError, match="a recording or a prompt"):
        text_pair("edge", Request(None))


def test_a_model_of_text_is_refused_recordings_before_anything_runs(text_folder: Path) -> None:
    config = resolve({"max_cpu_cores": 0, "max_memory_gb": 0})
    setup = EdgeSetup(mode="edge", config=config, model="m", path=str(text_folder))
    ours, _theirs = Pipe()
    with pytest.raises(ConfigError, match="takes text alone; give --dataset-type text"):
        edge_process.main(ours, None, setup)
