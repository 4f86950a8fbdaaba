"""The network of Audio Flamingo 3."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AudioFlamingo3Config
from transformers.models.audioflamingo3.modeling_audioflamingo3 import (
    AudioFlamingo3Encoder,
    AudioFlamingo3MultiModalProjector,
)

from edgecloud.models.networks import AudioNetwork, Network

__all__ = ["FlamingoNetwork"]


class FlamingoNetwork(AudioNetwork):
    """Whisper's encoder over 30 s, a projection of two layers, and Qwen2's text model."""

    def __init__(self, config: dict[str, Any]) -> None:
        Network.__init__(self)
        whole = AudioFlamingo3Config(**config)
        self._build(whole, AudioFlamingo3Encoder, AudioFlamingo3MultiModalProjector(whole))
        self.audio_token_id = whole.audio_token_id

    def _hidden(self, mel: Tensor, frames: int) -> Tensor:
        own = torch.arange(mel.shape[2], device=mel.device) < frames
        found: Tensor = self.audio_tower(mel, input_features_mask=own[None]).last_hidden_state
        return found
