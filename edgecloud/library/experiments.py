"""Experiments from code: the very run, and the very result, of ``pytest bench``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing import process
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgecloud.datasets.corpus import in_own_language
from edgecloud.errors import ConfigError, WorkerError
from edgecloud.experiments import experiment, floors
from edgecloud.experiments.readiness import check_run, named
from edgecloud.experiments.reporting import finished
from edgecloud.library.quiet import watched
from edgecloud.library.settings import checked_mode, settings_of
from edgecloud.registry import load_plugins
from edgecloud.results.environment import run_block
from edgecloud.results.kept import result_path
from edgecloud.results.records import Record
from edgecloud.results.result import Result
from edgecloud.results.result_file import write_result
from edgecloud.settings.config import Config, check_output_name
from edgecloud.settings.options import OPTIONS
from edgecloud.settings.parts import PARTS
from edgecloud.stages import stage

__all__ = ["run"]

_OUTPUT = frozenset({"output_name", "output_dir"})
_ALLOWED = tuple(option.name for option in OPTIONS if option.name != "interleave")

Progress = Callable[[int, int, Record | None], None]


def run(
    mode: str,
    *,
    preset: str | None = None,
    config: str | Path | None = None,
    plugins: Sequence[str] = (),
    progress: bool | Progress = False,
    **settings: Any,
) -> Result:
    """Run one experiment, ``edge``, ``cloud`` or ``spec``, in processes of its own, and return its result: what
    ``pytest bench`` writes for the same settings, as :func:`edgecloud.read_result` gives it.

    ``settings`` are options by their names (``gate`` is ``gate_type``), ``preset`` and ``config`` as their flags.
    Journal and result are written where ``output_name`` or ``output_dir`` is given, and to be gone on with by
    ``resume``; otherwise nothing stays. ``plugins`` are modules that bring gates, rules, metrics: as ``--plugin``. With
    ``progress`` stages are shown on standard error; a function is called as ``progress(done, total, record)``.

    A sample that fails is in the result as failed, and quality below its floor is said there: what fails a run of
    ``pytest bench`` raises nothing here.

    Raises:
        ConfigError: a setting is unknown, out of range, or counts for nothing here.
        EdgeCloudError: nothing can be run, or a process died; a journal that is kept holds what was done.
    """
    _check_program()
    load_plugins(plugins)
    checked = checked_mode(mode)
    given = settings_of(
        settings,
        by="run",
        allowed=_ALLOWED,
        instead="it takes one mode",
        preset=preset,
        file=config,
    )
    check_output_name(given.output.name)
    if checked == "spec":
        _check_parts(given)
    begun = run_block()
    with ExitStack() as stack:
        stack.enter_context(watched(bool(progress)))
        (its,) = named(_placed(in_own_language(given), stack), (checked,)).values()
        check_run({checked: its}, holding=stack)
        outcome = experiment.run(
            checked, its, on_progress=_told(checked, progress), floors=floors.load()
        )
        if _keeps(given):
            result = finished(outcome, run_block=begun)
            write_result(result_path(checked, its), result)
            return result
        as_given = outcome.config.changed(output_dir=given.output.folder)
        return finished(replace(outcome, config=as_given), run_block=begun)


def _check_program() -> None:
    """Check that this is no process which only imports the program that started it.

    Raises:
        WorkerError: it is.
    """
    if getattr(process.current_process(), "_inheriting", False):
        raise WorkerError(
            "this program registers parts of its own and starts an experiment as it is imported: put what "
            'starts it under `if __name__ == "__main__":`, or the parts into a module given as plugins=[…]'
        )


def _check_parts(config: Config) -> None:
    """Check that the processes of an experiment can have the gate and the rule that it uses.

    Raises:
        ConfigError: one was registered in a notebook's cell or on the command line, which nothing imports.
    """
    if getattr(sys.modules["__main__"], "__file__", None) is not None:
        return
    for name, registry in PARTS.items():
        part = registry.part(config.to_json()[name])
        if part.module == "__main__":
            raise ConfigError(
                f"run: {name}: the {part.kind} {part.name!r} is registered in this session alone, and an experiment "
                "runs in processes of its own: put it into a module, and give plugins=['MODULE']"
            )


def _keeps(config: Config) -> bool:
    return bool(_OUTPUT & config.given)


def _placed(config: Config, stack: ExitStack) -> Config:
    """``config``, its journal where it was asked for, or in a folder that is gone when ``stack`` closes.

    Raises:
        ConfigError: there is nothing to resume.
    """
    if _keeps(config):
        return config
    if config.run.resume:
        raise ConfigError("run: resume goes on with a journal: give its output_name or output_dir")
    folder = stack.enter_context(TemporaryDirectory(prefix="edgecloud-"))
    return config.changed(output_dir=folder)


def _told(mode: str, progress: bool | Progress) -> Progress:
    if callable(progress):
        return progress

    def show(done: int, total: int, record: Record | None) -> None:
        stage(f"{mode}: {done} of {total} samples", done / total)

    return show
