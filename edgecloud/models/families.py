"""The families of checkpoints that load, by the ``model_type`` of their config.json: facts alone.

A family's network is built in :mod:`edgecloud.models.audio_lm` and :mod:`edgecloud.models.networks`;
``docs/models.md`` says how to add one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

__all__ = ["FAMILIES", "Family"]


@dataclass(frozen=True, slots=True)
class Family:
    """Properties of one model family.

    ``parts`` leads from the beginnings of the published tensor names to those of the network's
    parameters: a tensor under none of them (a vision tower, a talker, a vocoder) is never read.
    ``needed`` are the entries, as paths, that config.json must have: left out, the family's own sizes
    would be taken, gigabytes of the wrong shape.
    """

    model_type: str
    title: str
    """Name of its network in messages."""
    parts: Mapping[str, str] = field(repr=False)
    needed: tuple[tuple[str, ...], ...]
    accepts_audio: bool = True
    """True when it takes recordings; otherwise it takes text alone."""
    pads_audio: bool = False
    """True when recordings are padded to the whole window of its feature extractor (30 s)."""
    tower: Mapping[str, int] = field(default_factory=dict)
    """Settings of the audio tower that both sides must share, with the family's defaults."""

    def tower_settings(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """``tower`` as a config.json has them."""
        audio = config.get("thinker_config", config).get("audio_config", {})
        return {name: audio.get(name, default) for name, default in self.tower.items()}

    def parameter(self, stored: str) -> str | None:
        """The network's name of a stored tensor; None when the network has no such part."""
        for begins, part in self.parts.items():
            if stored.startswith(begins):
                return part + stored[len(begins) :]
        return None


_OMNI: Final = Family(
    model_type="qwen2_5_omni",
    title="thinker",
    parts=MappingProxyType(
        {
            "thinker.audio_tower.": "audio_tower.",
            "thinker.model.": "model.",
            "thinker.lm_head.": "lm_head.",
        }
    ),
    needed=(
        ("thinker_config",),
        ("thinker_config", "text_config"),
        ("thinker_config", "audio_config"),
    ),
    tower={"n_window": 100, "num_mel_bins": 128},
)
_AUDIO: Final = Family(
    model_type="qwen2_audio",
    title="Qwen2-Audio model",
    parts=MappingProxyType(
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
    ),
    needed=(("text_config",), ("audio_config",)),
    pads_audio=True,
    tower={"num_mel_bins": 128, "max_source_positions": 1500},
)
_TEXT: Final = Family(
    model_type="qwen2",
    title="Qwen2 text model",
    parts=MappingProxyType({"model.": "model.", "lm_head.": "lm_head."}),
    needed=(("hidden_size",), ("num_hidden_layers",), ("vocab_size",)),
    accepts_audio=False,
)

FAMILIES: Final[Mapping[str, Family]] = MappingProxyType(
    {family.model_type: family for family in (_OMNI, _AUDIO, _TEXT)}
)
