"""One file a metric. Whatever lies here is registered when :mod:`edgecloud.quality` is imported."""

from __future__ import annotations

from importlib import import_module

from edgecloud.registry import import_all

__all__: list[str] = []

_FIRST = (
    "attributes",
    "bleu",
    "rouge",
    "cider",
    "bertscore",
    "meteor",
    "sacre",
    "emotion",
    "lengths",
)
"""Tables show scores in this order; those of further files follow by name."""

for _name in _FIRST:
    import_module(f"{__name__}.{_name}")
import_all(__name__, __path__)
