"""What leaves the edge: every message of the whole embedded corpus, held against a closed schema.

And that the check would see it: samples, names, words and fields too many, put in on purpose.

Every recording is captioned, in Chinese and in English in turn; with EDGECLOUD_PRIVACY=full
(``tox -e privacy``) in both.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from transformers import WhisperFeatureExtractor

from edgecloud.cloud.engine.local import LocalCloud
from edgecloud.cloud.http.client import HttpChannel
from edgecloud.cloud.protocol import remote, wire
from edgecloud.cloud.protocol.remote import RemoteCloud
from edgecloud.contracts import LOG_MEL, Prompt, Sample
from edgecloud.datasets.audio import load_audio
from edgecloud.datasets.manifest import embedded_manifest, load_manifest
from edgecloud.edge.messages import Request
from edgecloud.edge.request_handler import RequestHandler
from edgecloud.embedded.pair import CLOUD_CHECKPOINT, EDGE_CHECKPOINT
from edgecloud.errors import ModelError
from edgecloud.models.loading import Loaded, load
from edgecloud.settings.config import Config, resolve
from tests.cloud.message_schema import (
    ANSWERS,
    RECORDING_REQUESTS,
    REQUESTS,
    Leak,
    Secrets,
    check_body,
    check_head,
)
from tests.system.gateway import Exchange, Gateway

pytest.importorskip("uvicorn", reason="the extra serve is not installed")
from tests.cloud.running import running

STEP = 1 if os.environ.get("EDGECLOUD_PRIVACY") == "full" else 2
LANGUAGES = ("chinese", "english")
SETTINGS: dict[str, dict[str, Any]] = {
    "chinese": {},
    # Everything that sends something of its own.
    "english": {
        "verify_scope": "since-last-call",
        "final_check": True,
        "acceptance": "bounded",
        "continuation": 2,
        "cloud_seed_tokens": 2,
        "draft_ahead": True,
    },
}


@dataclass
class Passed:
    """One request and its answer, as they passed between the two machines."""

    head: tuple[str, str, dict[str, str]]
    request: bytes
    status: int
    answer: bytes


@dataclass
class VerifierClient:
    """An edge, a cloud behind HTTP, and what passes between them."""

    edge: Loaded
    url: str
    passed: list[Passed] = field(default_factory=list)

    def taken(self) -> list[Passed]:
        """What has passed since this was asked last."""
        found, self.passed = self.passed, []
        return found

    def caption(self, sample: Sample, config: Config) -> list[Passed]:
        """What passes for one caption, from the first connection to the last."""
        with self.request_handler(config) as request_handler:
            request_handler.caption(request(sample, config))
        return self.taken()

    @contextmanager
    def request_handler(self, config: Config, *, alone: bool = False) -> Iterator[RequestHandler]:
        """An edge on a connection of its own; ``alone``: the cloud without an edge model."""
        with closing(HttpChannel(self.url)) as channel:
            yield RequestHandler(
                config,
                self.edge.processor,
                edge=None if alone else self.edge.model,
                cloud=RemoteCloud(channel, deadline_s=60),
            )


@pytest.fixture(scope="module")
def line() -> Iterator[VerifierClient]:
    edge = load("edge", str(EDGE_CHECKPOINT), device="cpu", dtype="auto")
    cloud = load("cloud", str(CLOUD_CHECKPOINT), device="cpu", dtype="auto")
    found = VerifierClient(edge, "")

    def relay(exchange: Exchange) -> None:
        answer = exchange.ask()
        found.passed.append(
            Passed(exchange.head, exchange.body, answer.status_code, answer.content)
        )
        exchange.answer(answer.status_code, answer.content)

    with (
        running(LocalCloud(cloud.model, cloud.stopping())) as service,
        Gateway(service, relay) as gateway,
    ):
        found.url = gateway.url
        yield found


def config(language: str, **settings: Any) -> Config:
    return resolve({"language": language, **SETTINGS[language], **settings})


def request(sample: Sample, settings: Config) -> Request:
    words = sample.transcription if settings.data.input_modality == "audio_text" else None
    return Request(str(sample.audio_path), words)


@cache
def corpus(language: str) -> tuple[Sample, ...]:
    return load_manifest(
        embedded_manifest(language),
        language=config(language).data.language,
        caption_type="original",
    )


def secrets_of(sample: Sample, line: VerifierClient) -> Secrets:
    waveform = load_audio(sample.audio_path, max_audio_s=60)
    assert sample.transcription
    names = (sample.file_id, sample.audio_path.name)
    return Secrets(waveform, names, (sample.transcription,), line.edge.processor.text)


def check(passed: list[Passed], secrets: Secrets) -> list[str]:
    """Every message of one caption; returns their kinds. Raises Leak."""
    kinds = []
    for one in passed:
        check_head(*one.head, secrets)
        kinds += check_body(one.request, REQUESTS, secrets)
        if one.status == 200:
            kinds += check_body(one.answer, ANSWERS, secrets)
    return kinds


def sent_prompt(passed: list[Passed]) -> tuple[list[int], NDArray[np.float16]]:
    """The ids and features of the one ``open`` in what passed."""
    messages, _ = wire.unpack_frames(passed[0].request)
    opened = [wire.unpack(message) for message in messages]
    ((_, *values),) = [values for _, op, values in opened if op == "open"]
    prompt, _ = wire.unpack_open(values)
    assert prompt.features is not None
    return list(prompt.token_ids), prompt.features


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_message_of_the_whole_corpus_holds_samples_names_or_words(
    line: VerifierClient, language: str
) -> None:
    settings = config(language)
    extractor = WhisperFeatureExtractor.from_pretrained(str(EDGE_CHECKPOINT))
    kinds: set[str] = set()
    templates: set[tuple[int, ...]] = set()
    with line.request_handler(settings) as request_handler:
        for sample in corpus(language)[LANGUAGES.index(language) % STEP :: STEP]:
            secrets = secrets_of(sample, line)
            request_handler.caption(request(sample, settings))
            passed = line.taken()
            kinds |= set(check(passed, secrets))
            if not passed:
                continue  # the edge was sure of all of it
            # By value: what went up is the log-mel and the same question for all, and nothing else.
            ids, features = sent_prompt(passed)
            log_mel = extractor(
                secrets.waveform,
                sampling_rate=16_000,
                padding="do_not_pad",
                truncation=False,
                return_tensors="np",
            )["input_features"][0]
            assert features.tobytes() == log_mel.astype(np.float16).tobytes()
            audio = max(set(ids), key=ids.count)
            templates.add(tuple(token for token in ids if token != audio))
    kinds |= set(check(line.taken(), secrets))
    assert len(templates) == 1
    assert {"open", "verify", "verdict"} <= kinds
    assert ("chunk" in kinds) == (settings.cloud.seed_tokens > 0)


def test_a_caption_by_the_cloud_alone_holds_none_either(line: VerifierClient) -> None:
    sample = corpus("english")[0]
    with line.request_handler(config("english"), alone=True) as request_handler:
        request_handler.caption(request(sample, config("english")))
    kinds = check(line.taken(), secrets_of(sample, line))
    assert set(kinds) == {"open", "generate", "chunk", "close"}


Values = list[Any]
Plant = Callable[[str, Values, Sample, Secrets], Values]


def samples_for_features(op: str, values: Values, sample: Sample, secrets: Secrets) -> Values:
    """In the features' own shape, so that nothing but their values gives them away."""
    if op != "open":
        return values
    shape = values[2]
    count = shape[0] * shape[1]
    wave = np.resize(secrets.waveform, count).astype("<f2").reshape(shape)
    return [values[0], *wire.pack_prompt(Prompt((1,), {LOG_MEL: wave})), values[4]]


