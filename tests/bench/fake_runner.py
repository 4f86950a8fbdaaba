"""A pytest plugin (``-p tests.bench.fake_runner``) that puts synthetic outcomes in the runner's place,
so that the suites are tested in a second. ``FAKE_BAD`` lists the indices of samples that fail,
``FAKE_DEGRADED`` those of samples that lose the cloud, ``FAKE_OVER`` puts all over the memory cap."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import edgecloud.experiments
from bench import recorder
from edgecloud.errors import CheckpointError, OutputError
from edgecloud.files import held
from edgecloud.results import environment
from edgecloud.results.result import Result
from edgecloud.results.result_file import write_result
from tests.results.synthetic import FakeOutcome, degraded


def run(mode: str, config: Any, *, on_progress: Any = None, **_: Any) -> FakeOutcome:
    if os.environ.get("FAKE_ERROR"):
        raise CheckpointError(os.environ["FAKE_ERROR"])
    # Whoever asks for it only now gets a block that is too late.
    setattr(environment, "run_block", lambda: {"run_id": "asked too late"})  # noqa: B010
    bad = tuple(int(index) for index in os.environ.get("FAKE_BAD", "").split() if index)
    outcome = FakeOutcome(mode, int(os.environ.get("FAKE_N", "6")), bad=bad)
    outcome.config = config
    if os.environ.get("FAKE_OVER"):
        outcome.records = tuple(
            replace(record, resources={**(record.resources or {}), "memory_over_cap": True})
            for record in outcome.records
        )
    lost = [int(index) for index in os.environ.get("FAKE_DEGRADED", "").split()]
    outcome.records = tuple(
        replace(record, trace=degraded(record.trace)) if index in lost else record
        for index, record in enumerate(outcome.records)
    )
    on_progress(0, len(outcome.records), None)
    for done, record in enumerate(outcome.records, start=1):
        on_progress(done, len(outcome.records), record)
    return outcome


def _written(path: Path, result: Result) -> Path:
    """Notes in the result whether its name was still this process's when it was written."""
    try:
        with held(path):
            was_held = False
    except OutputError:
        was_held = True
    run = replace(result.run, facts={**result.run.facts, "held": was_held})
    return write_result(path, replace(result, run=run))


def pytest_configure() -> None:
    setattr(recorder, "write_result", _written)  # noqa: B010  a name that the module does not export
    module = ModuleType("edgecloud.experiments.experiment")
    module.run = run  # type: ignore[attr-defined]
    sys.modules["edgecloud.experiments.experiment"] = module
    setattr(edgecloud.experiments, "experiment", module)  # noqa: B010  what the import would have set
