"""Options of the experiments, and hooks of pytest-benchmark. Standard library only, so that
``pytest-benchmark compare``, which imports this file, starts at once."""

from __future__ import annotations

import math
from typing import Any

import pytest

from edgecloud.options import add_options


def pytest_addoption(parser: pytest.Parser) -> None:
    """Every setting, in both spellings; a suite ignores those of another experiment."""
    add_options(parser.getgroup("edgecloud", "edge-cloud experiments (pytest bench)").addoption)


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Drop the processor's momentary clock: it differs each time and makes ``compare`` warn."""
    for key in [key for key in machine_info.get("cpu", {}) if key.startswith("hz_actual")]:
        del machine_info["cpu"][key]


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Keep the file valid JSON: numbers that JSON has no word for become null."""
    for key, value in list(output_json.items()):
        output_json[key] = _clean(value)


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value
