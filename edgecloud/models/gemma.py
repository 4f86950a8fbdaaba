"""Features of the Gemma 4 families, by their own extractors."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from transformers import Gemma4AudioFeatureExtractor, Gemma4UnifiedAudioFeatureExtractor

from edgecloud.contracts import LOG_MEL, Arrays
from edgecloud.models.features import check_waveform
from edgecloud.models.general_audio import OwnFeatures

__all__ = ["FRAMES_MASK", "GemmaLogMel", "GemmaWaveform"]

FRAMES_MASK = "input_features_mask"


class GemmaLogMel(OwnFeatures):
    """Log-mel ``(1, T, 128) float16`` and ``input_features_mask (1, T) bool``, T a frame for each 10 ms, of a
    recording padded to a multiple of 128 samples; ``count`` tells the embeddings."""

    kind: ClassVar[Any] = Gemma4AudioFeatureExtractor
    names: ClassVar[tuple[str, ...]] = (
        "feature_size",
        "sampling_rate",
        "frame_length",
        "hop_length",
        "fft_length",
    )
    most_s: ClassVar[float | None] = 30.0
    """Of what is longer the extractor would leave out the rest."""

    def arrays(self, waveform: npt.NDArray[np.float32]) -> Arrays:
        """As :meth:`edgecloud.models.features.FeatureExtractor.arrays`."""
        check_waveform(waveform, most_s=self.most_s)
        made = self._extractor([waveform], return_tensors="np")
        return {
            LOG_MEL: made[LOG_MEL].astype(np.float16),
            FRAMES_MASK: made[FRAMES_MASK].astype(np.bool_),
        }


class GemmaWaveform(GemmaLogMel):
    """The waveform itself, ``(1, T, 640) float16``, and its mask: T frames of 40 ms, the last filled with zeros."""

    kind = Gemma4UnifiedAudioFeatureExtractor
    names = ("feature_size", "sampling_rate", "audio_samples_per_token")
    most_s = None
