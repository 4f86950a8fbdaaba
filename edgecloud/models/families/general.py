"""Models that have no family of their own here: transformers' classes run them, as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from edgecloud.models.families.contract import FAMILIES, Family

if TYPE_CHECKING:
    from edgecloud.models.networks import Network

__all__ = ["GeneralFamily", "general_family", "unsupported", "whole_config"]

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

    def context(self, config: Mapping[str, Any]) -> int | None:
        """As declared: no more than its rotary embeddings are the same for."""
        from edgecloud.models.ropes import context_of

        return context_of(whole_config(self.model_type, config).get_text_config(decoder=True))


def whole_config(model_type: str, config: Mapping[str, Any]) -> Any:
    """transformers' own configuration of a config.json's content; errors are of many kinds."""
    from transformers import AutoConfig

    given = {name: value for name, value in config.items() if name != "model_type"}
    return AutoConfig.for_model(model_type, **given)


def general_family(config: Mapping[str, Any]) -> Family | None:
    """The family of a model that writes text, by its config.json; None: it names no such architecture."""
    names = config.get("architectures")
    if not isinstance(names, list) or not str(names[:1] and names[0]).endswith(_WRITERS):
        return None
    return GeneralFamily(str(config.get("model_type")))


def unsupported(model_type: object) -> str:
    """What is wrong with a config.json of a ``model_type`` that neither a family here nor transformers has."""
    return (
        f"config.json says model_type {model_type!r}; supported: {', '.join(map(repr, FAMILIES))}, and what "
        f"AutoModelForCausalLM and AutoModelForMultimodalLM of transformers {version('transformers')} have"
        f"{FAMILIES.elsewhere()}"
    )
