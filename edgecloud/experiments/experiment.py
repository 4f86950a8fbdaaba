"""Experiments: one way of decoding over one manifest, or several with their samples taking turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from edgecloud.edge.messages import Mode
from edgecloud.errors import ConfigError
from edgecloud.experiments.run import Arm, Outcome, journal_path, load_corpus
from edgecloud.results.records import Record
from edgecloud.settings.config import Config

__all__ = ["Outcome", "Progress", "journal_path", "load_corpus", "run", "run_interleaved"]

Progress = Callable[[int, int, Record | None], None]
"""``(done, total, record)``: called when a run starts, without a record, and after each sample."""


def run(
    mode: Mode,
    config: Config,
    *,
    on_progress: Progress | None = None,
    floors: Mapping[str, Any] | None = None,
) -> Outcome:
    """Run every sample that the journal does not hold yet. ``floors`` are kept in the journal.

    A sample that fails is recorded as failed with its reason, and the run goes on.

    Raises:
        EdgeCloudError: nothing can be run, or a process died; the journal holds what was done.
    """
    if config.run.workers > 1 and config.hardware.clock != "modelled":
        raise ConfigError(
            f"--workers {config.run.workers} needs --clock modelled: in wall time requests beside each "
            "other would slow each other down"
        )
    report = on_progress or _silent
    with Arm(mode, config, floors=floors) as arm:
        report(arm.done, arm.total, None)
        for record in arm.run():
            report(arm.done, arm.total, record)
        return arm.outcome()


def run_interleaved(
    arms: Sequence[tuple[Mode, Config]],
    *,
    on_progress: Progress | None = None,
    floors: Mapping[str, Any] | None = None,
) -> list[Outcome]:
    """Execute several runs interleaved: all of them decode a sample before the next, so that what slows
    the machine down for a while slows all of them. The order of the runs rotates from sample to sample.

    All processes live at once: memory must hold every run's models. One outcome a run, in order.

    Raises:
        ConfigError: the runs are not over the same samples.
        EdgeCloudError: as for :func:`run`.
    """
    if any(config.run.workers > 1 for _, config in arms):
        raise ConfigError("--interleave runs one request at a time: leave out --workers")
    report = on_progress or _silent
    with ExitStack() as stack:
        running = [stack.enter_context(Arm(mode, config, floors=floors)) for mode, config in arms]
        if len({arm.samples for arm in running}) != 1:
            raise ConfigError("interleaved arms need the same dataset, language and --max-samples")
        total = sum(arm.total for arm in running)
        report(sum(arm.done for arm in running), total, None)
        for turn, sample in enumerate(running[0].samples):
            first = turn % len(running)
            for arm in (*running[first:], *running[:first]):
                if sample.file_id not in arm.records:
                    record = arm.step(sample)
                    report(sum(arm.done for arm in running), total, record)
        return [arm.outcome() for arm in running]


def _silent(done: int, total: int, record: Record | None) -> None:
    """Ignore the progress."""
