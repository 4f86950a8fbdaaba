"""From a recording to a caption, on tiny checkpoints and in one process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from edgecloud.cloud.engine.local import LocalCloud
from edgecloud.cloud.loopback import Loopback
from edgecloud.cloud.pipe_server import MessageServer
from edgecloud.cloud.protocol.remote import RemoteCloud
from edgecloud.contracts import CloudModel
from edgecloud.edge.messages import Mode, Request, Streamed
from edgecloud.edge.request_handler import RequestHandler
from edgecloud.errors import AudioError
from edgecloud.models.audio_lm import AudioLM
from edgecloud.models.loading import load
from edgecloud.models.processor import Processor
from edgecloud.settings.config import resolve
from tests.conftest import make_checkpoint


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory, tone: NDArray[np.float32]) -> str:
    path = tmp_path_factory.mktemp("audio") / "tone.wav"
    soundfile.write(path, tone, 16_000)
    return str(path)


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("audio") / "noise.wav"
    samples = np.random.default_rng(3).uniform(-0.1, 0.1, 9_600).astype(np.float32)
    soundfile.write(path, samples, 16_000)
    return str(path)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> CloudModel:
    """Another checkpoint, behind the protocol."""
    folder = make_checkpoint(tmp_path_factory.mktemp("cloud"), seed=2)
    loaded = load("cloud", str(folder), device="cpu", dtype="float32")
    server = MessageServer(LocalCloud(loaded.model, loaded.stopping()))
    return RemoteCloud(Loopback(server), deadline_s=60)


class EdgeOf:
    """Makes an edge for a mode and settings."""

    def __init__(self, processor: Processor, model: AudioLM, cloud: CloudModel) -> None:
        self._processor = processor
        self._model = model
        self._cloud = cloud

    def __call__(self, mode: Mode, **settings: Any) -> RequestHandler:
        flags = {"clock": "modelled", "max_new_tokens": 24, "language": "english", **settings}
        return RequestHandler(
            resolve(flags),
            self._processor,
            edge=None if mode == "cloud" else self._model.new_sequence(),
            cloud=None if mode == "edge" else self._cloud,
        )


@pytest.fixture
def edge_of(tiny_processor: Processor, tiny_model: AudioLM, cloud: CloudModel) -> EdgeOf:
    return EdgeOf(tiny_processor, tiny_model, cloud)


ALWAYS_EXACT = {"gate_type": "always", "acceptance": "exact"}


@pytest.mark.parametrize("k", [1, 3, 6])
def test_exact_and_always_is_the_cloud_alone_on_the_real_architecture(
    edge_of: EdgeOf, recording: str, k: int
) -> None:
    request = Request(recording)
    alone = edge_of("cloud").caption(request)
    both = edge_of("spec", k=k, **ALWAYS_EXACT).caption(request)
    edge = edge_of("edge").caption(request)
    assert both.tokens == alone.tokens
    assert (both.text, both.stop) == (alone.text, alone.stop)
    assert edge.tokens != alone.tokens
    assert set(alone.origins) == {"cloud"}
    assert set(edge.origins) == {"edge"}


def test_never_is_the_edge_alone_on_the_real_architecture(edge_of: EdgeOf, recording: str) -> None:
    request = Request(recording)
    assert (
        edge_of("spec", gate_type="never").caption(request).tokens
        == edge_of("edge").caption(request).tokens
    )


def test_a_request_may_replace_the_gate(edge_of: EdgeOf, recording: str) -> None:
    edge = edge_of("spec", gate_type="never")
    asked = edge.caption(Request(recording, gate="always"))
    assert any(row["kind"] == "verify" for row in asked.trace)
    assert not any(row["kind"] == "verify" for row in edge.caption(Request(recording)).trace)


@pytest.mark.parametrize("mode", ["edge", "cloud", "spec"])
def test_a_caption_says_all_a_journal_needs_and_again_the_very_same(
    edge_of: EdgeOf, tiny_processor: Processor, recording: str, mode: Mode
) -> None:
    edge = edge_of(mode, **ALWAYS_EXACT)
    one, again = (edge.caption(Request(recording)) for _ in range(2))
    assert one.audio_s == pytest.approx(0.8)
    assert len(one.tokens) == len(one.origins) <= 24
    assert one.text == tiny_processor.text(one.tokens)
    assert one.trace[0]["kind"] == "features"
    assert one.trace[-1] == {**one.trace[-1], "kind": "finish", "stop": one.stop}
    # Bytes and times too: modelled time repeats itself exactly.
    assert json.dumps(one.trace, allow_nan=False) == json.dumps(again.trace, allow_nan=False)


WARM = {"acceptance": "rejection", "temperature": 0.9, "top_p": 0.95}


@pytest.mark.parametrize("mode", ["edge", "cloud", "spec"])
def test_at_a_temperature_a_recording_has_its_own_caption_whatever_came_before(
    edge_of: EdgeOf, recording: str, noise: str, mode: Mode
) -> None:
    ask, gate = Request, {"gate_type": "always"}
    edge, other = edge_of(mode, **WARM, **gate), edge_of(mode, **WARM, **gate)
    found = [edge.caption(ask(path)).trace for path in (recording, noise, recording)]
    assert found[0] == found[2]
    assert found[:2] == [other.caption(ask(path)).trace for path in (noise, recording)][::-1]
    reseeded = edge_of(mode, **WARM, **gate, seed=1).caption(ask(recording))
    assert reseeded.tokens != edge.caption(ask(recording)).tokens


def test_at_a_temperature_too_never_is_the_edge_alone(edge_of: EdgeOf, recording: str) -> None:
    request = Request(recording)
    speculated = edge_of("spec", **WARM, gate_type="never").caption(request)
    assert speculated.tokens == edge_of("edge", **WARM).caption(request).tokens
    assert speculated.tokens != edge_of("edge").caption(request).tokens


def test_at_a_temperature_tokens_the_cloud_writes_first_are_those_it_writes_alone(
    edge_of: EdgeOf, recording: str
) -> None:
    request = Request(recording)
    seeded = edge_of("spec", **WARM, gate_type="never", cloud_seed_tokens=8).caption(request)
    assert seeded.tokens[:8] == edge_of("cloud", **WARM).caption(request).tokens[:8]


def test_what_is_streamed_adds_up_to_the_text(edge_of: EdgeOf, recording: str) -> None:
    heard: list[Streamed] = []
    edge = edge_of("spec", **ALWAYS_EXACT)
    done = edge.caption(Request(recording), heard.append)
    pieces = [piece for message in heard for piece in message.pieces]
    shown = "".join(text for _, text in pieces)
    assert done.text.rstrip("�").startswith(shown.rstrip("�"))
    assert len(done.text) - len(shown) <= 3
    assert len(heard) == sum(row["kind"] == "commit" for row in done.trace)
    assert edge.caption(Request(recording)).tokens == done.tokens


def test_in_wall_time_features_are_computed_inside_the_request(
    edge_of: EdgeOf, recording: str
) -> None:
    done = edge_of("edge", clock="wall").caption(Request(recording))
    features = done.trace[0]
    assert features["kind"] == "features"
    assert 0 == features["start_s"] < features["end_s"] <= done.trace[1]["start_s"]


def test_a_recording_that_cannot_be_read_is_an_error_and_the_edge_goes_on(
    edge_of: EdgeOf, recording: str, tmp_path: Path
) -> None:
    edge = edge_of("edge")
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"not audio")
    with pytest.raises(AudioError, match=r"bad\.wav"):
        edge.caption(Request(str(bad)))
    assert edge.caption(Request(recording)).tokens
