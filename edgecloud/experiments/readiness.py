"""What can be known to be wrong with a run before a model is loaded, and the names of its files."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from edgecloud.datasets.corpus import load_corpus
from edgecloud.edge.messages import Mode
from edgecloud.errors import CheckpointError, OutputError
from edgecloud.experiments import floors
from edgecloud.experiments.checking import check_models, model_of, remote_facts
from edgecloud.files import held
from edgecloud.results.kept import journal_path, result_path
from edgecloud.settings.config import Config

__all__ = ["check_run", "check_writable", "named"]

_SIDES = {"edge": ("edge",), "cloud": ("cloud",), "spec": ("edge", "cloud")}


def named(config: Config, modes: Sequence[Mode]) -> dict[Mode, Config]:
    """The settings of each experiment of a run, with the name of its result."""
    return {mode: config.changed(output_name=_output_name(config, mode, modes)) for mode in modes}


def _output_name(config: Config, mode: Mode, modes: Sequence[Mode]) -> str:
    """``NAME``; ``NAME-edge`` when several suites run; ``edge_results`` when no name is given. A shard
    has a name of its own, ``NAME-1of4``, so that several can write into one folder."""
    name = f"{mode}_results"
    if config.output.name is not None:
        name = f"{config.output.name}-{mode}" if len(modes) > 1 else config.output.name
    return name if config.run.shard is None else f"{name}-{config.run.shard.replace('/', 'of')}"


def check_run(runs: Mapping[Mode, Config], *, holding: ExitStack) -> None:
    """Data, quality floors, models, clouds and output of a run of experiments, each with its settings. The names of
    the results are this process's until ``holding`` closes.

    Raises:
        EdgeCloudError: something is wrong; nothing has been loaded.
    """
    config = next(iter(runs.values()))
    floors.load()
    corpus, _ = load_corpus(config)
    for folder in ("results", "journals"):
        check_writable(Path(config.output.folder) / folder, "--output-dir")
    for mode, own in runs.items():
        holding.enter_context(held(result_path(mode, own)))
        with held(journal_path(mode, own)):
            pass  # nobody writes it who has no result of this name
    _check_clouds(runs)
    for side in dict.fromkeys(side for mode in runs for side in _SIDES[mode]):
        _check_model(side, getattr(config.models, side))
    check_models(
        list(runs.items()),
        samples=corpus[: config.data.max_samples][config.run.shard_slice],
        together=config.run.interleave,
    )


def _check_clouds(runs: Mapping[Mode, Config]) -> None:
    """Whether the cloud of a URL answers, as it does when the run begins."""
    asked = {own.service.url: own for mode, own in runs.items() if mode != "edge"}
    for url, own in asked.items():
        if url != "local":
            remote_facts(own)


def _check_model(side: str, model: str | None) -> None:
    """Whether a model is there; what a hub has is fetched here, before anything starts."""
    if model is None:
        return
    if not (Path(model_of(model, side)[1]) / "config.json").is_file():
        raise CheckpointError(
            f"{side} model {model} is not a checkpoint folder (it holds no config.json); "
            f"check --{side}-model"
        )


def check_writable(folder: Path, flag: str) -> None:
    """Check that files can be written into ``folder``, which ``flag`` chose; it is made.

    Raises:
        OutputError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"cannot write into {folder}: {error.strerror or error}; choose another {flag}"
        ) from error
