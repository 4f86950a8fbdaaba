"""Qwen3-ASR: its features and its network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import Qwen3ASRConfig, Qwen3ASRFeatureExtractor
from transformers.models.qwen3_asr.modeling_qwen3_asr import (
    Qwen3ASREncoder,
    Qwen3ASRMultiModalProjector,
)

from edgecloud.contracts import LOG_MEL, Arrays, Prompt
from edgecloud.errors import ModelError
from edgecloud.models.features import ASR_WINDOW, SAMPLE_RATE_HZ, LogMel, asr_token_count
from edgecloud.models.networks import AudioNetwork, Network

__all__ = ["ASRLogMel", "ASRNetwork"]


class ASRLogMel(LogMel):
    """Whisper's log-mel by the family's own extractor, which takes at least half a second: shorter recordings
    are followed by silence."""

    def __init__(self, checkpoint: Path | str) -> None:
        self._extractor: Any = Qwen3ASRFeatureExtractor.from_pretrained(str(checkpoint))
        self._pads = False

    def tokens(self, arrays: Arrays) -> int:
        """As :meth:`LogMel.tokens`."""
        return asr_token_count(self.frames(arrays[LOG_MEL]))

    def _extracted(self, waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = self._extractor(
            waveform, sampling_rate=SAMPLE_RATE_HZ, padding=True, n_window=0, return_tensors="np"
        )["input_features"][0]
        return found


class ASRNetwork(AudioNetwork):
    """An encoder over windows of a second, a projection, and Qwen3's text model."""

    pads_audio = False

    def __init__(self, config: dict[str, Any]) -> None:
        Network.__init__(self)
        whole = Qwen3ASRConfig(**config)
        audio: Any = whole.audio_config
        if 2 * audio.n_window != ASR_WINDOW:
            raise ModelError(f"the audio tower's n_window is none of {ASR_WINDOW // 2}")
        self._build(whole, Qwen3ASREncoder, Qwen3ASRMultiModalProjector(whole), layers="qwen3")
        self.audio_token_id = whole.audio_token_id
        self.tied = bool(whole.tie_word_embeddings)
        self.tie()

    def audio_tokens(self, frames: int) -> int:
        """As declared; about 13 a second."""
        return asr_token_count(frames)

    def encode_audio(self, prompt: Prompt, most: int) -> Iterator[Tensor]:
        """As declared, but all at once."""
        features = prompt.features
        bands = self.audio_tower.config.num_mel_bins
        if features is None or features.shape[0] != bands or not features.shape[1]:
            shape = None if features is None else features.shape
            raise ModelError(
                f"the features have the shape {shape}, the audio tower takes {bands} bands"
            )
        self.check_places(prompt, asr_token_count(features.shape[1]))
        return (self._encoded(part, part.shape[1]) for part in (features,))

    def _encoded(self, features: npt.NDArray[np.float16], frames: int) -> Tensor:
        weight = self.model.embed_tokens.weight
        whole = np.pad(features, ((0, 0), (0, -frames % ASR_WINDOW)))
        mel = torch.from_numpy(whole).to(weight.device, weight.dtype)
        own = torch.arange(mel.shape[1], device=mel.device) < frames
        hidden = self.audio_tower(mel[None], own[None].long()).last_hidden_state
        audio: Tensor = self.projector(hidden)
        return audio
