"""The tensors of a quantised thinker: their names, shapes, precisions, and what they are made of."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from transformers.activations import GELUActivation

from edgecloud.errors import ModelError
from edgecloud.models.layout import layout_of
from edgecloud.models.networks import Network

__all__ = [
    "GROUP",
    "AudioShape",
    "Entry",
    "Part",
    "TextShape",
    "bits_of",
    "entries",
    "group_size",
    "parameter_count",
    "shapes_of",
]

GROUP = 128
"""Weights that share a scale in 4 bits, and activations that do in both; what the engine is fastest at."""


@dataclass(frozen=True, slots=True)
class TextShape:
    """The text model's dimensions."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    feed_forward: int
    vocabulary: int
    epsilon: float
    tied: bool
    biases: bool = True
    """True when the projections of queries, keys and values have biases; where not, they are zeros."""
    head_norms: bool = False
    """True when each head of queries and keys is normalized before it is rotated."""
    window: int | None = None
    """Tokens up to which attention is the family's own: from there on it would slide."""

    @classmethod
    def of(cls, network: Network) -> TextShape:
        """The dimensions of ``network``, whose tensors may be on the meta device.

        Raises:
            ModelError: layers that the engines do not know.
        """
        layout = layout_of(network.model)
        windows = [window for window in layout.windows if window is not None]
        return cls(
            hidden=layout.hidden,
            layers=len(layout.windows),
            heads=layout.heads,
            kv_heads=layout.kv_heads,
            head_dim=layout.head_dim,
            feed_forward=layout.feed_forward,
            vocabulary=network.lm_head.out_features,
            epsilon=layout.epsilon,
            tied=network.tied,
            biases=layout.biases,
            head_norms=layout.head_norms,
            window=min(windows, default=None),
        )


@dataclass(frozen=True, slots=True)
class AudioShape:
    """The audio tower's dimensions; ``window`` frames after the first convolution attend together.

    A tower of ``whole`` recordings (Whisper's) attends to all of one at once, learned its positions, and
    has a projection beside it: of two layers where it is ``deep``, with biases unless ``projected_bare``.

    A tower with ``channels`` (Qwen3-ASR's) has three convolutions over time and frequencies with as many, each of
    which halves both, over pieces of ``2 * window`` frames; ``reach`` frames attend together, and keys have biases.
    """

    mel_bins: int
    width: int
    layers: int
    heads: int
    feed_forward: int
    window: int
    positions: int
    output: int
    whole: bool = False
    deep: bool = False
    projected_bare: bool = False
    channels: int = 0
    reach: int = 0

    @property
    def piece(self) -> int:
        """Embeddings of one whole piece, of a tower with ``channels``."""
        return _halved(2 * self.window)

    @property
    def convolved(self) -> int:
        """Numbers that the convolutions of a tower with ``channels`` give for one embedding."""
        return self.channels * _halved(self.mel_bins)

    @classmethod
    def of(cls, network: Network) -> AudioShape | None:
        """The dimensions of ``network``'s audio tower; None: it has none.

        Raises:
            ModelError: a tower that the graph does not know.
        """
        tower: Any = getattr(network, "audio_tower", None)
        if tower is None:
            return None
        audio = tower.config
        channels = audio.downsample_hidden_size if hasattr(tower, "conv2d1") else 0
        whole = not hasattr(audio, "n_window")
        window = audio.max_source_positions if whole else audio.n_window
        projector: Any = getattr(network, "projector", None)
        deep = hasattr(projector, "linear_2")
        first = getattr(projector, "linear_1" if deep else "linear", None)
        beside = whole or channels
        if beside and (first is None or (deep and not isinstance(projector.act, GELUActivation))):
            raise ModelError(
                "the audio tower has another projection than one layer, or two with gelu between them; only "
                "those of Qwen2-Audio, Audio Flamingo 3 and Qwen3-ASR can be quantised"
            )
        # An odd window would let the pooling pair frames of two windows.
        if (
            audio.activation_function != "gelu"
            or (window % 2 and not beside)
            or audio.scale_embedding
        ):
            raise ModelError(
                "the audio tower has another activation than gelu, an odd window or scaled "
                "embeddings; only the family's published layout can be quantised"
            )
        return cls(
            mel_bins=audio.num_mel_bins,
            width=audio.d_model,
            layers=audio.encoder_layers,
            heads=audio.encoder_attention_heads,
            feed_forward=audio.encoder_ffn_dim,
            window=window,
            positions=audio.max_position_embeddings if channels else audio.max_source_positions,
            output=network.model.config.hidden_size,
            whole=whole,
            deep=deep,
            projected_bare=first is not None and first.bias is None,
            channels=channels,
            reach=audio.n_window_infer // (2 * window) * 2 * window if channels else 0,
        )


