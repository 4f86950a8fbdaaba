"""Models of an audio tower, a projection and a text model."""

from __future__ import annotations

from types import MappingProxyType

from edgecloud.models.families.contract import Family

__all__ = ["AudioFamily"]


class AudioFamily(Family):
    """An audio tower over windows of 30 s, a projection, a text model and its output layer, under the names of
    Qwen2-Audio."""

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
