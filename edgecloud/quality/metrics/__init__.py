"""One file a metric. Whatever lies here is registered when :mod:`edgecloud.quality` is imported."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

__all__: list[str] = []

_FIRST = ("bleu", "rouge", "cider", "bertscore", "meteor", "sacre", "emotion", "lengths")
"""Tables show scores in this order; those of further files follow by name."""

for _name in dict.fromkeys((*_FIRST, *sorted(module.name for module in iter_modules(__path__)))):
    import_module(f"{__name__}.{_name}")
