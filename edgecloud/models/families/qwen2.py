"""Qwen2.5 and Qwen2 for text alone."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from edgecloud.models.families.contract import Family, family

if TYPE_CHECKING:
    from edgecloud.models.networks import Network

__all__ = ["Qwen2"]


@family("qwen2")
class Qwen2(Family):
    """Qwen2's text model, which Qwen2.5 has too, and its output layer."""

    title = "Qwen2 text model"
    parts = MappingProxyType({"model.": "model.", "lm_head.": "lm_head."})
    needed = (("hidden_size",), ("num_hidden_layers",), ("vocab_size",))
    accepts_audio = False

    def network(self, config: Mapping[str, Any]) -> Network:
        """The network of its config.json, as :class:`Family` declares."""
        from edgecloud.models.networks import TextNetwork

        return TextNetwork(dict(config))
