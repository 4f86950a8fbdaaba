"""What the edge process does with a request, on tiny checkpoints and without a second process."""

from __future__ import annotations

import json
import multiprocessing
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from edgecloud.cloud.local import LocalCloud
from edgecloud.cloud.server import MessageServer
from edgecloud.config import resolve
from edgecloud.errors import AudioError
from edgecloud.hardware.edge_process import (
    Captioned,
    CaptionRequest,
    EdgeSetup,
    Mode,
    Streamed,
    _Edge,
)
from edgecloud.models.audio_lm import AudioLM
from edgecloud.models.loading import load
from edgecloud.models.processor import Processor
from tests.conftest import make_checkpoint


class Heard:
    """Stands in for the harness's end of the control pipe."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    def send(self, message: Any) -> None:
        self.messages.append(message)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory, tone: NDArray[np.float32]) -> str:
    path = tmp_path_factory.mktemp("audio") / "tone.wav"
    soundfile.write(path, tone, 16_000)
    return str(path)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """The edge's end of a pipe to another checkpoint, served by a thread."""
    folder = make_checkpoint(tmp_path_factory.mktemp("cloud"), seed=2)
    loaded = load("cloud", str(folder), device="cpu", dtype="float32")
    server = MessageServer(LocalCloud(loaded.model, loaded.stopping()))
    ours, theirs = multiprocessing.Pipe()

    def serve() -> None:
        while True:
            try:
                message = theirs.recv_bytes()
            except EOFError:
                return
            for answer in server.answer(message):
                theirs.send_bytes(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    yield ours
    ours.close()
    thread.join(10)
    theirs.close()


class EdgeOf:
    """Makes an edge for a mode and settings."""

    def __init__(
        self, folder: Path, processor: Processor, model: AudioLM, cloud: Connection
    ) -> None:
        self._folder = folder
        self._processor = processor
        self._model = model
        self._cloud = cloud

    def __call__(self, mode: Mode, **settings: Any) -> _Edge:
        flags = {"clock": "modelled", "max_new_tokens": 24, "language": "english", **settings}
        setup = EdgeSetup(mode=mode, config=resolve(flags), model="tiny", path=str(self._folder))
        return _Edge(
            setup,
            self._processor,
            None if mode == "cloud" else self._model.fresh(),
            None if mode == "edge" else self._cloud,
        )


@pytest.fixture
def edge_of(
    tiny_checkpoint: Path, tiny_processor: Processor, tiny_model: AudioLM, cloud: Connection
) -> EdgeOf:
    return EdgeOf(tiny_checkpoint, tiny_processor, tiny_model, cloud)


def caption(edge: _Edge, request: CaptionRequest, heard: Heard | None = None) -> Captioned:
    return edge.caption(request, heard or Heard())  # type: ignore[arg-type]


ALWAYS_EXACT = {"gate_type": "always", "acceptance": "exact"}


@pytest.mark.parametrize("k", [1, 3, 6])
def test_exact_and_always_is_the_cloud_alone_on_the_real_architecture(
    edge_of: EdgeOf, recording: str, k: int
) -> None:
    request = CaptionRequest(recording)
    alone = caption(edge_of("cloud"), request)
    both = caption(edge_of("spec", k=k, **ALWAYS_EXACT), request)
    edge = caption(edge_of("edge"), request)
    assert both.tokens == alone.tokens
    assert (both.text, both.stop) == (alone.text, alone.stop)
    assert edge.tokens != alone.tokens
    assert set(alone.origins) == {"cloud"}
    assert set(edge.origins) == {"edge"}


def test_never_is_the_edge_alone_on_the_real_architecture(edge_of: EdgeOf, recording: str) -> None:
    request = CaptionRequest(recording)
    assert (
        caption(edge_of("spec", gate_type="never"), request).tokens
        == caption(edge_of("edge"), request).tokens
    )


def test_a_request_may_replace_the_gate(edge_of: EdgeOf, recording: str) -> None:
    edge = edge_of("spec", gate_type="never")
    asked = caption(edge, CaptionRequest(recording, gate="always"))
    assert any(row["kind"] == "verify" for row in asked.trace)
    assert not any(
        row["kind"] == "verify" for row in caption(edge, CaptionRequest(recording)).trace
    )


@pytest.mark.parametrize("mode", ["edge", "cloud", "spec"])
def test_a_caption_says_all_a_journal_needs_and_again_the_very_same(
    edge_of: EdgeOf, tiny_processor: Processor, recording: str, mode: Mode
) -> None:
    edge = edge_of(mode, **ALWAYS_EXACT)
    one, again = (caption(edge, CaptionRequest(recording)) for _ in range(2))
    assert one.audio_s == pytest.approx(0.8)
    assert len(one.tokens) == len(one.origins) <= 24
    assert one.text == tiny_processor.text(one.tokens)
    assert one.trace[0]["kind"] == "features"
    assert one.trace[-1] == {**one.trace[-1], "kind": "finish", "stop": one.stop}
    # Bytes and times too: modelled time repeats itself exactly.
    assert json.dumps(one.trace, allow_nan=False) == json.dumps(again.trace, allow_nan=False)


def test_what_is_streamed_adds_up_to_the_text(edge_of: EdgeOf, recording: str) -> None:
    heard = Heard()
    edge = edge_of("spec", **ALWAYS_EXACT)
    done = caption(edge, CaptionRequest(recording, stream=True), heard)
    assert all(isinstance(message, Streamed) for message in heard.messages)
    pieces = [piece for message in heard.messages for piece in message.pieces]
    shown = "".join(text for _, text in pieces)
    assert done.text.rstrip("�").startswith(shown.rstrip("�"))
    assert len(done.text) - len(shown) <= 3
    assert len(heard.messages) == sum(row["kind"] == "commit" for row in done.trace)
    assert caption(edge, CaptionRequest(recording)).tokens == done.tokens


def test_in_wall_time_features_are_computed_inside_the_request(
    edge_of: EdgeOf, recording: str
) -> None:
    done = caption(edge_of("edge", clock="wall"), CaptionRequest(recording))
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
        caption(edge, CaptionRequest(str(bad)))
    assert caption(edge, CaptionRequest(recording)).tokens
