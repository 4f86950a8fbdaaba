"""Models of the published sizes with random weights: speed depends on shapes and precision alone.

Sizes are those of the published configurations of Qwen2.5-Omni. The output layer shares the
embeddings' memory, which changes nothing of what a step reads. Every layer has memory of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniThinkerConfig
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import (
    Qwen2_5OmniThinkerForConditionalGeneration,
    SinusoidsPositionEmbedding,
)

from edgecloud.errors import ConfigError
from edgecloud.models.features import MEL_BINS, audio_token_count
from edgecloud.models.layout import layout_of
from edgecloud.models.networks import Network
from edgecloud.models.thinker import Thinker

__all__ = [
    "SHAPES",
    "Shape",
    "family_thinker",
    "meta_thinker",
    "random_thinker",
    "shape",
    "thinker_config",
]

_NOISE = 1 << 20
_SPREAD = 0.035
"""Uniform in ± this has the standard deviation that the family is initialised with, 0.02."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a model, those of the audio 0 where it takes none. ``depth`` layers were published;
    ``layers`` of them are built."""

    name: str
    hidden: int
    feed_forward: int
    depth: int
    layers: int
    heads: int
    kv_heads: int
    vocab_size: int
    head_dim: int = 128
    audio_width: int = 1280
    audio_layers: int = 32
    audio_heads: int = 20
    audio_feed_forward: int = 5120
    audio_token: int = 151646
    mel_bins: int = MEL_BINS
    pads_audio: bool = False
    """True when features have the silence after a recording, too."""
    audio_tokens: Callable[[int], int] = field(default=audio_token_count, compare=False)
    """Embeddings of a recording of so many frames."""

    @classmethod
    def of(cls, name: str, network: Network) -> Shape:
        """The shape of ``network``, whose tensors may be on the meta device; nothing of it is cut.

        Raises:
            ModelError: its layers are none of the fast path.
        """
        layout = layout_of(network.model)
        tower: Any = getattr(network, "audio_tower", None)
        audio: Any = None if tower is None else tower.config
        return cls(
            name=name,
            hidden=layout.hidden,
            feed_forward=layout.feed_forward,
            depth=len(layout.windows),
            layers=len(layout.windows),
            heads=layout.heads,
            kv_heads=layout.kv_heads,
            vocab_size=network.lm_head.out_features,
            head_dim=layout.head_dim,
            audio_width=0 if audio is None else audio.d_model,
            audio_layers=0 if audio is None else audio.encoder_layers,
            audio_heads=0 if audio is None else audio.encoder_attention_heads,
            audio_feed_forward=0 if audio is None else audio.encoder_ffn_dim,
            audio_token=network.audio_token_id,
            mel_bins=MEL_BINS if audio is None else audio.num_mel_bins,
            pads_audio=network.pads_audio,
            audio_tokens=network.audio_tokens,
        )

    @property
    def accepts_audio(self) -> bool:
        """True when it has an audio tower."""
        return self.audio_layers > 0

    @property
    def layer_weights(self) -> int:
        """Weights of one layer's matrices."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return attention + 3 * self.hidden * self.feed_forward

    @property
    def head_weights(self) -> int:
        """Weights of the output layer."""
        return self.hidden * self.vocab_size

    @property
    def step_weights(self) -> int:
        """Weights that a step reads: all layers', and the output layer's."""
        return self.layers * self.layer_weights + self.head_weights

    @property
    def audio_weights(self) -> int:
        """Weights of the audio tower's matrices, its convolutions and output projection included."""
        width = self.audio_width
        layers = self.audio_layers * (4 * width * width + 2 * width * self.audio_feed_forward)
        return layers + 3 * (128 * width + width * width) + width * self.hidden

    def cut(self, layers: int | None) -> Shape:
        """The shape with as many layers; all of them when ``None``."""
        return replace(self, layers=self.depth if layers is None else min(layers, self.depth))

    @property
    def whole(self) -> Shape:
        """The shape with all published layers."""
        return self.cut(None)


SHAPES: dict[str, Shape] = {
    found.name: found
    for found in (
        Shape("3b", 2048, 11008, 36, 36, 16, 2, 151936),
        Shape("7b", 3584, 18944, 28, 28, 28, 4, 152064),
        Shape("tiny", 64, 96, 4, 4, 4, 2, 512, 16, 32, 2, 2, 64, 500),
    )
}
"""``tiny`` is none of the published ones: it tries out what measures the others."""


