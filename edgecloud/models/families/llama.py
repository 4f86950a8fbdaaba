"""Llama 2 and 3, SmolLM2 and others of their layers."""

from __future__ import annotations

from edgecloud.models.families.contract import family
from edgecloud.models.families.text import TextFamily

__all__ = ["Llama"]


@family("llama")
class Llama(TextFamily):
    """Llama's text model: no biases, Llama 3's scaled rotary embeddings."""

    title = "Llama text model"
    architecture = "llama"
