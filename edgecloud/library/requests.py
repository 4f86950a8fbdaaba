"""One recording or prompt, decoded by a loaded pair in this process: at once, or commit by commit."""

from __future__ import annotations

import weakref
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecloud.contracts import Sample
from edgecloud.datasets.audio import recording_of
from edgecloud.edge.messages import Request, Response, Streamed
from edgecloud.errors import ConfigError, DataError, EdgeCloudError
from edgecloud.experiments.run import request_of
from edgecloud.library.outcome import Outcome
from edgecloud.library.pair import Pair
from edgecloud.library.settings import REQUEST, checked_mode, settings_of
from edgecloud.settings.config import Config

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Source = str | Path | NDArray[np.generic] | Sample

__all__ = ["Stream", "decode", "stream"]


def decode(source: Source, pair: Pair, **given: Any) -> Outcome:
    """Caption one recording, or answer one prompt of text, with a loaded pair.

    ``source`` is a recording's path, its samples in an array ``(n,)`` or ``(n, channels)`` with ``sample_rate_hz=``,
    or a :class:`~edgecloud.contracts.Sample` of a manifest; text where the pair takes nothing else, or with
    ``dataset_type="text"``. ``transcription=`` gives a recording's words to the models, too.

    ``mode`` is ``edge``, ``cloud`` or ``spec`` (the default). ``gate`` and ``acceptance`` are a name or a function,
    ``(block, thresholds) -> bool`` and ``(token, acceptance) -> bool``, which is registered for this call alone. All
    other keywords are options by their names (``language``, ``k``, ``verify_scope``, ``max_new_tokens``, ``clock``,
    ``hardware_profile``, …), ``preset=`` and ``config=`` as their flags. Time is measured unless
    ``clock="modelled"``.

    Raises:
        ConfigError: a setting is unknown, out of range, or counts for nothing here.
        DataError: the source cannot be used.
        EdgeCloudError: a model cannot be used.
    """
    mode, config, request, parts = _asked("decode", source, pair, given)
    with parts:
        return Outcome.of(pair.handler(mode, config).caption(request), mode, config)


def stream(source: Source, pair: Pair, **given: Any) -> Stream:
    """As :func:`decode`, commit by commit: an iterator of :class:`~edgecloud.edge.messages.Streamed`, each with the
    text so far; :attr:`Stream.outcome` is there at its end.

    Raises:
        EdgeCloudError: as :func:`decode` does, for settings at once.
    """
    mode, config, request, parts = _asked("stream", source, pair, given)
    with ExitStack() as undo:
        undo.push(parts)
        steps = pair.handler(mode, config).stream(request)
        undo.pop_all()
    return Stream(steps, parts, lambda response: Outcome.of(response, mode, config))


class Stream(Iterator[Streamed]):
    """The commits of one request as they come. ``for part in stream: print(part.text)``; then ``stream.outcome``.

    One that is left before its end is closed when nobody has it any more, or by :meth:`close`.
    """

    def __init__(
        self,
        steps: Generator[Streamed, None, Response],
        parts: ExitStack,
        outcome: Any,
    ) -> None:
        self._steps = steps
        self._outcome_of = outcome
        self._outcome: Outcome | None = None
        self._end = weakref.finalize(self, _end, steps, parts)

    def __next__(self) -> Streamed:
        try:
            return next(self._steps)
        except StopIteration as end:
            if isinstance(end.value, Response):
                self._outcome = self._outcome_of(end.value)
            self._end()
            raise StopIteration from None
        except EdgeCloudError:
            self._end()
            raise

    @property
    def outcome(self) -> Outcome:
        """The same outcome that :func:`decode` gives.

        Raises:
            DataError: the request has not come to its end.
        """
        if self._outcome is None:
            raise DataError("the stream has not ended: take all of its commits first")
        return self._outcome

    def close(self) -> None:
        """End the request where it is. Safe to call twice."""
        self._end()


def _end(steps: Generator[Streamed, None, Response], parts: ExitStack) -> None:
    try:
        steps.close()
    finally:
        parts.close()


def _asked(
    by: str, source: Source, pair: Pair, given: dict[str, Any]
) -> tuple[Any, Config, Request, ExitStack]:
    """Mode, configuration and request of a call, and what holds the parts that it brought."""
    mode = checked_mode(given.pop("mode", "spec"))
    words = {name: given.pop(name, None) for name in ("transcription", "sample_rate_hz")}
    text = not pair.accepts_audio
    kind = given.pop("dataset_type", "text" if text else None)
    if words["transcription"] is not None:
        given.setdefault("input_modality", "audio_text")
    with ExitStack() as stack:
        config = settings_of(
            {name: value for name, value in given.items() if name not in ("preset", "config")},
            by=by,
            allowed=REQUEST,
            instead="it belongs to load_pair or to run",
            parts=stack,
            own=dict(pair.settings),
            preset=given.get("preset"),
            file=given.get("config"),
        )
        if kind is not None:
            _check_kind(by, kind)
            config = config.changed(dataset_type=kind)
        _check_hardware(by, config)
        return mode, config, _request(by, source, config, **words), stack.pop_all()


def _check_kind(by: str, kind: str) -> None:
    if kind not in ("unified", "text"):
        raise ConfigError(f"{by}: dataset_type: {kind!r} is not one of unified, text")


def _check_hardware(by: str, config: Config) -> None:
    """Check that what is said of the hardware counts.

    Raises:
        ConfigError: it does not in measured time.
    """
    if config.hardware.clock == "wall":
        for name in {"hardware_profile", "link"} & config.given:
            raise ConfigError(f"{by}: {name} counts in modelled time alone; give clock='modelled'")


def _request(
    by: str,
    source: Source,
    config: Config,
    *,
    transcription: str | None,
    sample_rate_hz: int | None,
) -> Request:
    """The request that ``source`` is.

    Raises:
        DataError: it is none.
    """
    if isinstance(source, Sample):
        return request_of(config, source)
    if config.data.input_modality == "audio_text" and not isinstance(transcription, str):
        raise ConfigError(f"{by}: input_modality audio_text needs transcription=, a text")
    if isinstance(source, str) and config.data.kind == "text":
        return Request(audio_path=None, prompt=source)
    if config.data.kind == "text":
        raise DataError(f"{by}: a prompt of text was expected, not {type(source).__name__}")
    if isinstance(source, np.ndarray):
        if sample_rate_hz is None:
            raise DataError(f"{by}: an array of samples needs sample_rate_hz=")
        recording = recording_of(
            source, sample_rate_hz=sample_rate_hz, max_audio_s=config.data.max_audio_s
        )
        return Request(audio_path=None, transcription=transcription, recording=recording)
    if not isinstance(source, str | Path):
        raise DataError(
            f"{by}: a path, an array of samples or a Sample was expected, not {type(source).__name__}"
        )
    if sample_rate_hz is not None:
        raise DataError(f"{by}: sample_rate_hz is for arrays; a file says its own")
    return Request(audio_path=str(source), transcription=transcription)