def samples_for_ids(op: str, values: Values, sample: Sample, secrets: Secrets) -> Values:
    if op != "open":
        return values
    pulses = (secrets.waveform[: len(secrets.waveform) // 2 * 2] * 32767).round().astype("<i2")
    return [values[0], pulses.tobytes(), *values[2:]]


def samples_behind_features(op: str, values: Values, sample: Sample, secrets: Secrets) -> Values:
    if op != "open":
        return values
    return [*values[:3], values[3] + secrets.waveform.tobytes(), values[4]]


def samples_as_draft(op: str, values: Values, sample: Sample, secrets: Secrets) -> Values:
    return values if op != "verify" else [*values[:3], secrets.waveform[:99].tolist(), *values[4:]]


def name_for_session(op: str, values: Values, sample: Sample, secrets: Secrets) -> Values:
    return [sample.audio_path.name.encode().ljust(16)[:16], *values[1:]]


def name_as_rule(op: str, values: Values, sample: Sample, secrets: Secrets) -> Values:
    if op != "verify":
        return values
    return [*values[:4], [sample.file_id, *values[4][1:]], *values[5:]]


def words_in_a_field(op: str, values: Values, sample: Sample, secrets: Secrets) -> Values:
    return [*values, sample.transcription]


def one_field_more(op: str, values: Values, sample: Sample, secrets: Secrets) -> Values:
    return [*values, 0]


@pytest.mark.parametrize(
    "plant, said",
    [
        (samples_for_features, "samples in a message"),
        (samples_for_ids, "samples in a message"),
        (samples_behind_features, "bytes behind the features"),
        (samples_as_draft, "verify: draft is"),
        (name_for_session, "a name in a message"),
        (name_as_rule, "verify: acceptance is"),
        (words_in_a_field, "open: 5 values, 4 foreseen"),
        (one_field_more, "open: 5 values, 4 foreseen"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_planted_leak_is_found(
    line: VerifierClient, monkeypatch: pytest.MonkeyPatch, plant: Plant, said: str
) -> None:
    sample = corpus("english")[1]
    secrets = secrets_of(sample, line)
    pack = wire.pack

    def leaking(seq: int, op: str, *values: Any, **version: int) -> bytes:
        if op in REQUESTS:
            return pack(seq, op, *plant(op, list(values), sample, secrets), **version)
        return pack(seq, op, *values, **version)

    settings = config("english", gate_type="always", cloud_seed_tokens=0)
    check(line.caption(sample, settings), secrets)
    monkeypatch.setattr(remote.wire, "pack", leaking)
    with suppress(ModelError), line.request_handler(settings) as request_handler:
        request_handler.caption(request(sample, settings))  # whatever the cloud makes of it
    with pytest.raises(Leak, match=said):
        check(line.taken(), secrets)


def test_a_header_too_many_is_found(line: VerifierClient, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = corpus("english")[1]
    headers = {"X-Recording": sample.audio_path.name}
    monkeypatch.setattr("edgecloud.cloud.http.client._headers", lambda _: headers)
    passed = line.caption(sample, config("english"))
    with pytest.raises(Leak, match="header X-Recording"):
        check(passed, secrets_of(sample, line))


def test_a_recording_goes_up_only_where_that_was_asked_for_and_the_check_sees_it(
    line: VerifierClient,
) -> None:
    sample = corpus("english")[1]
    secrets = secrets_of(sample, line)
    settings = config("english", gate_type="always", upload_audio=True)
    with pytest.raises(ModelError, match="takes no recordings"):
        line.caption(sample, settings)
    passed = line.taken()
    with pytest.raises(Leak, match="open: 5 values, 4 foreseen"):
        check(passed, secrets)
    kinds = [
        kind for one in passed for kind in check_body(one.request, RECORDING_REQUESTS, secrets)
    ]
    assert kinds[0] == "open"
    ((*_, recording),) = [
        values
        for message in wire.unpack_frames(passed[0].request)[0]
        for _, op, values in [wire.unpack(message)]
        if op == "open"
    ]
    samples, rate = soundfile.read(io.BytesIO(recording), dtype="float32")
    assert rate == 16_000
    assert np.abs(samples - secrets.waveform).max() < 1e-4


@pytest.mark.parametrize("language", LANGUAGES)
def test_audio_text_sends_the_words_and_the_check_sees_them(
    line: VerifierClient, language: str
) -> None:
    sample = corpus(language)[0]
    settings = config(language, input_modality="audio_text", gate_type="always")
    passed = line.caption(sample, settings)
    with pytest.raises(Leak, match="spelled in tokens"):
        check(passed, secrets_of(sample, line))
