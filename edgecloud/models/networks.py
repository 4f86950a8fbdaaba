"""The networks of the families: weights in the families' own submodules, no state.

What every network has is in :class:`Network`; Qwen2.5-Omni's is in :mod:`edgecloud.models.thinker`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Final, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel, Qwen2AudioConfig
from transformers.models.qwen2_audio.modeling_qwen2_audio import (
    Qwen2AudioEncoder,
    Qwen2AudioMultiModalProjector,
)

from edgecloud.contracts import Prompt
from edgecloud.errors import ModelError
from edgecloud.models.features import CONTEXT_FRAMES, audio_token_count, padded
from edgecloud.models.parts import in_parts

__all__ = ["SMALL", "AudioNetwork", "Network", "TextModel", "TextNetwork", "place_audio"]

SMALL: Final = 8_000_000
"""Parameters below which a forward takes one thread of a processor (docs/wall-time.md)."""


class TextModel(Protocol):
    """What text models of the layer layout that :class:`edgecloud.models.decoder.Decoder` runs have in
    common, of whichever family."""

    config: Any
    embed_tokens: nn.Embedding
    layers: nn.ModuleList
    norm: nn.Module
    rotary_emb: nn.Module


class Network(nn.Module):
    """A text model, its output layer, and what turns a prompt into embeddings."""

    model: TextModel
    lm_head: nn.Linear
    audio_token_id: int = -1
    """Token id of the audio placeholder."""
    pads_audio: bool = False
    """True when features have the silence after a recording, too."""
    tied: bool = False
    """True when the output layer is the embedding of tokens."""

    @cached_property
    def small(self) -> bool:
        """True where sharing a forward among threads takes longer than computing it."""
        return sum(parameter.numel() for parameter in self.parameters()) < SMALL

    def tie(self) -> None:
        """Share the embedding's memory with the output layer, where the checkpoint does."""
        if self.tied:
            self.lm_head.weight = self.model.embed_tokens.weight

    def audio_tokens(self, frames: int) -> int:
        """Embeddings that a recording of so many frames has."""
        return audio_token_count(frames)

    @abstractmethod
    def embed(self, prompt: Prompt) -> Tensor:
        """``(1, n, hidden)``: embedded token ids, with the audio in place of its placeholders.

        Raises:
            ModelError: the network cannot take such features, or not as many placeholders.
        """

    def embed_in_parts(self, prompt: Prompt, most: int) -> Iterator[Tensor]:
        """:meth:`embed` in parts ``(n, hidden)`` of up to ``most`` tokens
        (:func:`edgecloud.models.parts.in_parts`), each computed when it is asked for, with the audio that
        stands in it.

        Raises as :meth:`embed` does, before anything is computed of what does not fit.
        """
        heard = iter(()) if prompt.features is None else self.encode_audio(prompt, most)
        left: Tensor | None = None
        for part in in_parts(prompt.length, most):
            ids, embedded = self._embed_ids(Prompt(prompt.token_ids[part]))
            if prompt.features is not None:
                places = ids[0] == self.audio_token_id
                count = int(places.sum())
                left = embedded.new_empty((0, embedded.shape[2])) if left is None else left
                while len(left) < count:
                    left = torch.cat((left, next(heard).to(left.dtype)))
                place_audio(embedded, places, left[:count])
                left = left[count:]
            yield embedded[0]

    def encode_audio(self, prompt: Prompt, most: int) -> Iterator[Tensor]:
        """The audio's embeddings, ``(n, hidden)``, some at a time: up to ``most``, where the family's
        audio tower can be run on parts of a recording.

        Raises:
            ModelError: the network cannot take such features, or not as many placeholders.
        """
        raise ModelError("this model takes text alone; give --dataset-type text")

    def check_places(self, prompt: Prompt, count: int) -> None:
        """Raises ModelError where the prompt has not as many placeholders as ``count`` embeddings."""
        _check_places(prompt.token_ids.count(self.audio_token_id), count)

    def _embed_ids(self, prompt: Prompt) -> tuple[Tensor, Tensor]:
        """Token ids ``(1, n)`` and their embeddings ``(1, n, hidden)``."""
        ids = torch.tensor([prompt.token_ids], device=self.model.embed_tokens.weight.device)
        return ids, self.model.embed_tokens(ids)


