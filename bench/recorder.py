"""From an experiment's outcome to everything that is kept of it: result file, benchmark rows, verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pytest

from bench.progress import Progress
from bench.rows import add_no_row, add_rows
from edgecloud.contracts import Language
from edgecloud.datasets.corpus import load_corpus
from edgecloud.errors import EdgeCloudError, JournalError
from edgecloud.experiments import floors
from edgecloud.results import audio_notes, environment
from edgecloud.results.aggregate import RESOURCE_NAMES
from edgecloud.results.degraded import sentence, warm_up_sentence
from edgecloud.results.kept import journal_path, result_path
from edgecloud.results.result_file import write_result
from edgecloud.settings.config import Config
from edgecloud.stages import listening

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from edgecloud.experiments.experiment import Outcome
    from edgecloud.results.records import Record
    from edgecloud.results.result import Result

__all__ = ["Recorder"]

_RESOURCES = (*RESOURCE_NAMES, "memory_over_cap")
_SHARED = ("environment", "limits", "models", "data", "quality_floors")


class OneLine:
    """Within it, a failure that this package reports fails the test with its text alone."""

    def __init__(self, benchmark: BenchmarkFixture, begun: list[Path] | None = None) -> None:
        self._benchmark = benchmark
        self._begun = [] if begun is None else begun

    def __enter__(self) -> None:
        """Nothing to set up."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, Exception):
            add_no_row(self._benchmark)
        if isinstance(error, JournalError):
            self._begun.clear()  # nothing to go on with: the message says why
        if isinstance(error, EdgeCloudError):
            failure = pytest.fail.Exception(str(error), pytrace=False)
            failure.__suppress_context__ = True
            raise failure


@dataclass(frozen=True)
class Recorder:
    """Runs one experiment, or takes its part of interleaved ones, and keeps what it found. ``written`` collects the paths of result files."""

    config: Config
    pytest_config: pytest.Config
    benchmark: BenchmarkFixture
    progress: Progress
    written: list[Path]
    arms: list[tuple[Any, Config]]
    """Every suite of this run, for ``--interleave``."""
    mode: Any
    begun: list[Path]
    """The journals of runs that have begun in this session and have no result yet."""
    warned: list[str]
    """Lines for the end of the session: what a reader of the results should know first."""
    unscored: list[str]
    """The last lines of all: without references there is no quality."""
    together: dict[str, Outcome]
    """What the suites gave, once they ran interleaved."""
    run_block: dict[str, Any] = field(default_factory=environment.run_block)
    """When, where and from which commit: as it is before the experiment begins."""

    def run(self, mode: Any) -> Outcome:
        """Run the experiment; a failure of the run as a whole fails the test with its one line."""
        from edgecloud.experiments import experiment

        if self.config.run.resume:
            self._begin()
        with OneLine(self.benchmark, self.begun):
            if not self.config.run.interleave:
                with listening(self.progress):
                    return experiment.run(
                        mode, self.config, on_progress=self._watched, floors=floors.load()
                    )
            if not self.together:
                with listening(self.progress):
                    outcomes = experiment.run_interleaved(
                        self.arms, on_progress=self._watched, floors=floors.load()
                    )
                self.together.update({outcome.mode: outcome for outcome in outcomes})
            return self.together[mode]

    def _watched(self, done: int, total: int, record: Record | None = None) -> None:
        if record is None:
            self._begin()
        self.progress(done, total, record)

    def _begin(self) -> None:
        arms = self.arms if self.config.run.interleave else [(self.mode, self.config)]
        self.begun.extend(journal_path(mode, config) for mode, config in arms)

    def record(self, outcome: Outcome) -> None:
        """Score, write the result file, add the rows; then fail the test when quality is below its
        floor, more samples failed than ``--max-failures`` or lost the cloud than ``--max-degraded``
        allows."""
        # Not above: the scorers load when there is something to score.
        from edgecloud.experiments.reporting import finished

        with OneLine(self.benchmark, self.begun), listening(self.progress):
            result = finished(outcome, run_block=self.run_block)
            path = write_result(result_path(self.mode, self.config), result)
        self.written.append(path)
        journal = journal_path(self.mode, self.config)
        self.begun[:] = [other for other in self.begun if other != journal]
        self.warned.extend(f"{path.stem}: {note}" for note in outcome.setup.get("notes", ()))
        if (cold := warm_up_sentence(outcome.setup.get("cold", {}))) is not None:
            self.warned.append(f"{path.stem}: {cold}")
        if (
            noted := audio_notes.sentence(sample.audio_notes for sample in result.samples)
        ) is not None:
            self.warned.append(f"{path.stem}: {noted}; see audio_notes of its samples")
        over = result.metrics.latency_metrics.memory_over_cap_total
        if over:
            self.warned.append(
                f"{path.stem}: {over} samples over the memory cap of "
                f"{self.config.caps.memory_gb:g} GB, which is watched, not enforced, here"
            )
        problems = _problems(result, self.config)
        lost = sentence(result.samples)
        if lost and result.metrics.num_degraded <= self.config.run.max_degraded:
            self.warned.append(f"{path.stem}: {lost}")
        if (unscored := no_reference(result, self.config)) is not None:
            self.unscored.append(f"{path.stem}: {unscored}")
        tag = "failed: " + "; ".join(problems) if problems else "passed"
        add_rows(
            self.benchmark,
            self.pytest_config,
            total_times=_known(result, "total_time")[1],
            others={name: _known(result, name) for name in ("ttft", "tpot")},
            extra_info=_extra_info(result.to_json(), tag),
        )
        if problems:
            pytest.fail("\n".join(problems), pytrace=False)


