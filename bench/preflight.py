"""What can be known to be wrong before a model is loaded, said in one line."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench import floors
from bench.plugin_options import check_compared, check_options, written_folders
from edgecloud.datasets.corpus import in_own_language, load_corpus
from edgecloud.edge.messages import Mode
from edgecloud.errors import CheckpointError, EdgeCloudError, OutputError
from edgecloud.experiments.checking import check_models, remote_facts
from edgecloud.models.hub import locate
from edgecloud.results.files import held
from edgecloud.results.kept import journal_path, result_path
from edgecloud.settings.config import Config, check_output_name, resolve
from edgecloud.settings.options import OPTIONS

__all__ = ["check_benchmark_files", "check_plugins", "check_run", "settings"]

_SIDES = {"edge": ("edge",), "cloud": ("cloud",), "spec": ("edge", "cloud")}


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
    """Data, quality floors, models, clouds and output of a run of experiments, each with its settings. The names of
    the results are this process's until ``holding`` closes. Raises ``pytest.UsageError``."""
    config = next(iter(named.values()))
    try:
        floors.load()
        corpus, _ = load_corpus(config)
        for folder in ("results", "journals"):
            _check_writable(Path(config.output.folder) / folder, "--output-dir")
        for mode, own in named.items():
            holding.enter_context(held(result_path(mode, own)))
            with held(journal_path(mode, own)):
                pass  # nobody writes it who has no result of this name
        _check_clouds(named)
        for side in dict.fromkeys(side for mode in named for side in _SIDES[mode]):
            _check_model(side, getattr(config.models, side))
        check_models(
            list(named.items()),
            samples=corpus[: config.data.max_samples][config.run.shard_slice],
            together=config.run.interleave,
        )
    except EdgeCloudError as error:
        raise pytest.UsageError(str(error)) from None


def check_benchmark_files(config: pytest.Config) -> None:
    """The folders of pytest-benchmark's files, which are written only when everything has run."""
    try:
        for flag, folder in written_folders(config).items():
            _check_writable(folder, flag)
        path = config.getoption("benchmark_json")
        if path is not None and path.is_dir():
            raise OutputError(f"--benchmark-json {path} is a folder; name a file")
    except EdgeCloudError as error:
        raise pytest.UsageError(str(error)) from None


def _check_clouds(named: Mapping[Mode, Config]) -> None:
    """Whether the cloud of a URL answers, as it does when the run begins."""
    asked = {own.service.url: own for mode, own in named.items() if mode != "edge"}
    for url, own in asked.items():
        if url != "local":
            remote_facts(own)


def _check_model(side: str, model: str | None) -> None:
    """Whether a model is there; what a hub has is fetched here, before anything starts."""
    if model is None:
        return
    if not (Path(locate(model).path) / "config.json").is_file():
        raise CheckpointError(
            f"{side} model {model} is not a checkpoint folder (it holds no config.json); "
            f"check --{side}-model"
        )


def _check_writable(folder: Path, flag: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"cannot write into {folder}: {error.strerror or error}; choose another {flag}"
        ) from error
