"""Waveform to log-mel features, as the family's audio tower expects them, without torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
from transformers import WhisperFeatureExtractor

from edgecloud.contracts import LOG_MEL, Arrays
from edgecloud.errors import AudioError

SAMPLE_RATE_HZ: Final = 16_000
HOP_SAMPLES: Final = 160
MEL_BINS: Final = 128
MIN_DURATION_S: Final = 0.1
CONTEXT_FRAMES: Final = 2
"""Frames after a recording's own that a family gets which pads recordings: the last whose window
(400 samples around every 160th) still touches the recording."""
ASR_WINDOW: Final = 100
"""Frames that the towers of Qwen3-ASR and Qwen3-Omni convolve together, as published."""
_ASR_WINDOW_TOKENS: Final = 13
_SILENCE: Final = (-10 + 4) / 4
"""Whisper's log-mel of digital silence, the least there is."""
_RANGE: Final = 8 / 4
"""Range below a recording's loudest value at which Whisper's log-mel is cut off."""


def audio_token_count(frames: int) -> int:
    """Number of audio placeholder tokens for ``frames`` mel frames (about 25 a second).

    The audio tower halves the frames with a strided convolution and halves them again by pooling
    pairs: 250 frames (2.5 s) give 125, then 62 tokens.

    >>> audio_token_count(250)
    62
    """
    return ((frames - 1) // 2 + 1 - 2) // 2 + 1


def asr_token_count(frames: int) -> int:
    """Number of audio placeholder tokens of Qwen3-ASR and Qwen3-Omni for ``frames`` mel frames (13 a second): windows
    of a second are halved three times by strided convolutions, the last one as long as it is.

    >>> asr_token_count(100), asr_token_count(250)
    (13, 33)
    """
    rest = frames % ASR_WINDOW
    for _ in range(3):
        rest = (rest - 1) // 2 + 1
    return frames // ASR_WINDOW * _ASR_WINDOW_TOKENS + rest


def padded(features: npt.NDArray[np.float16], window: int) -> npt.NDArray[np.float16]:
    """`features` (bands, T) with the frames of silence that follow them in a window of `window`.

    Whisper's log-mel of silence after a recording is its floor: the loudest value less 2.
    """
    floor = max(float(features.max()) - _RANGE, _SILENCE)
    missing = max(window - features.shape[1], 0)
    return np.pad(features[:, :window], ((0, 0), (0, missing)), constant_values=np.float16(floor))


class FeatureExtractor(Protocol):
    """What makes the arrays of a prompt of a recording, as one family has it."""

    @property
    def settings(self) -> dict[str, int]:
        """JSON: what the arrays depend on besides the recording; edge and cloud must agree on it."""
        ...

    def arrays(self, waveform: npt.NDArray[np.float32]) -> Arrays:
        """The features of a mono waveform ``(n,)`` at 16 kHz by name, real numbers as float16.

        Raises:
            AudioError: the family cannot take such a recording.
        """
        ...

    def tokens(self, arrays: Arrays) -> int:
        """Number of placeholders, one for each embedding, that a prompt with these features repeats."""
        ...


class LogMel:
    """The feature extractor of one checkpoint folder.

    Whisper's log-mel keeps absolute loudness, so quiet speech looks quiet. Values are rounded to
    float16 here and nowhere else: every model, local or remote, sees the same numbers.
    """

    def __init__(self, checkpoint: Path | str, *, pads: bool = False) -> None:
        """Read `checkpoint`/preprocessor_config.json; nothing else of the checkpoint is needed.

        With `pads` features are those of a recording padded to the extractor's window, 30 s, without
        the silence: its own frames, T = ceil(n / 160), and `CONTEXT_FRAMES` more.
        """
        self._extractor = WhisperFeatureExtractor.from_pretrained(str(checkpoint))
        self._pads = pads

    @property
    def settings(self) -> dict[str, int]:
        """Settings that features depend on, by their names in preprocessor_config.json."""
        names = ("feature_size", "sampling_rate", "hop_length", "n_fft")
        return {name: int(getattr(self._extractor, name)) for name in names}

    def frames(self, features: npt.NDArray[np.float16]) -> int:
        """Number of the features' frames that are the recording's own."""
        frames: int = features.shape[1]
        return frames - CONTEXT_FRAMES if self._pads else frames

    def arrays(self, waveform: npt.NDArray[np.float32]) -> Arrays:
        """As :meth:`FeatureExtractor.arrays`: the log-mel alone."""
        return {LOG_MEL: self(waveform)}

    def tokens(self, arrays: Arrays) -> int:
        """As :meth:`FeatureExtractor.tokens`."""
        return audio_token_count(self.frames(arrays[LOG_MEL]))

    def __call__(self, waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
        """Features (128, T), float16, of a mono waveform (n,), float32, at 16 kHz; T = n // 160, or
        as `pads` says.

        Raises:
            AudioError: the waveform is not one-dimensional, is shorter than 0.1 s or longer than
                the window it is padded to, or holds values that are not finite.
        """
        check_waveform(
            waveform, most_s=self._extractor.n_samples / SAMPLE_RATE_HZ if self._pads else None
        )
        features: npt.NDArray[np.float16] = self._extracted(waveform).astype(np.float16)
        if not self._pads:
            return features
        frames = -(-len(waveform) // HOP_SAMPLES) + CONTEXT_FRAMES
        return padded(features[:, :frames], frames)

    def _extracted(self, waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The extractor's own features (128, T)."""
        extracted = self._extractor(
            waveform,
            sampling_rate=SAMPLE_RATE_HZ,
            padding="max_length" if self._pads else "do_not_pad",
            truncation=False,
            return_tensors="np",
        )
        found: npt.NDArray[np.float32] = extracted["input_features"][0]
        return found


def check_waveform(waveform: npt.NDArray[np.float32], *, most_s: float | None = None) -> None:
    """Check a waveform at 16 kHz before features are made of it.

    Raises:
        AudioError: it is not one-dimensional, is shorter than 0.1 s or longer than ``most_s`` seconds, or holds
            values that are not finite.
    """
    if waveform.ndim != 1:
        raise AudioError(
            f"expected a mono waveform, got an array of shape {waveform.shape}; "
            "mix the channels down first"
        )
    duration_s = len(waveform) / SAMPLE_RATE_HZ
    if duration_s < MIN_DURATION_S:
        raise AudioError(
            f"the recording lasts {duration_s * 1000:.0f} ms; "
            f"at least {MIN_DURATION_S * 1000:.0f} ms are needed"
        )
    if not np.isfinite(waveform).all():
        raise AudioError("the waveform holds values that are not finite numbers")
    if most_s is not None and duration_s > most_s:
        raise AudioError(
            f"the recording lasts {duration_s:.1f} s; this family hears at most {most_s:.0f} s"
        )
