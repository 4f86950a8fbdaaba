"""Gemma 4 with an audio tower."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from edgecloud.contracts import LOG_MEL, Arrays
from edgecloud.models.families.contract import family
from edgecloud.models.families.general_audio import GeneralAudioFamily

if TYPE_CHECKING:
    from edgecloud.models.features import FeatureExtractor

__all__ = ["Gemma4"]


@family("gemma4")
class Gemma4(GeneralAudioFamily):
    """Gemma 4 of the sizes that hear (E2B, E4B): a conformer, four of whose frames are an embedding, and a text
    model with embeddings for each layer, whose last layers share keys and values. Its vision tower is not built."""

    title = "Gemma 4 model"
    arrays = MappingProxyType(
        {
            LOG_MEL: ("float16", (1, "frames", 128)),
            "input_features_mask": ("bool", (1, "frames")),
        }
    )
    overrides = MappingProxyType({"vision_config": None})
    audio_token = "<|audio|>"
    around_audio = ("<|audio>", "<audio|>")

    def fits(self, config: Mapping[str, Any]) -> bool:
        """As declared: with an audio tower; the larger sizes have none and take text alone."""
        return config.get("audio_config") is not None

    def parameter(self, stored: str) -> str | None:
        """As declared: all but what sees."""
        sees = stored.startswith(("model.vision_", "model.embed_vision."))
        return None if sees else super().parameter(stored)

    def audio_tokens(self, arrays: Arrays) -> int:
        """As declared: 25 a second, of each fourth frame that is the recording's own."""
        return int(arrays["input_features_mask"][..., ::4].sum())

    def feature_extractor(self, folder: Path) -> FeatureExtractor:
        """The family's own features."""
        from edgecloud.models.gemma import GemmaLogMel

        return GemmaLogMel(folder, self.audio_tokens)
