"""Rotary embeddings: the kinds whose frequencies are the same at every length, and where others change. No torch."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["ROPES", "context_of", "longest_of"]

ROPES: Final = ("default", "linear", "llama3", "yarn")
"""``rope_type`` of those that the fast path computes once for all positions."""


def longest_of(text: Any) -> int | None:
    """Tokens beyond which rotary frequencies are others for all of a text (longrope), so that what a cache holds of it
    is no longer right, by the configuration of a text model of transformers; None: there is no such border."""
    ropes = getattr(text, "rope_parameters", None) or {}
    if ropes.get("rope_type") != "longrope":
        return None
    return int(ropes["original_max_position_embeddings"])


def context_of(text: Any) -> int | None:
    """Tokens that transformers' own forward takes here, prompt and answer together, by the configuration of a text model
    of transformers: what it was made for, up to :func:`longest_of`; None where it does not say."""
    found = longest_of(text) or getattr(text, "max_position_embeddings", None)
    return None if found is None else int(found)
