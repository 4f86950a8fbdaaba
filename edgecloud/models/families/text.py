"""Models of text alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from edgecloud.models.families.contract import Family
from edgecloud.models.ropes import ROPES

if TYPE_CHECKING:
    from edgecloud.models.networks import Network

__all__ = ["TextFamily"]


class TextFamily(Family):
    """A text model and its output layer, in layers that :mod:`edgecloud.models.decoder` runs. What its
    answers end with is the checkpoint's own to say."""

    parts = MappingProxyType({"model.": "model.", "lm_head.": "lm_head."})
    needed = (("hidden_size",), ("num_hidden_layers",), ("vocab_size",))
    accepts_audio = False
    end_tokens: ClassVar[Sequence[str]] = ()
    architecture: ClassVar[str]
    """The ``model_type`` of transformers whose classes are its modules."""

    def fits(self, config: Mapping[str, Any]) -> bool:
        """True for the layers that :func:`edgecloud.models.layout.layout_of` knows."""
        ropes = [config.get(name) for name in ("rope_parameters", "rope_scaling")]
        rope = next((found for found in ropes if isinstance(found, dict)), {})
        return (
            config.get("hidden_act", "silu") == "silu"
            and not config.get("mlp_bias")
            and not config.get("attention_bias")
            and (rope.get("rope_type") or rope.get("type") or "default") in ROPES
            and rope.get("partial_rotary_factor", 1.0) == 1.0
        )

    def network(self, config: Mapping[str, Any]) -> Network:
        """The network of its config.json, as :class:`Family` declares."""
        from edgecloud.models.networks import TextNetwork

        return TextNetwork(self.architecture, dict(config))
