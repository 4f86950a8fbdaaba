"""Audio Flamingo 3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgecloud.models.families.audio import AudioFamily
from edgecloud.models.families.contract import family

if TYPE_CHECKING:
    from edgecloud.models.networks import Network

__all__ = ["AudioFlamingo3"]


@family("audioflamingo3")
class AudioFlamingo3(AudioFamily):
    """Audio Flamingo 3: Qwen2-Audio's parts, another projection; recordings of one window of 30 s. What its
    answers end with is the checkpoint's own to say."""

    title = "Audio Flamingo 3 model"
    audio_token = "<sound>"
    end_tokens = ()

    def network(self, config: Mapping[str, Any]) -> Network:
        """The network of its config.json, as :class:`Family` declares."""
        from edgecloud.models.flamingo import FlamingoNetwork

        return FlamingoNetwork(dict(config))
