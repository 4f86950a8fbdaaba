"""Speech synthesis with espeak-ng through ctypes; the library and its voices come from PyPI."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import soxr  # type: ignore[import-untyped]

from edgecloud.errors import EdgeCloudError
from edgecloud.models.features import SAMPLE_RATE_HZ
from edgecloud.models.prompts import Language

_AUDIO_OUTPUT_SYNCHRONOUS: Final = 2
_CHARS_UTF8: Final = 1
_RATE, _VOLUME, _PITCH, _RANGE, _WORD_GAP = 1, 2, 3, 4, 7
_LANGUAGE_CODES: Final[dict[Language, str]] = {"chinese": "cmn", "english": "en-us"}
_NOISE_SEED: Final = 1
_SILENCE: Final = 1e-3
_MARGIN_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Prosody:
    """The prosody of a sentence.

    `pitch` and `pitch_range` run from 0 to 99 around the voice's own (50), `rate_wpm` is in words
    a minute, `word_gap` is in units of 10 ms, `level_db` is the RMS level in dB full scale.
    """

    pitch: int
    pitch_range: int
    rate_wpm: int
    word_gap: int
    level_db: float


class SpeechError(EdgeCloudError):
    """The synthesiser is not installed, could not be started or refused a voice."""


class _Synthesizer:
    """One espeak-ng per process: its state is global."""

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ModuleNotFoundError as error:
            raise SpeechError(
                "espeakng-loader is not installed; pip install 'edgecloud[build]'"
            ) from error
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data_path = espeakng_loader.get_data_path().encode()
        self._rate_hz = self._library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, data_path, 0)
        if self._rate_hz <= 0:
            raise SpeechError("espeak-ng could not be started")
        self._chunks: list[npt.NDArray[np.int16]] = []
        callback_type = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
        )
        self._callback: Callable[..., Any] = callback_type(self._collect)
        self._library.espeak_SetSynthCallback(self._callback)

    def _collect(self, samples: Any, count: int, _events: Any) -> int:
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def say(self, text: str, *, voice: str, prosody: Prosody) -> npt.NDArray[np.float32]:
        """The waveform (n,), float32, at the synthesiser's own rate."""
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise SpeechError(f"espeak-ng has no voice {voice!r}")
        for parameter, value in (
            (_RATE, prosody.rate_wpm),
            (_VOLUME, 60),
            (_PITCH, prosody.pitch),
            (_RANGE, prosody.pitch_range),
            (_WORD_GAP, prosody.word_gap),
        ):
            self._library.espeak_SetParameter(parameter, value, 0)
        # Breath noise is seeded from the clock unless told otherwise.
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(_NOISE_SEED))
        self._chunks.clear()
        encoded = text.encode()
        self._library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, _CHARS_UTF8, None, None)
        self._library.espeak_Synchronize()
        if not self._chunks:
            raise SpeechError(f"espeak-ng said nothing for {text!r}")
        return (np.concatenate(self._chunks) / 32768.0).astype(np.float32)

    @property
    def rate_hz(self) -> int:
        """Samples a second of `say`."""
        return int(self._rate_hz)


@functools.cache
def _synthesizer() -> _Synthesizer:
    return _Synthesizer()


def synthesize(
    text: str, *, language: Language, voice: str, prosody: Prosody
) -> npt.NDArray[np.int16]:
    """Speech (n,), int16, at 16 kHz, trimmed to 50 ms around it, at the level asked for.

    Raises:
        SpeechError: espeak-ng has no such voice or said nothing.
    """
    synthesizer = _synthesizer()
    raw = synthesizer.say(text, voice=f"{_LANGUAGE_CODES[language]}+{voice}", prosody=prosody)
    waveform = soxr.resample(raw, synthesizer.rate_hz, SAMPLE_RATE_HZ)
    audible = np.flatnonzero(np.abs(waveform) > _SILENCE)
    if len(audible) == 0:
        raise SpeechError(f"voice {voice!r} is silent for {text!r}")
    margin = int(_MARGIN_S * SAMPLE_RATE_HZ)
    waveform = waveform[max(0, audible[0] - margin) : audible[-1] + margin]
    spoken = waveform[np.abs(waveform) > _SILENCE]
    gain = 10 ** (prosody.level_db / 20) / float(np.sqrt(np.mean(spoken**2)))
    scaled = np.clip(waveform * gain, -0.99, 0.99)
    quantized: npt.NDArray[np.int16] = np.round(scaled * 32767).astype(np.int16)
    return quantized
