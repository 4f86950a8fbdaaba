"""Models that have no family of their own here: transformers' classes run them, as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from edgecloud.models.families.contract import Family

if TYPE_CHECKING:
    from edgecloud.models.networks import Network

__all__ = ["GeneralFamily", "general_family"]

_WRITERS = ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel")
"""Endings of the classes that write text, by which a config.json names its architecture."""


class GeneralFamily(Family):
    """Any model of ``AutoModelForCausalLM``, with text; made by :func:`general_family`."""

    parts = MappingProxyType({"": ""})
    accepts_audio = False
    fast = False
    end_tokens: ClassVar[Sequence[str]] = ()

    def network(self, config: Mapping[str, Any]) -> Network:
        """The network of its config.json, as :class:`Family` declares.

        Raises:
            ModelError: transformers has no such model, or one whose state cannot be rolled back.
        """
        from edgecloud.models.general import GeneralNetwork

        return GeneralNetwork(self.model_type, dict(config))


def general_family(config: Mapping[str, Any]) -> Family | None:
    """The family of a model that writes text, by its config.json; None: it names no such architecture."""
    names = config.get("architectures")
    if not isinstance(names, list) or not str(names[:1] and names[0]).endswith(_WRITERS):
        return None
    return GeneralFamily(str(config.get("model_type")))
