"""Mistral 7B and others of its layers."""

from __future__ import annotations

from edgecloud.models.families.contract import family
from edgecloud.models.families.text import TextFamily

__all__ = ["Mistral"]


@family("mistral")
class Mistral(TextFamily):
    """Mistral's text model: Llama's layers; the first version attends to a sliding window."""

    title = "Mistral text model"
    architecture = "mistral"
