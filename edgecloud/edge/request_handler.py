"""The edge's request handler: recordings and prompts in, responses out; any process can hold one."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import TYPE_CHECKING

from edgecloud.contracts import (
    Clock,
    CloudModel,
    Commit,
    Model,
    Origin,
    Prompt,
    StopLimits,
    StopReason,
)
from edgecloud.contracts.sampling import Sampling
from edgecloud.datasets.audio import FeatureCache, as_flac, read_recording
from edgecloud.decoding.autoregressive import cloud_only, edge_only
from edgecloud.decoding.recorder import Recorder
from edgecloud.decoding.sampling import seeded
from edgecloud.decoding.speculative import speculative
from edgecloud.edge.messages import Request, Response, Streamed
from edgecloud.edge.speculation_policy import policies
from edgecloud.errors import DataError, EdgeCloudError
from edgecloud.hardware.clock import ModelledClock, TimedCloud, TimedModel, WallClock
from edgecloud.hardware.link import link
from edgecloud.hardware.profiles import profile
from edgecloud.models.features import SAMPLE_RATE_HZ
from edgecloud.models.processor import Processor
from edgecloud.models.translation import TranslatedModel, Translation
from edgecloud.settings.config import Config

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["RequestHandler"]


class RequestHandler:
    """Captions recordings: with an ``edge`` model, with a ``cloud``, or by speculation with both.

    ``drafter`` is what surrounds the ``edge``'s own model where its family or vocabulary is not that of
    ``processor``, which is then the cloud's. ``cache_dir`` holds features of earlier requests, for modelled
    time only.

    Raises:
        ModelError: ``drafter`` and ``processor`` have no text in common.
    """

    def __init__(
        self,
        config: Config,
        processor: Processor,
        *,
        edge: Model | None,
        cloud: CloudModel | None,
        drafter: Processor | None = None,
        cache_dir: str | None = None,
    ) -> None:
        self._config = config
        self._processor = processor
        self._drafter = drafter
        self._edge = edge
        self._cloud = cloud
        self._policies = policies(config)
        self._sampling = Sampling(config.sampling.temperature, config.sampling.top_p)
        self._stopping = processor.stopping(
            StopLimits(config.generation.max_new_tokens, config.generation.max_sentences)
        )
        self._modelled = ModelledClock() if config.hardware.clock == "modelled" else None
        self._cache: FeatureCache | None = None
        if self._modelled is not None:
            hardware = profile(config.hardware.profile)
            if edge is not None:
                self._edge = TimedModel(edge, self._modelled, hardware.edge)
            if cloud is not None:
                self._cloud = TimedCloud(
                    cloud,
                    self._modelled,
                    hardware,
                    link=link(config.hardware.link) if config.hardware.link else None,
                    seed=config.generation.seed,
                    deadline_s=config.run.deadline_s,
                )
            if cache_dir is not None:
                self._cache = FeatureCache(cache_dir)
        self.translation: Translation | None = None
        """How the edge drafts in another vocabulary; ``None`` where both have one."""
        if self._edge is not None and drafter is not None:
            self.translation = Translation.between(drafter.vocabulary(), processor.vocabulary())
            self._edge = TranslatedModel(self._edge, self.translation)
        self._clock: Clock = self._modelled or WallClock()

    def caption(
        self, request: Request, listener: Callable[[Streamed], None] | None = None
    ) -> Response:
        """Caption one recording; request start is when its decoded waveform is at hand. Or answer one
        prompt of text alone, whose request starts with its words.

        Raises:
            EdgeCloudError: the recording or a model cannot be used.
        """
        processor = self._processor
        recording = None
        if request.audio_path is not None:
            recording = read_recording(
                request.audio_path, max_audio_s=self._config.data.max_audio_s
            )
        waveform = None if recording is None else recording.waveform
        if self._modelled is not None:
            self._modelled.restart()
        recorder = Recorder(self._clock)
        prompt = self._prompt(request, waveform, recorder)
        stream = _Stream(processor, listener)
        stop = stream.follow(self._decode(prompt, request, recorder))
        text = processor.text(stream.tokens)
        recorder.finish(stop)
        return Response(
            audio_s=None if waveform is None else len(waveform) / SAMPLE_RATE_HZ,
            input_tokens=prompt.length,
            tokens=tuple(stream.tokens),
            origins=tuple(stream.origins),
            text=text,
            stop=stop,
            trace=recorder.trace().to_json(),
            audio_notes={} if recording is None else recording.notes,
        )

    def _prompt(
        self, request: Request, waveform: NDArray[np.float32] | None, recorder: Recorder
    ) -> Prompt:
        """The prompt of a recording, its features computed here, or of a text; the edge's own form of it where
        that is another."""
        sides = [self._processor, *([self._drafter] if self._drafter else [])]
        if waveform is None:
            if request.prompt is None:
                raise DataError("a request needs a recording or a prompt")
            prompts = [side.text_prompt(request.prompt) for side in sides]
        else:
            features = [self._features(side, request, waveform) for side in sides]
            recorder.features()
            prompts = [
                side.prompt(
                    some,
                    language=self._config.data.language,
                    prompt_type=self._config.data.prompt_type,
                    transcription=request.transcription,
                )
                for side, some in zip(sides, features, strict=True)
            ]
        uploaded = (
            as_flac(waveform)
            if waveform is not None
            and self._config.service.upload_audio
            and self._cloud is not None
            else None
        )
        return replace(prompts[0], recording=uploaded, edge=prompts[1] if self._drafter else None)

    def _features(
        self, processor: Processor, request: Request, waveform: NDArray[np.float32]
    ) -> NDArray[np.float16]:
        if self._cache is None or request.audio_path is None:
            return processor.features(waveform)
        return self._cache.get_or_compute(
            request.audio_path, processor.features_key, lambda: processor.features(waveform)
        )

    def _decode(
        self, prompt: Prompt, request: Request, recorder: Recorder
    ) -> Generator[Commit, None, StopReason]:
        sampling = seeded(self._sampling, self._config.generation.seed, prompt)
        if self._edge is None and self._cloud is not None:
            return cloud_only(
                prompt,
                cloud=self._cloud,
                stopping=self._stopping,
                recorder=recorder,
                sampling=sampling,
            )
        if self._cloud is None and self._edge is not None:
            return edge_only(
                prompt,
                edge=self._edge,
                stopping=self._stopping,
                recorder=recorder,
                sampling=sampling,
            )
        if self._cloud is None or self._edge is None:
            raise EdgeCloudError("an edge process needs a model or a cloud")
        settings = self._policies[request.language or self._config.data.language]
        return speculative(
            prompt,
            edge=self._edge,
            cloud=self._cloud,
            settings=settings if request.gate is None else replace(settings, gate=request.gate),
            stopping=self._stopping,
            recorder=recorder,
            sampling=sampling,
        )


class _Stream:
    """Collects commits, and passes on their text when someone listens."""

    def __init__(self, processor: Processor, listener: Callable[[Streamed], None] | None) -> None:
        self._processor = processor
        self._listener = listener
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
            if self._listener is None:
                self.tokens += commit.tokens
                self.origins += commit.origins
            else:
                self._listener(Streamed(self._pieces(commit)))

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
