"""One recording or prompt, decoded by a loaded pair in this process: at once, or commit by commit."""

from __future__ import annotations

import weakref
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecloud.contracts import Sample
from edgecloud.datasets.audio import recording_of
from edgecloud.edge.messages import Mode, Request, Response, Streamed
from edgecloud.errors import ConfigError, DataError, EdgeCloudError
from edgecloud.experiments.run import request_of
from edgecloud.library.outcome import Outcome
from edgecloud.library.pair import Pair
from edgecloud.library.settings import REQUEST, checked_mode, settings_of
from edgecloud.settings.config import Config

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgecloud.decoding.acceptance import Rule
    from edgecloud.decoding.gates import Gate

    Source = str | Path | NDArray[np.generic] | Sample

__all__ = ["Stream", "decode", "stream"]


def decode(
    source: Source,
    pair: Pair,
    *,
    mode: str = "spec",
    gate: str | Gate | None = None,
    acceptance: str | Rule | None = None,
    transcription: str | None = None,
    sample_rate_hz: int | None = None,
    preset: str | None = None,
    config: str | Path | None = None,
    **settings: Any,
) -> Outcome:
    """Caption one recording, or answer one prompt of text, with a loaded pair.

    ``source`` is a recording's path, its samples in an array ``(n,)`` or ``(n, channels)`` with ``sample_rate_hz``,
    or a :class:`~edgecloud.contracts.Sample` of a manifest; text where the pair takes nothing else, or with
    ``dataset_type="text"``. ``transcription`` gives a recording's words to the models, too.

    ``mode`` is ``edge``, ``cloud`` or ``spec``. ``gate`` and ``acceptance`` are a name or a function, ``(block,
    thresholds) -> bool`` and ``(token, acceptance) -> bool``, which is registered for this call alone. ``settings`` are
    options by their names (``language``, ``k``, ``verify_scope``, ``max_new_tokens``, ``clock``, ``hardware_profile``, …),
    above ``preset`` and the file ``config`` as flags are. Time is measured unless ``clock="modelled"``.

    Raises:
        ConfigError: a setting is unknown, out of range, or counts for nothing here.
        DataError: the source cannot be used.
        EdgeCloudError: a model cannot be used.
    """
    given = _given(gate, acceptance, settings)
    asked = _asked("decode", pair, mode, given, preset, config, transcription is not None)
    with asked.parts:
        request = _request("decode", source, asked.config, transcription, sample_rate_hz)
        response = pair.handler(asked.mode, asked.config).caption(request)
        return Outcome.of(response, asked.mode, asked.config)


def stream(
    source: Source,
    pair: Pair,
    *,
    mode: str = "spec",
    gate: str | Gate | None = None,
    acceptance: str | Rule | None = None,
    transcription: str | None = None,
    sample_rate_hz: int | None = None,
    preset: str | None = None,
    config: str | Path | None = None,
    **settings: Any,
) -> Stream:
    """As :func:`decode`, commit by commit: an iterator of :class:`~edgecloud.edge.messages.Streamed`, each with the
    text so far; :attr:`Stream.outcome` is there at its end.

    Raises:
        EdgeCloudError: as :func:`decode` does, for settings at once.
    """
    given = _given(gate, acceptance, settings)
    asked = _asked("stream", pair, mode, given, preset, config, transcription is not None)
    with ExitStack() as undo:
        undo.push(asked.parts)
        request = _request("stream", source, asked.config, transcription, sample_rate_hz)
        steps = pair.handler(asked.mode, asked.config).stream(request)
        undo.pop_all()
    return Stream(steps, asked)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Mode and configuration of a call, and what holds the parts that it brought."""

    mode: Mode
    config: Config
    parts: ExitStack


class Stream(Iterator[Streamed]):
    """The commits of one request as they come. ``for part in stream: print(part.text)``; then ``stream.outcome``.

    One that is left before its end is closed when nobody has it any more, or by :meth:`close`.
    """

    def __init__(self, steps: Generator[Streamed, None, Response], asked: _Asked) -> None:
        self._steps = steps
        self._asked = asked
        self._outcome: Outcome | None = None
        self._end = weakref.finalize(self, _end, steps, asked.parts)

    def __next__(self) -> Streamed:
        try:
            return next(self._steps)
        except StopIteration as end:
            if isinstance(end.value, Response):
                self._outcome = Outcome.of(end.value, self._asked.mode, self._asked.config)
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


def _given(
    gate: str | Gate | None, acceptance: str | Rule | None, settings: dict[str, Any]
) -> dict[str, Any]:
    chosen = {"gate": gate, "acceptance": acceptance}
    return {**{name: part for name, part in chosen.items() if part is not None}, **settings}


def _asked(
    by: str,
    pair: Pair,
    mode: str,
    given: dict[str, Any],
    preset: str | None,
    file: str | Path | None,
    transcribed: bool,
) -> _Asked:
    """What a call asks for, checked.

    Raises:
        ConfigError: a setting is wrong.
    """
    checked = checked_mode(mode)
    kind = given.pop("dataset_type", None if pair.accepts_audio else "text")
    if transcribed:
        given.setdefault("input_modality", "audio_text")
    with ExitStack() as stack:
        config = settings_of(
            given,
            by=by,
            allowed=REQUEST,
            instead="it belongs to load_pair or to run",
            parts=stack,
            own=dict(pair.settings),
            preset=preset,
            file=file,
        )
        if kind not in (None, "unified", "text"):
            raise ConfigError(f"{by}: dataset_type: {kind!r} is not one of unified, text")
        if kind is not None:  # only now: a manifest of prompts is not needed here
            config = config.changed(dataset_type=kind)
        _check_hardware(by, config)
        return _Asked(checked, config, stack.pop_all())


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
