"""Tolerances of the regression check, read from a TOML file (``bench/gate.toml`` explains every key)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from edgecloud.errors import ConfigError
from edgecloud.regression.model import ASPECTS, COSTS, TIMES
from edgecloud.textfiles import read_toml

__all__ = ["Policy", "default_tolerances", "load_policy", "score_of"]


def default_tolerances() -> dict[str, float]:
    """By name every score of our metrics that is compared, with the least mean loss that counts unless a policy says
    otherwise, as its metric's registration has it."""
    # All metrics are imported, which most files of other projects do not need.
    from edgecloud.quality.metric import values

    return {
        name: value.tolerance for name, value in values().items() if value.tolerance is not None
    }


def _optional_scores() -> tuple[str, ...]:
    """Scores that need more than every installation has."""
    from edgecloud.quality import METRICS

    return tuple(
        value.name
        for metric in METRICS.values()
        for value in metric.values
        if metric.optional and value.tolerance is not None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Tolerances are relative for times, absolute for scores (in each score's unit).

    ``quality`` has the least losses of our own scores that a file gives: the others are those of
    :func:`default_tolerances`; ``scores`` those of other projects. ``optional_scores`` are by default those that
    need more than every installation has.
    ``rows`` are those of single rows: a name, in which a star stands for anything, and the tolerances of measured
    time (``tolerance``) and of scores there; of several that fit the first counts. ``lower`` are the scores of
    other projects of which a lower value is better.
    """

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
    optional_scores: tuple[str, ...] | None = None
    quality: Mapping[str, float] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    rows: tuple[tuple[str, Mapping[str, float]], ...] = ()
    lower: frozenset[str] = frozenset()
    source: str = "built-in"

    def wall_tolerance_of(self, row: str) -> float:
        """The tolerance of the measured time of a row."""
        return self._of_row(row).get("tolerance", self.wall_tolerance)

    def loss_of(self, score: str, row: str) -> float:
        """The least loss of a score of a row that counts."""
        for given in (self._of_row(row), self.scores, self.quality):
            if score in given:
                return given[score]
        return default_tolerances()[score]

    def judges(self, score: str) -> bool:
        """True where losses of this score are looked at."""
        return score in self.scores or score in default_tolerances()

    def optional(self, score: str) -> bool:
        """True where a score may be missing, or from another scorer."""
        names = self.optional_scores
        return score in (_optional_scores() if names is None else names)

    def sign_of(self, score: str) -> float:
        """-1 where a lower value of the score is better, else 1."""
        if score in self.scores:
            return -1.0 if score in self.lower else 1.0
        from edgecloud.quality.metric import score_sign

        return score_sign(score)

    def _of_row(self, row: str) -> Mapping[str, float]:
        # Brackets are part of rows' names, as in test_sort[1000].
        fits = (own for name, own in self.rows if fnmatchcase(row, name.replace("[", "[[]")))
        return next(fits, {})

    def allows(self, aspect: str, key: str) -> bool:
        """True when a difference in this field of an aspect only deserves a note."""
        if aspect == "scorers" and self.optional(score_of(key)):
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
    others = content.pop("scores", {})
    if isinstance(others, dict) and all(isinstance(about, dict) for about in others.values()):
        values["scores"] = _others(others, values, problems) if others else {}
    else:
        problems.append("scores: must hold tables, such as [scores.accuracy]")
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
            values[key] = _losses("quality", value, default_tolerances(), problems)
        elif key == "rows" and isinstance(value, dict):
            values[key] = _rows(value, values.get("scores", {}), problems)
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


def _others(
    tables: Mapping[str, Mapping[str, Any]], values: dict[str, Any], problems: list[str]
) -> dict[str, float]:
    """The scores of another project, with the least loss of each that counts."""
    lower = set()
    for name, about in tables.items():
        better = about.get("higher_is_better", True)
        if name in default_tolerances() or set(about) - {"tolerance", "higher_is_better"}:
            problems.append(f"scores.{name}: takes tolerance and higher_is_better, of a new name")
        if not isinstance(better, bool):
            problems.append(f"scores.{name}.higher_is_better: {better!r} is not true or false")
        elif not better:
            lower.add(name)
    values["lower"] = frozenset(lower)
    losses = {name: about.get("tolerance") for name, about in tables.items()}
    return _losses("scores", losses, tables, problems)


def _rows(
    tables: Mapping[str, Any], others: Mapping[str, float], problems: list[str]
) -> tuple[tuple[str, Mapping[str, float]], ...]:
    """The tolerances of single rows, in the file's order."""
    found = []
    for name, own in tables.items():
        if not isinstance(own, dict):
            problems.append(f"rows.{name}: is no table of tolerances")
            continue
        known = ["tolerance", *others]
        if not own.keys() <= {*known}:
            known += default_tolerances()
        found.append((name, _losses(f"rows.{name}", own, known, problems)))
    return tuple(found)


def _losses(
    where: str, table: Mapping[str, Any], known: Iterable[str], problems: list[str]
) -> dict[str, float]:
    found, names = {}, tuple(known)
    for name, value in table.items():
        if name not in names:
            problems.append(f"{where}.{name}: unknown; one of {', '.join(names)}")
        elif isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            problems.append(f"{where}.{name}: {value!r} is not a number from 0 on")
        else:
            found[name] = float(value)
    return found
