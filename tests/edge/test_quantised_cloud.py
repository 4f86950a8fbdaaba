"""A cloud in int8 on the processor: exact speculation is that cloud alone, token by token, and sessions are their own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import httpx
import pytest

import edgecloud
from edgecloud.cloud.engine.engine import Engine
from edgecloud.cloud.engine.local import LocalCloud, Steps
from edgecloud.contracts import Acceptance, CloudChunk, Language, Prompt, Sample, StopLimits
from edgecloud.datasets.audio import load_audio
from edgecloud.datasets.corpus import load_corpus
from edgecloud.errors import ConfigError
from edgecloud.experiments.checking import check_models
from edgecloud.settings.config import resolve
from tests.models.quantized.runs import OWN

pytestmark = OWN

LANGUAGES: tuple[Language, ...] = ("chinese", "english")
EXACT: dict[str, Any] = {"gate": "always", "acceptance": "exact", "clock": "modelled"}
POLICIES: tuple[dict[str, Any], ...] = (
    {"k": 1},
    {"k": 5},
    {"k": 4, "continuation": 3, "cloud_seed_tokens": 2},
)
WAIT_S = 60


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[edgecloud.Pair]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        with edgecloud.load_pair(edge_quantization="int8", cloud_quantization="int8") as loaded:
            yield loaded


@pytest.fixture(scope="module")
def samples() -> dict[str, tuple[Sample, ...]]:
    return {language: load_corpus(resolve({"language": language}))[0][:2] for language in LANGUAGES}


def test_what_runs_is_said(pair: edgecloud.Pair) -> None:
    assert pair.settings["cloud_quantization"] == "int8"
    facts = pair.cloud.facts
    assert (facts["name"], facts["dtype"], facts["device"]) == ("embedded-cloud", "int8", "cpu")
    assert facts["engine"].startswith("edgecloud ")


@pytest.mark.parametrize("language", LANGUAGES)
def test_exact_speculation_is_that_cloud_alone(
    pair: edgecloud.Pair, samples: dict[str, tuple[Sample, ...]], language: str
) -> None:
    rejected = 0
    for sample in samples[language]:
        path = str(sample.audio_path)
        alone = edgecloud.decode(path, pair, mode="cloud", language=language, clock="modelled")
        for more in POLICIES:
            out = edgecloud.decode(path, pair, mode="spec", language=language, **EXACT, **more)
            assert (out.tokens, out.stop) == (alone.tokens, alone.stop), more
            found = out.metrics.speculative_decoding_metrics
            rejected += found.verified - found.accepted
        itself: dict[str, Any] = {"cloud_draft_tokens": 4, "hardware_profile": "paper-drafted"}
        drafted = edgecloud.decode(
            path, pair, mode="cloud", language=language, clock="modelled", **itself
        )
        assert drafted.tokens == alone.tokens
    assert rejected > 0, "nothing was rolled back"


def test_sessions_side_by_side_are_each_what_they_are_alone(
    pair: edgecloud.Pair, samples: dict[str, tuple[Sample, ...]]
) -> None:
    """Of one recording in both languages and another one; drafts are partly wrong, so that all roll back."""
    cloud = LocalCloud(pair.cloud.model, pair.cloud.stopping())
    prompts = [
        _prompt(pair, sample, language)
        for language in LANGUAGES
        for sample in samples["english"][:2]
    ]

    def steps(prompt: Prompt) -> Iterator[Steps]:
        session = cloud.open(prompt)
        yield session.verifying((), (5, 6, 7), Acceptance("exact"), 2)
        yield session.generating((9, 8), StopLimits(6))
        yield session.verifying((9,), (7, 6, 5, 4, 3, 2, 1), Acceptance("exact"))

    def answers(engine: Engine, prompt: Prompt) -> list[object]:
        found: list[object] = []
        for asked in steps(prompt):
            got: SimpleQueue[Any] = SimpleQueue()
            engine.submit(asked, got.put)
            while True:
                answer = got.get(timeout=WAIT_S)
                chunk = isinstance(answer, CloudChunk)
                found.append(
                    answer.tokens if chunk else (answer.kept, answer.token, answer.continuation)
                )
                if not chunk or answer.last:
                    break
        return found

    engine = Engine(max_batch=4)
    try:
        alone = [answers(engine, prompt) for prompt in prompts]
        with ThreadPoolExecutor(len(prompts)) as threads:
            assert list(threads.map(lambda prompt: answers(engine, prompt), prompts)) == alone
    finally:
        engine.close()
    assert len({str(found) for found in alone}) > 2


def _prompt(pair: edgecloud.Pair, sample: Sample, language: Language) -> Prompt:
    features = pair.processor.features(load_audio(str(sample.audio_path), max_audio_s=30))
    return pair.processor.prompt(features, language=language, prompt_type="default")


def test_a_service_says_its_precision_and_counts_the_memory_of_its_sessions(
    text_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("starlette", reason="the extra serve is not installed")
    from edgecloud.cloud.http.app import ServiceSettings
    from edgecloud.cloud.protocol import wire
    from edgecloud.cloud.run_server import _on_model

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    app = _on_model("m", str(text_folder), "auto", "auto", "int8", ServiceSettings())

    async def asked() -> tuple[dict[str, Any], httpx.Response]:
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://here") as to:
                told = (await to.get("/v1/model")).json()
                opened = wire.pack(0, "open", b"s" * 16, *wire.pack_open(Prompt((1, 2, 3))))
                wanted = wire.pack(1, "generate", b"s" * 16, 0, [2], 4, None)
                body = wire.pack_frames([opened, wanted])
                return told, await to.post("/v1/messages", content=body)

    told, answer = asyncio.run(asyncio.wait_for(asked(), WAIT_S))
    assert (told["dtype"], told["device"]) == ("int8", "cpu")
    assert told["engine"].startswith("edgecloud ")
    assert answer.status_code == 200, answer.text


def test_of_a_service_no_precision_is_asked() -> None:
    config = resolve({"cloud_url": "http://127.0.0.1:1", "cloud_quantization": "int8"})
    with pytest.raises(ConfigError, match="edgecloud serve --quantization int8") as info:
        check_models([("spec", config)])
    assert "\n" not in str(info.value)
