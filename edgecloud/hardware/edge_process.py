"""The edge as a process of its own, so that caps and readings are its alone.

It decodes recordings, computes features, drafts, and talks to the cloud; the waveform never leaves
it. The harness sends it a :class:`CaptionRequest` and gets a :class:`Captioned` back.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Literal

from edgecloud.config import Config
from edgecloud.contracts import Clock, CloudModel, Commit, Model, Origin, Prompt, StopReason
from edgecloud.errors import CloudError, DataError, EdgeCloudError, ModelError, OutOfMemoryError
from edgecloud.hardware.limits import apply_in_child, apply_torch_threads

if TYPE_CHECKING:
    from edgecloud.decoding.recorder import Recorder
    from edgecloud.decoding.stopping import Stopping
    from edgecloud.models.loading import Loaded
    from edgecloud.models.processor import Processor

__all__ = ["CaptionRequest", "Captioned", "EdgeSetup", "Failed", "Mode", "Streamed", "main"]

Mode = Literal["edge", "cloud", "spec"]


@dataclass(frozen=True, slots=True)
class EdgeSetup:
    """What an edge process is started with. ``model`` and ``path`` name the checkpoint whose tokenizer
    and features it uses; its weights are loaded unless ``mode`` is ``cloud``. ``cache_dir`` holds
    features of earlier requests, for modelled time only. ``first_core`` is the place, among the cores
    this process may use, of the first that its cap leaves it."""

    mode: Mode
    config: Config
    model: str
    path: str
    cache_dir: str | None = None
    first_core: int = 0


@dataclass(frozen=True, slots=True)
class CaptionRequest:
    """One recording to caption. ``gate`` replaces the configured one (warm-up asks the cloud always);
    with ``stream`` every commit is sent as it comes."""

    audio_path: str
    transcription: str | None = None
    gate: str | None = None
    stream: bool = False


@dataclass(frozen=True, slots=True)
class Streamed:
    """New tokens of a caption, as text by origin."""

    pieces: tuple[tuple[Origin, str], ...]


@dataclass(frozen=True, slots=True)
class Captioned:
    """A finished caption: everything a journal record holds of it."""

    audio_s: float
    input_tokens: int
    tokens: tuple[int, ...]
    origins: tuple[Origin, ...]
    text: str
    stop: StopReason
    trace: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Failed:
    """A request that failed for a reason of its own; the process goes on."""

    kind: str
    message: str


def main(control: Connection, cloud: Connection | None, setup: EdgeSetup) -> None:
    """Cap this process, load, say ``("ready", facts)`` on ``control``, then serve requests.

    ``cloud`` leads to the cloud's process; ``None``: it is asked over HTTP, or not at all.

    Raises:
        EdgeCloudError: the model cannot be loaded.
    """
    config = setup.config
    limits = apply_in_child(config.max_cpu_cores, config.max_memory_gb, first_core=setup.first_core)
    # Only now may torch be imported: its thread pools are sized at import.
    from edgecloud.models.checkpoint import Checkpoint
    from edgecloud.models.loading import load
    from edgecloud.models.processor import Processor

    limits["torch_threads"] = apply_torch_threads(config.max_cpu_cores)
    began = time.perf_counter()
    loaded: Loaded | None = None
    if setup.mode == "cloud":
        processor = Processor(Checkpoint.open(setup.path))
        facts: dict[str, Any] | None = None
    else:
        loaded = load(setup.model, setup.path, device=config.edge_device, dtype=config.edge_dtype)
        processor = loaded.processor
        facts = {**loaded.facts, "load_s": time.perf_counter() - began}
    edge = _Edge(setup, processor, loaded.model if loaded else None, cloud)
    control.send(
        ("ready", {"limits": limits, "model": facts, "tokenizer_sha256": processor.fingerprint()})
    )
    with closing(edge):
        while True:
            request: CaptionRequest = control.recv()
            try:
                control.send(edge.caption(request, control))
            except (DataError, CloudError, OutOfMemoryError, ModelError) as error:
                control.send(Failed(type(error).__name__, str(error)))


class _Edge:
    def __init__(
        self,
        setup: EdgeSetup,
        processor: Processor,
        model: Model | None,
        cloud: Connection | None,
    ) -> None:
        from edgecloud.cloud.client import HttpChannel
        from edgecloud.cloud.remote import PipeChannel, RemoteCloud
        from edgecloud.contracts import StopLimits
        from edgecloud.datasets.audio import FeatureCache
        from edgecloud.hardware.clock import ModelledClock, TimedCloud, TimedModel, WallClock
        from edgecloud.hardware.link import link
        from edgecloud.hardware.profiles import profile

        config = setup.config
        self._setup = setup
        self._processor = processor
        self._model = model
        self._cloud: CloudModel | None = None
        self._channel: HttpChannel | PipeChannel | None = None
        if setup.mode != "edge":
            token = os.environ.get("EDGECLOUD_TOKEN")
            self._channel = (
                HttpChannel(config.cloud_url, token=token) if cloud is None else PipeChannel(cloud)
            )
            self._cloud = RemoteCloud(self._channel, deadline_s=config.deadline)
        self._stopping: Stopping = processor.stopping(
            StopLimits(config.max_new_tokens, config.max_sentences)
        )
        self._modelled = ModelledClock() if config.clock == "modelled" else None
        self._cache: FeatureCache | None = None
        if self._modelled is not None:
            hardware = profile(config.hardware_profile)
            if self._model is not None:
                self._model = TimedModel(self._model, self._modelled, hardware.edge)
            if self._cloud is not None:
                self._cloud = TimedCloud(
                    self._cloud,
                    self._modelled,
                    hardware,
                    link=link(config.link) if config.link else None,
                    seed=config.seed,
                    deadline_s=config.deadline,
                )
            if setup.cache_dir is not None:
                self._cache = FeatureCache(setup.cache_dir)
        self._clock: Clock = self._modelled or WallClock()

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()

    def caption(self, request: CaptionRequest, control: Connection) -> Captioned:
        """Caption one recording; request start is when its decoded waveform is at hand."""
        from edgecloud.datasets.audio import load_audio
        from edgecloud.decoding.recorder import Recorder
        from edgecloud.models.features import SAMPLE_RATE_HZ

        config, processor = self._setup.config, self._processor
        waveform = load_audio(request.audio_path, max_audio_s=config.max_audio_s)
        if self._modelled is not None:
            self._modelled.restart()
        recorder = Recorder(self._clock)
        if self._cache is not None:
            features = self._cache.get_or_compute(
                request.audio_path,
                processor.features_key,
                lambda: processor.features(waveform),
            )
        else:
            features = processor.features(waveform)
        recorder.add("features", 0.0)
        prompt = processor.prompt(
            features,
            language=config.language,
            prompt_type=config.prompt_type,
            transcription=request.transcription,
        )
        stream = _Stream(processor, control if request.stream else None)
        stop = stream.follow(self._decode(prompt, request.gate, recorder))
        text = processor.text(stream.tokens)
        recorder.finish(stop)
        return Captioned(
            audio_s=len(waveform) / SAMPLE_RATE_HZ,
            input_tokens=prompt.length,
            tokens=tuple(stream.tokens),
            origins=tuple(stream.origins),
            text=text,
            stop=stop,
            trace=recorder.trace().to_json(),
        )

    def _decode(
        self, prompt: Prompt, gate: str | None, recorder: Recorder
    ) -> Generator[Commit, None, StopReason]:
        from edgecloud.decoding.autoregressive import cloud_only, edge_only
        from edgecloud.decoding.speculative import Speculation, speculative

        config = self._setup.config
        if self._model is None and self._cloud is not None:
            return cloud_only(prompt, cloud=self._cloud, stopping=self._stopping, recorder=recorder)
        if self._cloud is None and self._model is not None:
            return edge_only(prompt, edge=self._model, stopping=self._stopping, recorder=recorder)
        if self._cloud is None or self._model is None:
            raise EdgeCloudError("an edge process needs a model or a cloud")
        settings = Speculation(
            k=config.k,
            gate=gate or config.gate_type,
            thresholds=config.thresholds,
            acceptance=config.acceptance_policy,
        )
        return speculative(
            prompt,
            edge=self._model,
            cloud=self._cloud,
            settings=settings,
            stopping=self._stopping,
            recorder=recorder,
        )


class _Stream:
    """Collects commits, and passes on their text when someone listens."""

    def __init__(self, processor: Processor, control: Connection | None) -> None:
        self._processor = processor
        self._control = control
        self._shown = ""
        self.tokens: list[int] = []
        self.origins: list[Origin] = []

    def follow(self, commits: Generator[Commit, None, StopReason]) -> StopReason:
        while True:
            try:
                commit = next(commits)
            except StopIteration as end:
                stop: StopReason = end.value
                return stop
            if self._control is None:
                self.tokens += commit.tokens
                self.origins += commit.origins
            else:
                self._control.send(Streamed(self._pieces(commit)))

    def _pieces(self, commit: Commit) -> tuple[tuple[Origin, str], ...]:
        """The text each new token adds; a character whose bytes are not all there yet waits."""
        pieces: list[tuple[Origin, str]] = []
        for token, origin in zip(commit.tokens, commit.origins, strict=True):
            self.tokens.append(token)
            self.origins.append(origin)
            text = self._processor.text(self.tokens)
            if not text.endswith("�") and len(text) > len(self._shown):
                pieces.append((origin, text[len(self._shown) :]))
                self._shown = text
        return tuple(pieces)
