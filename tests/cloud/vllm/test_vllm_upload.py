"""Recordings leave the edge where both sides say so, and nowhere else."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from edgecloud.cloud.engine.local import LocalCloud
from edgecloud.cloud.pipe_server import MessageServer
from edgecloud.cloud.protocol import wire
from edgecloud.cloud.protocol.remote import RemoteCloud
from edgecloud.contracts import Prompt
from edgecloud.datasets.audio import as_flac, load_audio
from edgecloud.datasets.manifest import embedded_manifest, load_manifest
from edgecloud.edge.messages import Request, Response
from edgecloud.edge.request_handler import RequestHandler
from edgecloud.embedded.pair import CLOUD_CHECKPOINT, EDGE_CHECKPOINT
from edgecloud.errors import ConfigError, ModelError
from edgecloud.experiments.system import System
from edgecloud.models.loading import Loaded, load
from edgecloud.settings.config import Config, resolve
from tests.cloud.memory_channel import MemoryChannel
from tests.cloud.message_schema import REQUESTS, well_formed

pytest.importorskip("starlette", reason="the extra serve is not installed")
from edgecloud.cloud.http.app import ServiceSettings
from edgecloud.cloud.http.client import HttpChannel
from edgecloud.cloud.run_server import on_vllm
from edgecloud.cloud.vllm.replicas import VllmSettings
from tests.cloud.running import listening
from tests.cloud.vllm.fake_vllm import FakeVllm

SAMPLES = load_manifest(embedded_manifest("english"), language="english", caption_type="original")[
    :2
]
PCM_16_STEP = 1 / 32768


@dataclass(frozen=True)
class Pair:
    edge: Loaded
    cloud: Loaded

    def config(self, **flags: Any) -> Config:
        how = {"gate_type": "always", "acceptance": "exact", "language": "english"}
        return resolve({**how, **flags})

    def accepts_audio(self, ids: list[int], waveform: NDArray[np.float32]) -> Prompt:
        """What vLLM makes of a placeholder and a recording: features, and as many placeholders."""
        processor = self.cloud.processor
        features = processor.features(waveform)
        whole = processor.prompt(features, language="english", prompt_type="default")
        place = ids.index(processor.audio_id)
        audio = [processor.audio_id] * whole.token_ids.count(processor.audio_id)
        return replace(whole, token_ids=(*ids[:place], *audio, *ids[place + 1 :]))

    def caption(self, config: Config, cloud: RemoteCloud, number: int = 0) -> Response:
        request_handler = RequestHandler(
            config, self.edge.processor, edge=self.edge.model, cloud=cloud
        )
        return request_handler.caption(Request(str(SAMPLES[number].audio_path)))


@pytest.fixture(scope="module")
def pair() -> Pair:
    return Pair(
        load("edge", str(EDGE_CHECKPOINT), device="cpu", dtype="auto"),
        load("cloud", str(CLOUD_CHECKPOINT), device="cpu", dtype="auto"),
    )


@contextmanager
def gateway(server: FakeVllm, *, recordings: bool) -> Iterator[str]:
    """The address of a gateway in front of ``server``, as ``edgecloud serve`` makes it."""
    with server.running() as url:
        settings = VllmSettings((url,), recordings=recordings)
        app = on_vllm("cloud", str(CLOUD_CHECKPOINT), settings, ServiceSettings())
        with listening(app) as here:
            yield here


def test_with_both_flags_captions_are_those_of_the_verifier_that_is_sent_features(
    pair: Pair,
) -> None:
    server = FakeVllm(
        pair.cloud.model, audio_id=pair.cloud.processor.audio_id, hear=pair.accepts_audio
    )
    local = RemoteCloud(
        MemoryChannel(MessageServer(LocalCloud(pair.cloud.model, pair.cloud.stopping()))),
        deadline_s=60,
    )
    with (
        gateway(server, recordings=True) as url,
        closing(HttpChannel(url)) as channel,
    ):
        cloud = RemoteCloud(channel, deadline_s=60)
        for number in range(len(SAMPLES)):
            found = pair.caption(pair.config(upload_audio=True), cloud, number)
            expected = pair.caption(pair.config(), local, number)
            assert found.text == expected.text
            assert found.origins == expected.origins
    lengths = sorted(len(samples) for samples in server.recordings.values())
    assert lengths == sorted(len(load_audio(s.audio_path, max_audio_s=30)) for s in SAMPLES)


def test_without_the_edges_flag_no_message_holds_a_recording(pair: Pair) -> None:
    channel = MemoryChannel(MessageServer(LocalCloud(pair.cloud.model, pair.cloud.stopping())))
    pair.caption(pair.config(), RemoteCloud(channel, deadline_s=60))
    assert channel.sent
    for message in channel.sent:
        assert well_formed(wire.pack_frames([message]), REQUESTS)
        assert b"fLaC" not in message


def test_a_cloud_that_works_on_features_refuses_a_recording(pair: Pair) -> None:
    channel = MemoryChannel(MessageServer(LocalCloud(pair.cloud.model, pair.cloud.stopping())))
    cloud = RemoteCloud(channel, deadline_s=60)
    recording = as_flac(np.zeros(1600, dtype=np.float32))
    with pytest.raises(ModelError, match="takes no recordings"):
        cloud.open(Prompt((5,), recording=recording)).start(1).result()


@pytest.mark.parametrize(
    ("taken", "flag", "reason"),
    [
        (False, False, "takes none; start it with --upload-audio"),
        (False, True, "takes none; start it with --upload-audio"),
        (True, False, "run with --upload-audio if they may leave this machine"),
    ],
)
def test_a_run_is_refused_before_its_first_sample_unless_both_sides_agree(
    pair: Pair, taken: bool, flag: bool, reason: str
) -> None:
    server = FakeVllm(pair.cloud.model)
    with gateway(server, recordings=taken) as url:
        config = pair.config(cloud_url=url, upload_audio=flag)
        with pytest.raises(ConfigError, match=reason), System("spec", config):
            pytest.fail("it began")
    assert server.asked == []


def test_a_run_against_a_cloud_that_needs_no_recordings_is_refused_with_the_flag(
    pair: Pair,
) -> None:
    with (
        pytest.raises(ConfigError, match="no recording has to leave"),
        System("spec", pair.config(upload_audio=True)),
    ):
        pytest.fail("it began")


def test_flac_holds_a_recording_to_16_bits_and_what_is_too_loud_is_cut() -> None:
    waveform = np.array([0.0, 0.5, -0.25, 1.5, -1.5], dtype=np.float32)
    samples, rate = soundfile.read(io.BytesIO(as_flac(waveform)))
    assert rate == 16_000
    assert samples == pytest.approx([0.0, 0.5, -0.25, 1.0, -1.0], abs=PCM_16_STEP)
