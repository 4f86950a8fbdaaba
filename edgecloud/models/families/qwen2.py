"""Qwen2.5 and Qwen2 for text alone."""

from __future__ import annotations

from edgecloud.models.families.contract import Family, family
from edgecloud.models.families.text import TextFamily

__all__ = ["Qwen2"]


@family("qwen2")
class Qwen2(TextFamily):
    """Qwen2's text model, which Qwen2.5 has too, and its output layer."""

    title = "Qwen2 text model"
    architecture = "qwen2"
    end_tokens = Family.end_tokens
