"""Files of the calibrated gate: what `edgecloud calibrate` fits and a run reads; a preset of `edgecloud tune` holds one.

A file holds a model for each language and prompt type it was fitted to, ``chinese/default``, since what
the edge is unsure of, and where in a caption, differs between them; and ``any``, fitted to all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgecloud.decoding.gates import TERMS, Calibration
from edgecloud.embedded.pair import FOLDER as PAIR
from edgecloud.errors import ConfigError
from edgecloud.settings.presets import PRESET_SCHEMA
from edgecloud.textfiles import read_json

__all__ = ["ANY", "EMBEDDED", "SCHEMA", "calibration", "content", "key", "to_json"]

SCHEMA = "edgecloud-calibration/1"
ANY = "any"
EMBEDDED = PAIR / "calibration.json"
"""The embedded pair's own."""


def key(language: str, prompt_type: str) -> str:
    """The key of a language and prompt type in a file."""
    return f"{language}/{prompt_type}"


def to_json(models: Mapping[str, Calibration], **about: Any) -> dict[str, Any]:
    """The content of a calibration file; ``about`` says where it comes from."""
    return {
        "schema": SCHEMA,
        "models": {
            name: {
                "intercept": fitted.intercept,
                "weights": dict(zip(TERMS, fitted.weights, strict=True)),
            }
            for name, fitted in models.items()
        },
        **about,
    }


def calibration(path: str | Path | None, *, language: str, prompt_type: str) -> Calibration:
    """The model for a language and prompt type in a file; the one for any, where it has none of its
    own. ``None``: the embedded pair's file.

    Raises:
        ConfigError: there is no such file, or it is none.
    """
    models = content(path)["models"]
    found = models.get(key(language, prompt_type), models[ANY])
    return _model(found, EMBEDDED if path is None else Path(path))


def content(path: str | Path | None) -> dict[str, Any]:
    """The content of a calibration file; ``None``: the embedded pair's.

    Raises:
        ConfigError: there is no such file, or it is none.
    """
    path = EMBEDDED if path is None else Path(path)
    found = read_json(
        path, what="calibration", error=ConfigError, advice="make one with `edgecloud calibrate`"
    )
    if isinstance(found, dict) and found.get("schema") == PRESET_SCHEMA:
        found = found.get("calibration")
    models = found.get("models") if isinstance(found, dict) else None
    if not isinstance(models, dict) or found.get("schema") != SCHEMA or ANY not in models:
        raise ConfigError(f"calibration {path} is no file of `edgecloud calibrate` ({SCHEMA})")
    whole: dict[str, Any] = found
    return whole


def _model(found: Any, path: Path) -> Calibration:
    weights = found.get("weights") if isinstance(found, dict) else None
    values = [found.get("intercept"), *weights.values()] if isinstance(weights, dict) else []
    sound = all(_is_finite(value) for value in values)
    if not isinstance(weights, dict) or set(weights) != set(TERMS) or not sound:
        raise ConfigError(
            f"calibration {path}: an intercept and a weight for each of {len(TERMS)} terms were "
            "expected; make it again with `edgecloud calibrate`"
        )
    return Calibration(float(found["intercept"]), tuple(float(weights[term]) for term in TERMS))


def _is_finite(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False
