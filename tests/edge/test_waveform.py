"""A family whose features are the recording itself: over a network they leave where ``--upload-audio`` says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from edgecloud.cloud.engine.local import LocalCloud
from edgecloud.cloud.loopback import Loopback
from edgecloud.cloud.pipe_server import MessageServer
from edgecloud.cloud.protocol import wire
from edgecloud.cloud.protocol.remote import RemoteCloud
from edgecloud.edge.messages import Request, Response
from edgecloud.edge.request_handler import RequestHandler
from edgecloud.errors import ConfigError
from edgecloud.experiments.system import _check_audio
from edgecloud.models.loading import Loaded
from edgecloud.settings.config import resolve
from tests.cloud.message_schema import BANDS, REQUESTS, Leak, Secrets, check_body
from tests.models.miniatures import gemma4_unified_checkpoint
from tests.models.test_families import loaded, noise

FAR: dict[str, Any] = {"cloud_url": "http://cloud:8000"}
UPLOAD: dict[str, Any] = {**FAR, "upload_audio": True}


class _Tapped(Loopback):
    """Keeps what passes, as it would travel."""

    def __init__(self, server: MessageServer) -> None:
        super().__init__(server)
        self.sent: list[bytes] = []

    def send(self, message: bytes, *, answered: bool) -> None:
        self.sent.append(message)
        super().send(message, answered=answered)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return loaded(gemma4_unified_checkpoint(tmp_path_factory.mktemp("unified")))


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(0.5), 16_000)
    return path


def asked(
    model: Loaded, request: Request, sent: list[bytes], *, alone: bool = False, **settings: Any
) -> Response:
    """The answer to ``request``, and in ``sent`` what passed to the cloud."""
    line = _Tapped(MessageServer(LocalCloud(model.model, model.stopping())))
    flags = {"clock": "modelled", "max_new_tokens": 4, "language": "english", "gate_type": "always"}
    try:
        return RequestHandler(
            resolve({**flags, **settings}),
            model.processor,
            edge=model.model.new_sequence(),
            cloud=None if alone else RemoteCloud(line, deadline_s=60),
        ).caption(request)
    finally:
        sent += line.sent


def test_nothing_leaves_unless_recordings_may(model: Loaded, recording: Path) -> None:
    sent: list[bytes] = []
    with pytest.raises(ConfigError, match="takes the waveform itself; run with --upload-audio"):
        asked(model, Request(str(recording)), sent, **FAR)
    assert sent == []


def test_an_edge_alone_and_a_cloud_on_the_same_machine_need_no_leave(
    model: Loaded, recording: Path
) -> None:
    sent: list[bytes] = []
    edge = asked(model, Request(str(recording)), sent, alone=True, **FAR)
    assert sent == []
    assert asked(model, Request(str(recording)), sent).tokens == edge.tokens
    assert asked(model, Request(None, prompt="the voice."), sent, **FAR).tokens


def test_with_leave_it_goes_up_and_the_check_of_messages_sees_it(
    model: Loaded, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It finds the samples in the features, which are the family's own, without those being foreseen; no
    FLAC goes beside them."""
    sent: list[bytes] = []
    found = asked(model, Request(str(recording)), sent, **UPLOAD)
    assert found.tokens == asked(model, Request(str(recording)), []).tokens
    (opening,) = [message for message in sent if wire.unpack(message)[1] == "open"]
    waveform = soundfile.read(recording, dtype="float32")[0]
    prompt = wire.unpack_open(wire.unpack(opening)[2][1:])[0]
    samples = prompt.arrays["input_features"].reshape(-1)[: len(waveform)]
    np.testing.assert_array_equal(samples, waveform.astype(np.float16))
    body, secrets = wire.pack_frames([opening]), Secrets(waveform, (), (), lambda _: "")
    with pytest.raises(Leak, match="open: shape is"):
        check_body(body, REQUESTS, secrets)
    monkeypatch.setitem(BANDS, "input_features", {640})
    with pytest.raises(Leak, match="samples in a message"):
        check_body(body, REQUESTS, secrets)


def test_it_is_said_before_any_process_starts(model: Loaded) -> None:
    service = {"shared": model.processor.shared(), "hears": "features"}
    with pytest.raises(
        ConfigError, match="takes the waveform itself, not features of it; run with"
    ):
        _check_audio(resolve(FAR), service)
    _check_audio(resolve(UPLOAD), service)
    with pytest.raises(ConfigError, match="cannot be handed on"):
        _check_audio(resolve(UPLOAD), {**service, "hears": "recordings"})
