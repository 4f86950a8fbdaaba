"""Files of the calibrated gate: what `edgecloud calibrate` fits and a run reads."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgecloud.decoding.gates import TERMS, Calibration
from edgecloud.errors import ConfigError

__all__ = ["EMBEDDED", "SCHEMA", "calibration", "to_json"]

SCHEMA = "edgecloud-calibration/2"
EMBEDDED = Path(__file__).parent / "reference" / "calibration.json"
"""The embedded pair's own, fitted to both languages, to default and detailed captions."""


def to_json(fitted: Calibration, **about: Any) -> dict[str, Any]:
    """The content of a calibration file; ``about`` says where it comes from."""
    return {
        "schema": SCHEMA,
        "intercept": fitted.intercept,
        "weights": dict(zip(TERMS, fitted.weights, strict=True)),
        **about,
    }


def calibration(path: str | Path | None) -> Calibration:
    """The calibration in a file; ``None``: the embedded pair's.

    Raises:
        ConfigError: there is no such file, or it is none.
    """
    path = EMBEDDED if path is None else Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"calibration {path}: {error.strerror or error}; make one with `edgecloud calibrate`"
        ) from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"calibration {path} is not JSON: {error}") from error
    weights = content.get("weights") if isinstance(content, dict) else None
    if not isinstance(weights, Mapping) or content.get("schema") != SCHEMA:
        raise ConfigError(f"calibration {path} is no file of `edgecloud calibrate` ({SCHEMA})")
    values = [content.get("intercept"), *(weights.get(name) for name in TERMS)]
    if set(weights) != set(TERMS) or not all(
        isinstance(value, int | float) and math.isfinite(value) for value in values
    ):
        raise ConfigError(
            f"calibration {path}: an intercept and a weight for each of {len(TERMS)} terms were "
            "expected; make it again with `edgecloud calibrate`"
        )
    return Calibration(float(values[0]), tuple(float(value) for value in values[1:]))
