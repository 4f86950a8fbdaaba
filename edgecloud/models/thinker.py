"""The network of Qwen2.5-Omni that writes text.

Built from the family's own submodules (audio tower, text model, output layer), without the wrapper
that routes images and video and keeps state between requests.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import (
    Qwen2_5OmniTextConfig,
    Qwen2_5OmniThinkerConfig,
)
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import (
    Qwen2_5OmniAudioEncoder,
    Qwen2_5OmniThinkerTextModel,
)

from edgecloud.contracts import Prompt
from edgecloud.errors import ModelError
from edgecloud.models.features import audio_token_count
from edgecloud.models.networks import Network, place_audio

__all__ = ["Thinker"]


class Thinker(Network):
    """Audio tower, text model and output layer of a Qwen2.5-Omni; weights only, no state."""

    def __init__(self, config: Qwen2_5OmniThinkerConfig) -> None:
        super().__init__()
        text = _text_config(config)
        # A precision named in the configuration would win over the one asked for.
        dtype = torch.get_default_dtype()
        self.audio_tower = Qwen2_5OmniAudioEncoder._from_config(config.audio_config, dtype=dtype)  # type: ignore[no-untyped-call]
        self.model = Qwen2_5OmniThinkerTextModel._from_config(text, dtype=dtype)  # type: ignore[no-untyped-call]
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.tied = bool(text.tie_word_embeddings and config.tie_word_embeddings)
        self.tie()
        self.audio_token_id = config.audio_token_id

    def embed(self, prompt: Prompt) -> Tensor:
        """Embeddings of the prompt, ``(1, n, hidden)``, audio in its placeholders.

        Raises:
            ModelError: features that the audio encoder does not take.
        """
        ids, embedded = self._embed_ids(prompt)
        if prompt.features is not None:
            for audio in self.encode_audio(prompt, prompt.features.shape[1]):  # one, of all
                place_audio(embedded, ids[0] == self.audio_token_id, audio)
        return embedded

    def encode_audio(self, prompt: Prompt, most: int) -> Iterator[Tensor]:
        """Run the audio encoder over windows of at most ``most`` audio tokens at once; yields ``(n,
        hidden)``.

        Raises:
            ModelError: features that the audio encoder does not take, or another number of placeholders.
        """
        features, tower = prompt.features, self.audio_tower
        if features is None or features.shape[0] != tower.num_mel_bins:
            raise ModelError(
                f"the features have {0 if features is None else features.shape[0]} bands, "
                f"the audio tower takes {tower.num_mel_bins}"
            )
        self.check_places(prompt, audio_token_count(features.shape[1]))
        # Windows of 2 n_window frames do not attend to each other, and two of them end in a whole token.
        window = tower.n_window
        step = 4 * window * max(1, most // window)
        parts = [features[:, begin : begin + step] for begin in range(0, features.shape[1], step)]
        return (self._encoded(part) for part in parts if audio_token_count(part.shape[1]) > 0)

    def _encoded(self, features: NDArray[np.float16]) -> Tensor:
        weight = self.model.embed_tokens.weight
        frames = torch.tensor([features.shape[1]], device=weight.device)
        after_cnn, _ = self.audio_tower._get_feat_extract_output_lengths(frames)
        mel = torch.from_numpy(features).to(weight.device, weight.dtype)
        found: Tensor = self.audio_tower(
            mel, feature_lens=frames, aftercnn_lens=after_cnn
        ).last_hidden_state
        return found


def _text_config(config: Qwen2_5OmniThinkerConfig) -> Qwen2_5OmniTextConfig:
    if not isinstance(config.text_config, Qwen2_5OmniTextConfig):
        raise ModelError("the configuration has no text_config")
    return config.text_config