class TextNetwork(Network):
    """A model of text alone, in the layers of ``architecture``, a ``model_type`` of transformers."""

    def __init__(self, architecture: str, config: dict[str, Any]) -> None:
        super().__init__()
        given = {name: value for name, value in config.items() if name != "model_type"}
        text = AutoConfig.for_model(architecture, **given)
        self.model = _text_model(text)
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.tied = bool(text.tie_word_embeddings)
        self.tie()

    def embed(self, prompt: Prompt) -> Tensor:
        """Embeddings of the prompt, ``(1, n, hidden)``.

        Raises:
            ModelError: a prompt with audio.
        """
        if prompt.features is not None:
            raise ModelError("this model takes text alone; give --dataset-type text")
        return self._embed_ids(prompt)[1]


class AudioNetwork(Network):
    """Qwen2-Audio: Whisper's encoder over 30 s, a projection, and Qwen2's text model."""

    pads_audio = True

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        whole = Qwen2AudioConfig(**config)
        self._build(whole, Qwen2AudioEncoder, Qwen2AudioMultiModalProjector(whole))
        self.audio_token_id = whole.audio_token_index

    def _build(
        self, whole: Any, tower: Any, projector: nn.Module, *, layers: str = "qwen2"
    ) -> None:
        """Make the parts of a configuration: ``tower`` is the class of its encoder, ``layers`` the
        ``model_type`` of its text model."""
        text = whole.text_config
        if text.model_type != layers:
            raise ModelError(f"the text_config is of {text.model_type!r}, not of {layers!r}")
        # A precision named in the configuration would win over the one asked for.
        self.audio_tower = tower._from_config(whole.audio_config, dtype=torch.get_default_dtype())
        self.projector = projector
        self.model = _text_model(text)
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)

    def embed(self, prompt: Prompt) -> Tensor:
        """Embeddings of the prompt, ``(1, n, hidden)``, audio in its placeholders."""
        ids, embedded = self._embed_ids(prompt)
        if prompt.features is not None:
            (audio,) = self.encode_audio(prompt, prompt.length)
            place_audio(embedded, ids[0] == self.audio_token_id, audio)
        return embedded

    def encode_audio(self, prompt: Prompt, most: int) -> Iterator[Tensor]:
        """As declared, but all at once: within 30 s every frame attends to every other."""
        features = prompt.features
        window = 2 * self.audio_tower.max_source_positions
        bands, frames = (0, 0) if features is None else features.shape
        frames -= CONTEXT_FRAMES
        if features is None or bands != self.audio_tower.num_mel_bins or not 0 < frames <= window:
            raise ModelError(
                f"the features are {bands} bands of {frames} frames, "
                f"the audio tower takes {self.audio_tower.num_mel_bins} of up to {window}"
            )
        self.check_places(prompt, audio_token_count(frames))
        return (self._encoded(part, frames) for part in (padded(features, window),))

    def _encoded(self, features: NDArray[np.float16], frames: int) -> Tensor:
        weight = self.model.embed_tokens.weight
        mel = torch.from_numpy(features).to(weight.device, weight.dtype)
        hidden = self._hidden(mel[None], frames)
        audio: Tensor = self.projector(hidden)[0, : audio_token_count(frames)]
        return audio

    def _hidden(self, mel: Tensor, frames: int) -> Tensor:
        """The tower's output for one padded recording ``(1, bands, window)``, of which ``frames`` are its own.
        Silence after them is computed, as the family does, but not listened to."""
        places = torch.arange(mel.shape[2] // 2, device=mel.device)
        heard = places < (frames - 1) // 2 + 1
        found: Tensor = self.audio_tower(
            mel, attention_mask=heard[None, None, None]
        ).last_hidden_state
        return found


def place_audio(embedded: Tensor, places: Tensor, audio: Tensor) -> None:
    """Write ``audio (a, hidden)`` over the ``places (n,) bool`` of ``embedded (1, n, hidden)``.

    Raises:
        ModelError: there are not as many places.
    """
    _check_places(int(places.sum()), audio.shape[0])
    embedded[0, places] = audio.to(embedded.dtype)


def _check_places(places: int, count: int) -> None:
    if places != count:
        raise ModelError(
            f"the prompt has {places} audio placeholders, the audio tower gives {count} embeddings"
        )


def _text_model(config: Any) -> TextModel:
    # A precision named in the configuration would win over the one asked for.
    model: PreTrainedModel = AutoModel.from_config(config, dtype=torch.get_default_dtype())  # type: ignore[no-untyped-call]
    return cast("TextModel", model)