def _problems(result: Result, config: Config) -> list[str]:
    problems = []
    failed = [(s.file_id, s.error) for s in result.samples if s.error is not None]
    if len(failed) > config.run.max_failures:
        shown = ", ".join(f"{file_id} ({error.message})" for file_id, error in failed[:3])
        more = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
        problems.append(
            f"{len(failed)} of {len(result.samples)} samples failed, "
            f"--max-failures allows {config.run.max_failures}: {shown}{more}"
        )
    lost = sentence(result.samples)
    if lost and result.metrics.num_degraded > config.run.max_degraded:
        problems.append(
            f"{lost}; --max-degraded allows {config.run.max_degraded}. --resume runs them again"
        )
    problems += [f"quality: {missed}" for missed in result.quality_floors.missed]
    return problems


def no_reference(result: Result, config: Config) -> str | None:
    """That no sample has a reference in the language generated, and which flags would help; ``None``: one has.

    A prompt of text is scored in its own language, so there the whole manifest is looked at."""
    language, samples = result.experiment_config.language, result.samples
    others = {str(s.reference_language) for s in samples if s.reference_captions}
    if not samples or language in others:
        return None
    scored = "nothing was scored"
    if config.data.kind == "text" and others:
        if _has_references(config):
            return None
        scored = f"answers were scored in {', '.join(sorted(others))}, as their references are"
    captions = ("audio_only", "original") if config.data.caption_type == "audio_only" else (None,)
    tried = [
        {"caption_type": caption, "language": its}
        for its in (language, *(other for other in get_args(Language) if other != language))
        for caption in captions
    ]
    for changes in tried[1:]:
        changed = {
            name: value
            for name, value in changes.items()
            if value not in (None, language, config.data.caption_type)
        }
        if _has_references(config.changed(**changed)):
            flags = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in changed.items())
            return f"no reference in {language}, so {scored}; {flags}?"
    return f"no reference in {language}, so {scored}; the manifest has no captions"


def _has_references(config: Config) -> bool:
    """Whether any sample of the data has a reference in the language of ``config``."""
    try:
        samples, _ = load_corpus(config)
    except EdgeCloudError:
        return False  # a flag that would be refused helps nobody
    return any(
        sample.references and sample.reference_language == config.data.language
        for sample in samples
    )


def _known(result: Result, name: str) -> tuple[list[str], list[float]]:
    """The samples that have this latency, and its values."""
    pairs = [
        (sample.file_id, value)
        for sample in result.completed
        if (value := sample.value(name)) is not None
    ]
    return [sample for sample, _ in pairs], [value for _, value in pairs]


def _extra_info(result: dict[str, Any], outcome: str) -> dict[str, Any]:
    """What a comparison of two benchmark files may want besides the times."""
    metrics = result["metrics"]
    blocks = ("latency_metrics", "speculative_decoding_metrics", "cost_metrics", "notes")
    latency = metrics["latency_metrics"]
    entries = result["detailed_results"]
    return {
        "outcome": outcome,
        "mode": result["experiment_config"]["mode"],
        "language": result["experiment_config"]["language"],
        "sample_ids": [entry["file_id"] for entry in entries if entry["status"] == "ok"],
        "failed_ids": [entry["file_id"] for entry in entries if entry["status"] != "ok"],
        "degraded_ids": [entry["file_id"] for entry in entries if entry["degraded"]],
        "experiment_config": result["experiment_config"],
        "latency_histograms": latency["histograms"],
        "speculation": metrics["speculative_decoding_metrics"],
        "cost": metrics["cost_metrics"],
        "resources": {
            key: value for key, value in latency.items() if key.rpartition("_")[0] in _RESOURCES
        },
        "quality": {key: value for key, value in metrics.items() if key not in blocks},
        "notes": metrics["notes"],
        "load_average": result["run"].get("load_average"),
        **{key: result[key] for key in _SHARED},
    }
