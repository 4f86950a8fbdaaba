"""The edge's request handler: recordings and prompts in, responses out; any process can hold one."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from edgecloud.contracts import (
    Arrays,
    CloudModel,
    Commit,
    EdgeModel,
    Model,
    Origin,
    Prompt,
    StopLimits,
    StopReason,
)
from edgecloud.datasets.audio import FeatureCache, as_flac, read_recording
from edgecloud.decoding.local_edge import LocalEdge
from edgecloud.decoding.recorder import Recorder
from edgecloud.decoding.sampling import seeded
from edgecloud.edge.decoding import Decoding
from edgecloud.edge.messages import Request, Response, Streamed
from edgecloud.edge.speculation_policy import sampling_of
from edgecloud.errors import ConfigError, DataError
from edgecloud.models.features import SAMPLE_RATE_HZ
from edgecloud.models.processor import Processor
from edgecloud.models.translation import TranslatedModel, Translation, translation_of
from edgecloud.settings.config import Config

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["RequestHandler"]

A = TypeVar("A")
B = TypeVar("B")
Returned = TypeVar("Returned")


class RequestHandler:
    """Captions recordings: with an ``edge`` model, with a ``cloud``, or by speculation with both.

    ``drafter`` is what surrounds the ``edge``'s own model where its family or vocabulary is not that of
    ``processor``, which is then the cloud's. ``cache_dir`` holds features of earlier requests, for modelled
    time only.

    ``around`` puts something around the edge of each request, whose prompt it is told: a memory of what it said
    before (:class:`edgecloud.decoding.remembered.Memory`).

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
        around: Callable[[EdgeModel, Prompt], EdgeModel] | None = None,
    ) -> None:
        self._config = config
        self._processor = processor
        self._drafter = drafter
        self._edge = edge
        self._cloud = cloud
        self._around = around
        self._sampling = sampling_of(config)
        self.stopping = processor.stopping(
            StopLimits(config.generation.max_new_tokens, config.generation.max_sentences)
        )
        """What ends an output."""
        self.translation: Translation | None = None
        """How the edge drafts in another vocabulary; ``None`` where both have one."""
        if edge is not None and drafter is not None:
            self.translation = translation_of(drafter, processor)
            self._edge = TranslatedModel(edge, self.translation)
        reads = len if self.translation is None else self.translation.read
        self._decoding = Decoding(config, self.stopping, reads=reads)
        modelled = config.hardware.clock == "modelled"
        self._cache = FeatureCache(cache_dir) if modelled and cache_dir is not None else None

    def caption(
        self, request: Request, listener: Callable[[Streamed], None] | None = None
    ) -> Response:
        """Caption one recording; request start is when its decoded waveform is at hand. Or answer one
        prompt of text alone, whose request starts with its words.

        Raises:
            EdgeCloudError: the recording or a model cannot be used.
        """
        if listener is None:
            return _returned(self._commits(request))
        return _returned(_changed(self.stream(request), listener))

    def stream(self, request: Request) -> Generator[Streamed, None, Response]:
        """Yield each commit of :meth:`caption` with its text, as it comes; returns the response.

        Raises:
            EdgeCloudError: as :meth:`caption` does.
        """
        return (yield from _changed(self._commits(request), _Text(self._processor).grown))

    def _commits(self, request: Request) -> Generator[Commit, None, Response]:
        """Yield the commits of a request; returns its response."""
        processor = self._processor
        recording = request.recording
        if request.audio_path is not None:
            recording = read_recording(
                request.audio_path, max_audio_s=self._config.data.max_audio_s
            )
        waveform = None if recording is None else recording.waveform
        recorder = self._decoding.begin()
        prompt = self._prompt(request, waveform, recorder)
        tokens: list[int] = []
        origins: list[Origin] = []

        def collected(commit: Commit) -> Commit:
            tokens.extend(commit.tokens)
            origins.extend(commit.origins)
            return commit

        stop = yield from _changed(self._decode(prompt, request, recorder), collected)
        text = processor.text(tokens)
        recorder.finish(stop)
        return Response(
            audio_s=None if waveform is None else len(waveform) / SAMPLE_RATE_HZ,
            input_tokens=prompt.length,
            tokens=tuple(tokens),
            origins=tuple(origins),
            text=text,
            stop=stop,
            trace=recorder.trace().to_json(),
            audio_notes={} if recording is None else recording.notes,
            prompt_digest=prompt.digest(),
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
            self._check_may_leave()
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
            and not self._processor.takes_waveform
            else None
        )
        return replace(prompts[0], recording=uploaded, edge=prompts[1] if self._drafter else None)

    def _check_may_leave(self) -> None:
        """Raises ConfigError where a recording would leave this machine as features and must not."""
        service = self._config.service
        if (
            self._processor.takes_waveform
            and self._cloud is not None
            and service.url != "local"
            and not service.upload_audio
        ):
            raise ConfigError(
                f"the cloud at {service.url} takes the waveform itself; run with --upload-audio if recordings may "
                "leave this machine"
            )

    def _features(
        self, processor: Processor, request: Request, waveform: NDArray[np.float32]
    ) -> Arrays:
        if self._cache is None or request.audio_path is None:
            return processor.features(waveform)
        return self._cache.get_or_compute(
            request.audio_path, processor.features_key, lambda: processor.features(waveform)
        )

    def _decode(
        self, prompt: Prompt, request: Request, recorder: Recorder
    ) -> Generator[Commit, None, StopReason]:
        sampling = seeded(self._sampling, self._config.generation.seed, prompt)
        edge: EdgeModel | None = None
        if self._edge is not None:
            edge = LocalEdge(self._edge, sampling)
            edge = edge if self._around is None else self._around(edge, prompt)
        return self._decoding.commits(
            prompt,
            recorder,
            edge=edge,
            cloud=self._cloud,
            sampling=sampling,
            language=request.language,
            gate=request.gate,
        )


class _Text:
    """The text of a caption as it grows."""

    def __init__(self, processor: Processor) -> None:
        self._processor = processor
        self._tokens: list[int] = []
        self._shown = ""

    def grown(self, commit: Commit) -> Streamed:
        """By ``commit``: the text each new token adds; a character whose bytes are not all there yet waits."""
        pieces: list[tuple[Origin, str]] = []
        for token, origin in zip(commit.tokens, commit.origins, strict=True):
            self._tokens.append(token)
            text = self._processor.text(self._tokens)
            if not text.endswith("\ufffd") and len(text) > len(self._shown):
                pieces.append((origin, text[len(self._shown) :]))
                self._shown = text
        return Streamed(tuple(pieces), self._shown, commit)


def _changed(
    steps: Generator[A, None, Returned], change: Callable[[A], B]
) -> Generator[B, None, Returned]:
    """``change`` of every step; returns what the steps return."""
    try:
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                returned: Returned = end.value
                return returned
            yield change(step)
    finally:
        steps.close()


def _returned(steps: Generator[object, None, Returned]) -> Returned:
    """What the steps return, once all are taken."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            returned: Returned = end.value
            return returned
