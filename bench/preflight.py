"""What can be known to be wrong before a model is loaded, said in one line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack

import pytest

from bench.plugin_options import check_compared, check_options, written_folders
from edgecloud.datasets.corpus import in_own_language
from edgecloud.edge.messages import Mode
from edgecloud.errors import EdgeCloudError, OutputError
from edgecloud.experiments import readiness
from edgecloud.experiments.readiness import check_writable
from edgecloud.settings.config import Config, check_output_name, resolve
from edgecloud.settings.options import OPTIONS

__all__ = ["check_benchmark_files", "check_plugins", "check_run", "settings"]


def settings(config: pytest.Config) -> Config:
    """The configuration from pytest's options. Raises ``pytest.UsageError``."""
    flags = {option.name: config.getoption(option.name) for option in OPTIONS}
    # A flag that only switches on is "not given" when it is off.
    flags = {name: None if value is False else value for name, value in flags.items()}
    try:
        found = resolve(flags, preset=config.getoption("preset"), file=config.getoption("config"))
        check_output_name(found.output.name)
        return in_own_language(found)
    except EdgeCloudError as error:
        raise pytest.UsageError(str(error)) from None


def check_plugins(config: pytest.Config) -> None:
    """Refuse the ways of calling pytest under which a run would leave no benchmark file behind."""
    if not config.pluginmanager.hasplugin("benchmark"):
        raise pytest.UsageError("bench needs pytest-benchmark: run without -p no:benchmark")
    if config.getoption("dist", "no") != "no" or os.environ.get("PYTEST_XDIST_WORKER"):
        raise pytest.UsageError(
            "bench measures one request at a time and writes nothing under pytest-xdist: "
            "run without -n"
        )
    if config.getoption("benchmark_disable") and not config.getoption("benchmark_enable"):
        raise pytest.UsageError("bench has nothing to do under --benchmark-disable")
    check_options(config)
    check_compared(config)


def check_run(named: Mapping[Mode, Config], *, holding: ExitStack) -> None:
    """:func:`edgecloud.experiments.readiness.check_run`, which raises ``pytest.UsageError`` here."""
    try:
        readiness.check_run(named, holding=holding)
    except EdgeCloudError as error:
        raise pytest.UsageError(str(error)) from None


def check_benchmark_files(config: pytest.Config) -> None:
    """The folders of pytest-benchmark's files, which are written only when everything has run."""
    try:
        for flag, folder in written_folders(config).items():
            check_writable(folder, flag)
        path = config.getoption("benchmark_json")
        if path is not None and path.is_dir():
            raise OutputError(f"--benchmark-json {path} is a folder; name a file")
    except EdgeCloudError as error:
        raise pytest.UsageError(str(error)) from None
