"""Options of the experiments, and hooks of pytest-benchmark. Standard library only, so that
``pytest-benchmark compare``, which imports this file, starts at once."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from edgecloud.errors import PluginError
from edgecloud.registry import load_plugins
from edgecloud.settings.options import add_options, add_plugin_option


def pytest_addoption(parser: pytest.Parser) -> None:
    """Every setting, in both spellings; a suite ignores those of another experiment."""
    group = parser.getgroup("edgecloud", "edge-cloud experiments (pytest bench)")
    add_options(group.addoption)
    add_plugin_option(group.addoption)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Load what other packages bring before settings are checked and conformance suites are collected."""
    try:
        load_plugins(config.getoption("plugin"))
    except PluginError as error:
        raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Drop the processor's momentary clock: it differs each time and makes ``compare`` warn."""
    for key in [key for key in machine_info.get("cpu", {}) if key.startswith("hz_actual")]:
        del machine_info["cpu"][key]


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_benchmark_compare_machine_info(
    benchmarksession: Any, machine_info: dict[str, Any], compared_benchmark: dict[str, Any]
) -> None:
    """Say in one line what differs of the machines, in the place of the plugin's own check: that counts
    the momentary clock of older files, and fails where the storage lies outside the working folder."""
    now, then = _leaves(machine_info), _leaves(compared_benchmark.get("machine_info") or {})
    told = [
        f"{key} {then.get(key)} → {now.get(key)}"
        for key in dict.fromkeys((*then, *now))
        if now.get(key) != then.get(key) and "hz_actual" not in key and key != "node"
    ]
    if told:
        more = f"; {len(told) - 4} more" if len(told) > 4 else ""
        benchmarksession.logger.info(
            f"The compared run is of another machine: {'; '.join(told[:4])}{more}"
        )
    compared_benchmark["machine_info"] = machine_info


def _leaves(info: dict[str, Any]) -> dict[str, Any]:
    info = json.loads(json.dumps(info, default=str))  # as the file of the other run has it
    cpu = info.get("cpu") or {}
    outer = {key: value for key, value in info.items() if key != "cpu"}
    return {**outer, **{f"cpu.{key}": value for key, value in cpu.items()}}


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
