"""Waveform to log-mel features, as the family's audio tower expects them, without torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from transformers import WhisperFeatureExtractor

from edgecloud.errors import AudioError

SAMPLE_RATE_HZ: Final = 16_000
HOP_SAMPLES: Final = 160
MEL_BINS: Final = 128
MIN_DURATION_S: Final = 0.1


def audio_token_count(frames: int) -> int:
    """How many audio placeholder tokens stand for `frames` mel frames (about 25 a second).

    The audio tower halves the frames with a strided convolution and halves them again by pooling
    pairs: 250 frames (2.5 s) give 125, then 62 tokens.

    >>> audio_token_count(250)
    62
    """
    return ((frames - 1) // 2 + 1 - 2) // 2 + 1


class LogMel:
    """The feature extractor of one checkpoint folder.

    Whisper's log-mel keeps absolute loudness, so quiet speech looks quiet. Values are rounded to
    float16 here and nowhere else: every model, local or remote, sees the same numbers.
    """

    def __init__(self, checkpoint: Path | str) -> None:
        """Read `checkpoint`/preprocessor_config.json; nothing else of the checkpoint is needed."""
        self._extractor = WhisperFeatureExtractor.from_pretrained(str(checkpoint))

    def __call__(self, waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
        """Features (128, T), float16, of a mono waveform (n,), float32, at 16 kHz; T = n // 160.

        Raises:
            AudioError: the waveform is not one-dimensional, is shorter than 0.1 s, or holds
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
        extracted = self._extractor(
            waveform,
            sampling_rate=SAMPLE_RATE_HZ,
            padding="do_not_pad",
            truncation=False,
            return_tensors="np",
        )
        features: npt.NDArray[np.float16] = extracted["input_features"][0].astype(np.float16)
        return features
