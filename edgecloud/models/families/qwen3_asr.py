"""Qwen3-ASR."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from edgecloud.models.families.audio import AudioFamily
from edgecloud.models.families.contract import family

if TYPE_CHECKING:
    from edgecloud.models.features import FeatureExtractor
    from edgecloud.models.networks import Network

__all__ = ["Qwen3ASR"]


@family("qwen3_asr")
class Qwen3ASR(AudioFamily):
    """Qwen3-ASR: an encoder over windows, a projection, and Qwen3's text model. What its answers end with is
    the checkpoint's own to say."""

    title = "Qwen3-ASR model"
    pads_audio = False
    tower = MappingProxyType({"num_mel_bins": 128, "n_window": 50, "n_window_infer": 800})
    audio_token = "<|audio_pad|>"
    end_tokens = ()

    def network(self, config: Mapping[str, Any]) -> Network:
        """The network of its config.json, as :class:`Family` declares."""
        from edgecloud.models.asr import ASRNetwork

        return ASRNetwork(dict(config))

    def feature_extractor(self, folder: Path) -> FeatureExtractor:
        """The family's own feature extractor."""
        from edgecloud.models.asr import ASRLogMel

        return ASRLogMel(folder)
