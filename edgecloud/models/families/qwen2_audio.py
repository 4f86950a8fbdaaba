"""Qwen2-Audio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgecloud.models.families.audio import AudioFamily
from edgecloud.models.families.contract import family

if TYPE_CHECKING:
    from edgecloud.models.networks import Network

__all__ = ["Qwen2Audio"]


@family("qwen2_audio")
class Qwen2Audio(AudioFamily):
    """Qwen2-Audio: Whisper's encoder over 30 s, a projection, and Qwen2's text model."""

    title = "Qwen2-Audio model"

    def network(self, config: Mapping[str, Any]) -> Network:
        """The network of its config.json, as :class:`Family` declares."""
        from edgecloud.models.networks import AudioNetwork

        return AudioNetwork(dict(config))