def shapes_of(network: Network) -> tuple[TextShape, AudioShape | None]:
    """The shapes of a network's text model and of its audio tower, None: it has none.

    Raises:
        ModelError: layers or a tower that cannot be quantised, or a model on the general adapter.
    """
    if not hasattr(network, "model"):
        raise ModelError(
            "this model runs on the general adapter, and only families of the fast path can be quantised; "
            "leave out the quantization"
        )
    return TextShape.of(network), AudioShape.of(network)


@dataclass(frozen=True, slots=True)
class Part:
    """``rows`` of an entry: the network's parameter ``source``, or zeros where the family has none."""

    source: str | None
    rows: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor: its parts, one below the other.

    ``kind``: a ``matrix`` is quantised, ``table`` rows are kept in the checkpoint's precision, and a
    ``vector`` (norms, biases, positions, the convolutions) becomes float32.
    """

    name: str
    kind: Literal["matrix", "table", "vector"]
    shape: tuple[int, ...]
    parts: tuple[Part, ...]


def bits_of(name: str, bits: int) -> int:
    """Bits of the matrix ``name`` in a thinker of ``bits``: the output layer and the audio tower stay
    at 8, where the text model's layers have 4."""
    return 8 if name == "head" or name.startswith("audio.") else bits


def group_size(columns: int, bits: int) -> int:
    """Weights of a row that share a scale: the whole row in 8 bits, else the largest divisor of
    ``columns`` up to 128.

    >>> group_size(2048, 8), group_size(2048, 4), group_size(192, 4)
    (2048, 128, 96)
    """
    if bits == 8:
        return columns
    return next(size for size in range(min(GROUP, columns), 0, -1) if columns % size == 0)


def entries(text: TextShape, audio: AudioShape | None) -> Iterator[Entry]:
    """Every tensor of the text model and of the audio tower, ``None``: without one."""
    yield from _text(text)
    if audio is not None:
        yield from _audio(audio)


def parameter_count(text: TextShape, audio: AudioShape | None) -> int:
    """Number of the checkpoint's parameters in these entries; one that is used twice counts once."""
    sizes = {
        part.source: part.rows * math.prod(entry.shape[1:])
        for entry in entries(text, audio)
        for part in entry.parts
        if part.source is not None
    }
    return sum(sizes.values())


def _text(shape: TextShape) -> Iterator[Entry]:
    hidden, queries = shape.hidden, shape.heads * shape.head_dim
    keys = shape.kv_heads * shape.head_dim
    embedding = "model.embed_tokens.weight"
    yield Entry(
        "embedding",
        "table",
        (shape.vocabulary, hidden),
        (Part(embedding, shape.vocabulary),),
    )
    head = embedding if shape.tied else "lm_head.weight"
    yield _matrix("head", hidden, Part(head, shape.vocabulary))
    yield _vector("norm", Part("model.norm.weight", hidden))
    for layer in range(shape.layers):
        ours, theirs = f"layers.{layer}", f"model.layers.{layer}"
        attention, mlp = f"{theirs}.self_attn", f"{theirs}.mlp"
        yield _vector(f"{ours}.attention_norm", Part(f"{theirs}.input_layernorm.weight", hidden))
        yield _vector(f"{ours}.mlp_norm", Part(f"{theirs}.post_attention_layernorm.weight", hidden))
        sizes = {"q": queries, "k": keys, "v": keys}
        weights = [Part(f"{attention}.{n}_proj.weight", rows) for n, rows in sizes.items()]
        yield _matrix(f"{ours}.qkv", hidden, *weights)
        biases = [Part(f"{attention}.{n}_proj.bias", rows) for n, rows in sizes.items()]
        yield _vector(
            f"{ours}.qkv.bias",
            *(biases if shape.biases else [Part(None, part.rows) for part in biases]),
        )
        if shape.head_norms:
            for norm in ("q_norm", "k_norm"):
                yield _vector(f"{ours}.{norm}", Part(f"{attention}.{norm}.weight", shape.head_dim))
        yield _matrix(f"{ours}.out", queries, Part(f"{attention}.o_proj.weight", hidden))
        yield _matrix(
            f"{ours}.gate_up",
            hidden,
            Part(f"{mlp}.gate_proj.weight", shape.feed_forward),
            Part(f"{mlp}.up_proj.weight", shape.feed_forward),
        )
        yield _matrix(f"{ours}.down", shape.feed_forward, Part(f"{mlp}.down_proj.weight", hidden))


