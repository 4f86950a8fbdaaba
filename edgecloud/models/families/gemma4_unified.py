"""Gemma 4 without towers."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from edgecloud.contracts import LOG_MEL, Arrays
from edgecloud.models.families.contract import family
from edgecloud.models.families.gemma4 import Gemma4

if TYPE_CHECKING:
    from edgecloud.models.features import FeatureExtractor

__all__ = ["Gemma4Unified"]


@family("gemma4_unified")
class Gemma4Unified(Gemma4):
    """Gemma 4 12B, which takes the waveform: each 40 ms of it are projected to an embedding."""

    title = "Gemma 4 model without towers"
    takes_waveform = True
    arrays = MappingProxyType(
        {
            LOG_MEL: ("float16", (1, "frames", "audio_config.audio_embed_dim")),
            "input_features_mask": ("bool", (1, "frames")),
        }
    )
    tower = MappingProxyType({"audio_embed_dim": 640})

    def audio_tokens(self, arrays: Arrays) -> int:
        """As declared: 25 a second."""
        return int(arrays["input_features_mask"].sum())

    def feature_extractor(self, folder: Path) -> FeatureExtractor:
        """The waveform in frames."""
        from edgecloud.models.gemma import GemmaWaveform

        return GemmaWaveform(folder, self.audio_tokens)
