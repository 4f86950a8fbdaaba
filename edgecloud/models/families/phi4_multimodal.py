"""Phi-4-multimodal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecloud.contracts import Arrays
from edgecloud.models.families.contract import family
from edgecloud.models.families.general_audio import GeneralAudioFamily

if TYPE_CHECKING:
    from edgecloud.models.features import FeatureExtractor

__all__ = ["Phi4Multimodal"]

_FEATURES = "audio_input_features"
_REDUCTION = 8


@family("phi4_multimodal")
class Phi4Multimodal(GeneralAudioFamily):
    """Phi-4-multimodal as converted for transformers: a conformer, Phi-4-mini's text model with an adapter for
    recordings, and a vision tower that is loaded and not used."""

    title = "Phi-4-multimodal model"
    needed = (("audio_config",),)
    arrays = MappingProxyType({_FEATURES: ("float16", (1, "frames", "audio_config.input_size"))})
    audio_entry = "audio_config.audio_token_id"
    audio_token = "<|audio|>"
    adapter = "speech-lora"

    def fits(self, config: Mapping[str, Any]) -> bool:
        """As declared: the audio tower takes eight frames together, as published."""
        audio = config.get("audio_config") or {}
        found = audio.get("time_reduction", _REDUCTION), audio.get("downsample_rate", 1)
        return found == (_REDUCTION, 1)

    def audio_tokens(self, arrays: Arrays) -> int:
        """As declared: 12.5 a second."""
        frames: int = arrays[_FEATURES].shape[1]
        return -(-frames // _REDUCTION)

    def derived(self, arrays: Arrays) -> Arrays:
        """As declared: the number of embeddings."""
        return {"audio_embed_sizes": np.array([self.audio_tokens(arrays)])}

    def feature_extractor(self, folder: Path) -> FeatureExtractor:
        """The family's own filter bank."""
        from edgecloud.models.general_audio import PhiFilterBank

        return PhiFilterBank(folder, self.audio_tokens)