def _audio(shape: AudioShape) -> Iterator[Entry]:
    width, tower = shape.width, "audio_tower"
    yield from _convolutions(shape, tower)
    for layer in range(shape.layers):
        ours, theirs = f"audio.layers.{layer}", f"{tower}.layers.{layer}"
        for norm in ("self_attn_layer_norm", "final_layer_norm"):
            yield from _affine(f"{ours}.{norm}", f"{theirs}.{norm}", width)
        attention = [f"{theirs}.self_attn.{name}_proj" for name in "qkv"]
        yield _matrix(f"{ours}.qkv", width, *(Part(f"{n}.weight", width) for n in attention))
        queries, keys, values = (Part(f"{name}.bias", width) for name in attention)
        keys = keys if shape.channels else Part(None, width)
        yield _vector(f"{ours}.qkv.bias", queries, keys, values)
        for name, source, columns, rows in (
            ("out", "self_attn.out_proj", width, width),
            ("fc1", "fc1", width, shape.feed_forward),
            ("fc2", "fc2", shape.feed_forward, width),
        ):
            yield from _linear(f"{ours}.{name}", f"{theirs}.{source}", rows, columns)
    norm = "layer_norm" if shape.whole else "ln_post"
    yield from _affine("audio.ln_post", f"{tower}.{norm}", width)
    beside = f"projector.linear{'_1' if shape.deep else ''}"
    projection = beside if shape.whole or shape.channels else f"{tower}.proj"
    bare, inner = shape.projected_bare, width if shape.channels else shape.output
    yield from _linear("audio.proj", projection, inner, width, bare=bare)
    if shape.deep:
        yield from _linear("audio.proj2", "projector.linear_2", shape.output, inner, bare=bare)
    if shape.whole:
        positions = Part(f"{tower}.embed_positions.weight", shape.positions)
        yield Entry("audio.positions", "vector", (shape.positions, width), (positions,))


def _convolutions(shape: AudioShape, tower: str) -> Iterator[Entry]:
    channels, width = shape.channels, shape.width
    sizes: dict[str, tuple[int, ...]] = (
        {
            "conv2d1": (channels, 1, 3, 3),
            "conv2d2": (channels, channels, 3, 3),
            "conv2d3": (channels, channels, 3, 3),
        }
        if channels
        else {"conv1": (width, shape.mel_bins, 3), "conv2": (width, width, 3)}
    )
    for name, size in sizes.items():
        weight = Part(f"{tower}.{name}.weight", size[0])
        yield Entry(f"audio.{name}", "vector", size, (weight,))
        yield _vector(f"audio.{name}.bias", Part(f"{tower}.{name}.bias", size[0]))
    if channels:
        yield _matrix("audio.conv_out", shape.convolved, Part(f"{tower}.conv_out.weight", width))


def _halved(size: int) -> int:
    """What three convolutions with a stride of two leave of ``size``."""
    for _ in range(3):
        size = (size + 1) // 2
    return size


def _matrix(name: str, columns: int, *parts: Part) -> Entry:
    return Entry(name, "matrix", (sum(part.rows for part in parts), columns), parts)


def _vector(name: str, *parts: Part) -> Entry:
    return Entry(name, "vector", (sum(part.rows for part in parts),), parts)


def _affine(name: str, source: str, size: int) -> Iterator[Entry]:
    yield _vector(f"{name}.weight", Part(f"{source}.weight", size))
    yield _vector(f"{name}.bias", Part(f"{source}.bias", size))


def _linear(
    name: str, source: str, rows: int, columns: int, *, bare: bool = False
) -> Iterator[Entry]:
    """A product and what is added to it: zeros where the family adds nothing (``bare``)."""
    yield _matrix(name, columns, Part(f"{source}.weight", rows))
    yield _vector(f"{name}.bias", Part(None if bare else f"{source}.bias", rows))
