"""Qwen2-Audio."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from edgecloud.models.families.contract import Family, family

if TYPE_CHECKING:
    from edgecloud.models.networks import Network

__all__ = ["Qwen2Audio"]


@family("qwen2_audio")
class Qwen2Audio(Family):
    """Qwen2-Audio: Whisper's encoder over 30 s, a projection, and Qwen2's text model."""

    title = "Qwen2-Audio model"
    parts = MappingProxyType(
        {
            # As published.
            "audio_tower.": "audio_tower.",
            "multi_modal_projector.": "projector.",
            "language_model.model.": "model.",
            "language_model.lm_head.": "lm_head.",
            # As transformers 5 names them in memory; some conversions are saved so.
            "model.audio_tower.": "audio_tower.",
            "model.multi_modal_projector.": "projector.",
            "model.language_model.": "model.",
            "lm_head.": "lm_head.",
        }
    )
    needed = (("text_config",), ("audio_config",))
    pads_audio = True
    tower = MappingProxyType({"num_mel_bins": 128, "max_source_positions": 1500})

    def network(self, config: Mapping[str, Any]) -> Network:
        """The network of its config.json, as :class:`Family` declares."""
        from edgecloud.models.networks import AudioNetwork

        return AudioNetwork(dict(config))
