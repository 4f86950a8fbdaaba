"""Tolerances of the regression check, read from a TOML file (``bench/gate.toml`` explains every key)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgecloud.errors import ConfigError
from edgecloud.quality import METRICS
from edgecloud.regression.model import ASPECTS
from edgecloud.regression.result_rows import COSTS, TIMES, default_tolerances
from edgecloud.textfiles import read_toml

__all__ = ["Policy", "load_policy", "score_of"]


def _optional_scores() -> tuple[str, ...]:
    """Scores that need more than every installation has."""
    return tuple(
        value.name
        for metric in METRICS.values()
        for value in metric.values
        if metric.optional and value.tolerance is not None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Tolerances are relative for times, absolute for scores (``quality``, in each score's unit)."""

    allow: tuple[str, ...] = ()
    undecided: Literal["warn", "fail"] = "warn"
    wall_quantities: tuple[str, ...] = TIMES
    wall_tolerance: float = 0.05
    wall_level: float = 0.95
    wall_resamples: int = 2000
    wall_min_samples: int = 5
    modelled_quantities: tuple[str, ...] = (*TIMES, *COSTS)
    modelled_tolerance: float = 0.005
    modelled_other_texts: float = 0.1
    optional_scores: tuple[str, ...] = field(default_factory=_optional_scores)
    quality: Mapping[str, float] = field(default_factory=default_tolerances)
    source: str = "built-in"

    def allows(self, aspect: str, key: str) -> bool:
        """True when a difference in this field of an aspect only deserves a note."""
        if aspect == "scorers" and score_of(key) in self.optional_scores:
            return True
        return aspect in self.allow or f"{aspect}.{key}" in self.allow


def score_of(key: str) -> str:
    """The score that a field of the aspect ``scorers`` is about.

    >>> score_of("en.ptb.meteor.library")
    'meteor'
    """
    return key.split(".")[-2] if "." in key else key


_RANGES: dict[str, tuple[float, float]] = {
    "wall_tolerance": (0.0, 10.0),
    "wall_level": (0.5, 0.999),
    "wall_resamples": (100, 100_000),
    "wall_min_samples": (2, 100_000),
    "modelled_tolerance": (0.0, 10.0),
    "modelled_other_texts": (0.0, 1.0),
}
_WHOLE = ("wall_resamples", "wall_min_samples")


def load_policy(path: Path) -> Policy:
    """The policy in a TOML file, built-in values where it is silent.

    Raises:
        ConfigError: it cannot be read, or holds an unknown key or a value out of range; lists them all.
    """
    content = read_toml(path, what="policy", error=ConfigError, advice="check --policy")
    problems: list[str] = []
    values: dict[str, Any] = {"source": str(path)}
    for key, value in content.items():
        if key == "allow":
            values[key] = _names(key, value, None, problems)
        elif key == "undecided":
            if value not in ("warn", "fail"):
                problems.append(f"undecided: {value!r} is neither 'warn' nor 'fail'")
            values[key] = value
        elif key == "optional_scores":
            values[key] = _names(key, value, tuple(default_tolerances()), problems)
        elif key == "quality" and isinstance(value, dict):
            values[key] = {**default_tolerances(), **_losses(value, problems)}
        elif key in ("wall", "modelled") and isinstance(value, dict):
            for name, item in value.items():
                _table_value(f"{key}_{name}", item, values, problems)
        else:
            problems.append(f"{key}: unknown")
    problems += [
        f"allow: {entry!r} is none of {', '.join(ASPECTS)}"
        for entry in values.get("allow", ())
        if entry.partition(".")[0] not in ASPECTS
    ]
    if problems:
        raise ConfigError("\n  ".join([f"policy {path} is wrong:", *problems]))
    return Policy(**values)


def _table_value(name: str, item: Any, values: dict[str, Any], problems: list[str]) -> None:
    if name in ("wall_quantities", "modelled_quantities"):
        values[name] = _names(name, item, (*TIMES, *COSTS), problems)
    elif name not in _RANGES:
        problems.append(f"{name.replace('_', '.', 1)}: unknown")
    else:
        low, high = _RANGES[name]
        kinds = int if name in _WHOLE else (int, float)
        if isinstance(item, bool) or not isinstance(item, kinds) or not low <= item <= high:
            problems.append(f"{name.replace('_', '.', 1)}: {item!r} is not in {low:g}..{high:g}")
        else:
            values[name] = item


def _names(
    key: str, value: Any, known: tuple[str, ...] | None, problems: list[str]
) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        problems.append(f"{key}: must be a list of names")
        return ()
    if known is not None:
        problems += [f"{key}: {item!r} is unknown" for item in value if item not in known]
    return tuple(value)


def _losses(table: Mapping[str, Any], problems: list[str]) -> dict[str, float]:
    found, known = {}, default_tolerances()
    for name, value in table.items():
        if name not in known:
            problems.append(f"quality.{name}: unknown; one of {', '.join(known)}")
        elif isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            problems.append(f"quality.{name}: {value!r} is not a number from 0 on")
        else:
            found[name] = float(value)
    return found
