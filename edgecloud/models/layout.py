"""The layout of a text model's layers: what differs between those that our own forwards know.

All of them are a norm, attention with rotary embeddings over grouped heads, a norm, and a gated feed-forward;
families differ in biases, norms of heads, the size of a head and the reach of attention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgecloud.errors import ModelError
from edgecloud.models.ropes import ROPES

if TYPE_CHECKING:
    from edgecloud.models.networks import TextModel

__all__ = ["Layout", "layout_of"]


@dataclass(frozen=True, slots=True)
class Layout:
    """Dimensions and variants of the layers; ``windows`` has for each layer how many of the last tokens it
    attends to, None: all."""

    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    feed_forward: int
    epsilon: float
    biases: bool
    """True when the projections of queries, keys and values have biases."""
    head_norms: bool
    """True when each head of queries and keys is normalized before it is rotated."""
    windows: tuple[int | None, ...]


def layout_of(model: TextModel) -> Layout:
    """The layout of ``model``, whose tensors may be on the meta device.

    Raises:
        ModelError: its layers have something that our own forwards do not know.
    """
    config = model.config
    first: Any = model.layers[0]
    attention, mlp = first.self_attn, first.mlp
    rope = config.rope_parameters or {}
    odd = [
        said
        for said, found in (
            (f"the activation {config.hidden_act}", config.hidden_act != "silu"),
            ("biases behind attention", attention.o_proj.bias is not None),
            (
                "biases in the feed-forward",
                any(m.bias is not None for m in (mlp.gate_proj, mlp.up_proj, mlp.down_proj)),
            ),
            (
                f"rotary embeddings of the kind {rope.get('rope_type')!r}",
                rope.get("rope_type") not in ROPES or rope.get("partial_rotary_factor", 1.0) != 1.0,
            ),
        )
        if found
    ]
    if odd:
        raise ModelError(
            f"the text model has {' and '.join(odd)}, which the fast path does not know"
        )
    return Layout(
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads or config.num_attention_heads,
        head_dim=attention.head_dim,
        feed_forward=config.intermediate_size,
        epsilon=config.rms_norm_eps,
        biases=attention.q_proj.bias is not None,
        head_norms=hasattr(attention, "q_norm"),
        windows=_windows(config),
    )


def _windows(config: Any) -> tuple[int | None, ...]:
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * config.num_hidden_layers
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)
