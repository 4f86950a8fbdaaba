"""Qwen3 for text alone."""

from __future__ import annotations

from edgecloud.models.families.contract import family
from edgecloud.models.families.text import TextFamily

__all__ = ["Qwen3"]


@family("qwen3")
class Qwen3(TextFamily):
    """Qwen3's text model: no biases, and a norm for each head of queries and keys."""

    title = "Qwen3 text model"
    architecture = "qwen3"
