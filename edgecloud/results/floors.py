"""Quality floors: the least that a pair of models must reach, and when that is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgecloud.quality.metric import value_of_key
from edgecloud.settings.naming import kind

if TYPE_CHECKING:
    from edgecloud.results.result import Metrics

__all__ = ["check_floors", "unusable_floors"]


def unusable_floors(floors: Any) -> str | None:
    """The reason why nobody can judge by the content of a floors file; ``None``: it is sound.

    >>> unusable_floors({"settings": {}, "settings_spec": {}})
    'floors is not a table'
    """
    if not isinstance(floors, Mapping):
        return "it is not a table"
    for name in ("settings", "settings_spec", "floors"):
        if not isinstance(floors.get(name), Mapping):
            return f"{name} is not a table"
    for language, arms in floors["floors"].items():
        if not isinstance(arms, Mapping):
            return f"floors.{language} is not a table"
        for arm, wanted in arms.items():
            if not isinstance(wanted, Mapping):
                return f"floors.{language}.{arm} is not a table"
            for name, least in wanted.items():
                if isinstance(least, bool) or not isinstance(least, int | float):
                    return f"floors.{language}.{arm}.{name} is not a number"
    return None


def check_floors(
    floors: Mapping[str, Any],
    *,
    mode: str,
    config: Mapping[str, Any],
    metrics: Metrics,
    corpus_size: int,
) -> dict[str, Any]:
    """The ``quality_floors`` block of a result.

    ``status`` is ``passed``, ``failed`` (then ``missed`` says what) or ``not asserted`` (then ``why``
    says why). ``corpus_size`` is the number of samples in the whole manifest.
    """
    arm = kind(mode, config["acceptance"]).replace(" ", "-")
    wanted = floors["floors"].get(config["language"], {}).get(arm, {})
    reasons = _other_settings(floors, mode, config)
    if metrics.num_samples < corpus_size:
        reasons.append(f"{metrics.num_samples} of the corpus's {corpus_size} samples were run")
    if metrics.num_failed:
        reasons.append(f"{metrics.num_failed} samples failed")
    if not wanted:
        reasons.append(f"floors.toml names none for {config['language']} {arm}")
    if reasons:
        return {"status": "not asserted", "why": "; ".join(reasons)}
    found = {name: metrics.value(name) for name in wanted}
    missed = [
        f"{name} is {_number(found[name])}, the floor is {_number(least)}"
        for name, least in wanted.items()
        if _worse(name, found[name], least)
    ]
    block = {"status": "failed" if missed else "passed", "floors": dict(wanted)}
    return {**block, "missed": missed} if missed else block


def _other_settings(floors: Mapping[str, Any], mode: str, config: Mapping[str, Any]) -> list[str]:
    wanted = {**floors["settings"], **(floors["settings_spec"] if mode == "spec" else {})}
    return [
        f"{name} is {config.get(name)!r}"
        for name, value in wanted.items()
        if config.get(name) != (None if value == "" else value)
    ]


def _worse(name: str, found: float | None, floor: float) -> bool:
    """No value, or one below the floor, or above it where a lower value is better."""
    value = value_of_key(name)
    return found is None or (found - floor) * (1.0 if value is None else value.sign) < 0


def _number(value: float | None) -> str:
    return "null" if value is None else f"{value:.4g}"