def shape(name: str) -> Shape:
    """The shape of that name.

    Raises:
        ConfigError: there is none.
    """
    try:
        return SHAPES[name]
    except KeyError:
        raise ConfigError(f"unknown shape {name!r}; choose one of {', '.join(SHAPES)}") from None


def thinker_config(of: Shape) -> Qwen2_5OmniThinkerConfig:
    """The family's configuration of that shape, with the smallest vision tower that can be named."""
    third = of.head_dim // 2 // 3
    family: Any = Qwen2_5OmniThinkerConfig  # its keywords are not all in its signature
    found: Qwen2_5OmniThinkerConfig = family(
        audio_config={
            "num_mel_bins": 128,
            "encoder_layers": of.audio_layers,
            "encoder_attention_heads": of.audio_heads,
            "encoder_ffn_dim": of.audio_feed_forward,
            "d_model": of.audio_width,
            "max_source_positions": 1500,
            "n_window": 100,
            "output_dim": of.hidden,
        },
        text_config={
            "vocab_size": of.vocab_size,
            "hidden_size": of.hidden,
            "intermediate_size": of.feed_forward,
            "num_hidden_layers": of.layers,
            "num_attention_heads": of.heads,
            "num_key_value_heads": of.kv_heads,
            "max_position_embeddings": 32768,
            "rope_theta": 1e6,
            "rope_scaling": {
                "mrope_section": [of.head_dim // 2 - 2 * third, third, third],
                "rope_type": "default",
                "type": "default",
            },
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": of.hidden,
            "fullatt_block_indexes": [0],
        },
        audio_token_index=of.audio_token,
        image_token_index=of.vocab_size - 2,
        video_token_index=of.vocab_size - 1,
        audio_start_token_id=of.audio_token + 1,
        audio_end_token_id=of.audio_token + 2,
        vision_start_token_id=of.vocab_size - 4,
        vision_end_token_id=of.vocab_size - 3,
        user_token_id=0,
        position_id_per_seconds=25,
        seconds_per_chunk=2,
        tie_word_embeddings=True,
    )
    return found


def meta_thinker(of: Shape) -> Thinker:
    """A thinker of that shape on the meta device: names and shapes, no memory."""
    with torch.device("meta"):
        return Thinker(thinker_config(of))


def random_thinker(of: Shape, *, dtype: torch.dtype, device: str = "cpu") -> Thinker:
    """A thinker of that shape with random weights; the same ones each time."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        thinker = meta_thinker(of)
        thinker.to_empty(device=device)
        thinker.lm_head.weight = thinker.model.embed_tokens.weight
        _fill(thinker)
    finally:
        torch.set_default_dtype(before)
    return thinker.requires_grad_(requires_grad=False).eval()


def family_thinker(thinker: Thinker, of: Shape) -> Qwen2_5OmniThinkerForConditionalGeneration:
    """The family's own whole model on the very weights of ``thinker``; nothing is in memory twice."""
    with torch.device("meta"):
        whole: Any = Qwen2_5OmniThinkerForConditionalGeneration(thinker_config(of))
    del whole.model.visual
    whole.model.audio_tower = thinker.audio_tower
    whole.model.language_model = thinker.model
    whole.lm_head = thinker.lm_head
    found: Qwen2_5OmniThinkerForConditionalGeneration = whole.eval()
    return found


def _fill(module: nn.Module) -> None:
    """Weights from one block of noise, at another place of it in each matrix; norms are ones."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.empty(_NOISE + 1009).uniform_(-_SPREAD, _SPREAD, generator=generator)
    device = next(module.parameters()).device
    noise = noise.to(device, next(module.parameters()).dtype)
    for number, parameter in enumerate(module.parameters()):
        if parameter.ndim == 1:
            parameter.data.fill_(0.0)
            continue
        flat = parameter.data.view(-1)
        block = noise[number % 1009 :][:_NOISE]
        for begin in range(0, len(flat), _NOISE):
            piece = flat[begin : begin + _NOISE]
            piece.copy_(block[: len(piece)])
    for part in module.modules():
        if "norm" in type(part).__name__.lower():
            part.weight.data.fill_(1.0)  # type: ignore[operator]
        names = [name for name, _ in part.named_buffers(recurse=False)]
        if not names:
            continue
        if isinstance(part, SinusoidsPositionEmbedding):
            fresh: nn.Module = type(part)(part.length, part.channels, part.max_timescale)
        else:
            fresh = type(part)(part.config)
        for name in names:
            setattr(part, name, getattr(fresh, name).to(device))
