"""Qwen2.5-Omni."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from edgecloud.models.families.contract import Family, family

if TYPE_CHECKING:
    from edgecloud.models.networks import Network

__all__ = ["Qwen2_5Omni"]


@family("qwen2_5_omni")
class Qwen2_5Omni(Family):  # noqa: N801 - the family's own name
    """The thinker of a Qwen2.5-Omni: audio tower, text model and output layer."""

    title = "thinker"
    parts = MappingProxyType(
        {
            "thinker.audio_tower.": "audio_tower.",
            "thinker.model.": "model.",
            "thinker.lm_head.": "lm_head.",
        }
    )
    needed = (
        ("thinker_config",),
        ("thinker_config", "text_config"),
        ("thinker_config", "audio_config"),
    )
    tower = MappingProxyType({"n_window": 100, "num_mel_bins": 128})

    def network(self, config: Mapping[str, Any]) -> Network:
        """The network of its config.json, as :class:`Family` declares."""
        from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import (
            Qwen2_5OmniThinkerConfig,
        )

        from edgecloud.models.thinker import Thinker

        return Thinker(Qwen2_5OmniThinkerConfig(**config["thinker_config"]))

    def tokenizer(self, folder: Path) -> Any:
        """Qwen2's tokenizer: AutoTokenizer would build the whole family's configuration, talker included,
        to find its class."""
        from transformers import Qwen2Tokenizer

        return Qwen2Tokenizer.from_pretrained(str(folder), local_files_only=True)
