"""The kinds of rotary embeddings whose frequencies are the same at every length. No torch."""

from __future__ import annotations

from typing import Final

__all__ = ["ROPES"]

ROPES: Final = ("default", "linear", "llama3", "yarn")
"""``rope_type`` of those that the fast path computes once for all positions."""
