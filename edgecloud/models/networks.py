"""The networks of the families: weights in the families' own submodules, no state.

What every network has is in :class:`Network`; Qwen2.5-Omni's is in :mod:`edgecloud.models.audio_lm`.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Qwen2AudioConfig, Qwen2Config, Qwen2Model
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniThinkerTextModel
from transformers.models.qwen2_audio.modeling_qwen2_audio import (
    Qwen2AudioEncoder,
    Qwen2AudioMultiModalProjector,
)

from edgecloud.contracts import Prompt
from edgecloud.errors import ModelError
from edgecloud.models.features import CONTEXT_FRAMES, audio_token_count, padded

__all__ = ["AudioNetwork", "Network", "TextModel", "TextNetwork", "place_audio"]

TextModel = Qwen2Model | Qwen2_5OmniThinkerTextModel
"""Text models of the layer layout that :class:`edgecloud.models.decoder.Decoder` runs."""


class Network(nn.Module):
    """A text model, its output layer, and what turns a prompt into embeddings."""

    model: TextModel
    lm_head: nn.Linear
    tied: bool = False
    """Whether the output layer is the embedding of tokens."""

    def tie(self) -> None:
        """Let the output layer be the embedding of tokens, where it is so."""
        if self.tied:
            self.lm_head.weight = self.model.embed_tokens.weight

    @abstractmethod
    def embed(self, prompt: Prompt) -> Tensor:
        """``(1, n, hidden)``: embedded token ids, with the audio in place of its placeholders.

        Raises:
            ModelError: the network cannot take such features, or not as many placeholders.
        """

    def _embed_ids(self, prompt: Prompt) -> tuple[Tensor, Tensor]:
        """Token ids ``(1, n)`` and their embeddings ``(1, n, hidden)``."""
        ids = torch.tensor([prompt.token_ids], device=self.model.embed_tokens.weight.device)
        return ids, self.model.embed_tokens(ids)


class TextNetwork(Network):
    """Qwen2.5: text alone."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        text = Qwen2Config(**config)
        self.model = _text_model(text)
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.tied = bool(text.tie_word_embeddings)
        self.tie()

    def embed(self, prompt: Prompt) -> Tensor:
        if prompt.features is not None:
            raise ModelError("this model takes text alone; give --dataset-type text")
        return self._embed_ids(prompt)[1]


class AudioNetwork(Network):
    """Qwen2-Audio: Whisper's encoder over 30 s, a projection, and Qwen2's text model."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        whole = Qwen2AudioConfig(**config)
        text = whole.text_config
        if not isinstance(text, Qwen2Config):
            raise ModelError("the text_config is none of Qwen2")
        dtype = torch.get_default_dtype()
        self.audio_tower = Qwen2AudioEncoder._from_config(whole.audio_config, dtype=dtype)  # type: ignore[no-untyped-call]
        self.projector = Qwen2AudioMultiModalProjector(whole)
        self.model = _text_model(text)
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.audio_token_id: int = whole.audio_token_index

    def embed(self, prompt: Prompt) -> Tensor:
        ids, embedded = self._embed_ids(prompt)
        if prompt.features is None:
            return embedded
        window = 2 * self.audio_tower.max_source_positions
        frames = prompt.features.shape[1] - CONTEXT_FRAMES
        if prompt.features.shape[0] != self.audio_tower.num_mel_bins or not 0 < frames <= window:
            raise ModelError(
                f"the features are {prompt.features.shape[0]} bands of {frames} frames, "
                f"the audio tower takes {self.audio_tower.num_mel_bins} of up to {window}"
            )
        features = torch.from_numpy(padded(prompt.features, window)).to(
            embedded.device, embedded.dtype
        )
        # Silence after the recording is computed, as the family does, but not listened to.
        heard = torch.arange(window // 2, device=embedded.device) < (frames - 1) // 2 + 1
        hidden = self.audio_tower(features[None], attention_mask=heard[None, None, None])
        audio = self.projector(hidden.last_hidden_state)[0, : audio_token_count(frames)]
        place_audio(embedded, ids[0] == self.audio_token_id, audio)
        return embedded


def place_audio(embedded: Tensor, places: Tensor, audio: Tensor) -> None:
    """Write ``audio (a, hidden)`` over the ``places (n,) bool`` of ``embedded (1, n, hidden)``.

    Raises:
        ModelError: there are not as many places.
    """
    if int(places.sum()) != audio.shape[0]:
        raise ModelError(
            f"the prompt has {int(places.sum())} audio placeholders, "
            f"the audio tower gives {audio.shape[0]} embeddings"
        )
    embedded[0, places] = audio.to(embedded.dtype)


def _text_model(config: Qwen2Config) -> Qwen2Model:
    # A precision named in the configuration would win over the one asked for.
    model: Qwen2Model = Qwen2Model._from_config(config, dtype=torch.get_default_dtype())  # type: ignore[no-untyped-call]
    return model
