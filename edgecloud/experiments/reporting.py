"""The result of a run's outcome: captions scored, defects found, everything measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from edgecloud.contracts import Language, Sample
from edgecloud.datasets.corpus import load_corpus
from edgecloud.experiments import floors as pair_floors
from edgecloud.experiments.scoring import scored
from edgecloud.hardware.gpu import gpu_facts
from edgecloud.hardware.limits import with_resident
from edgecloud.jsontypes import read
from edgecloud.quality import (
    METEOR_FROM,
    Scores,
    bertscore_settings,
    corpus_references_of,
)
from edgecloud.quality.defects import defects_of
from edgecloud.quality.mixed import by_language
from edgecloud.results.certificate import sentence
from edgecloud.results.environment import environment
from edgecloud.results.floors import check_floors
from edgecloud.results.records import Record
from edgecloud.results.result import Floors, Limits, Result
from edgecloud.results.result_file import OutcomeLike, build_result
from edgecloud.stages import say, stage

__all__ = ["ScorableOutcome", "finished", "machine", "result_of", "score_outcome"]


class ScorableOutcome(OutcomeLike, Protocol):
    """The outcome of a run, from the runner or from a journal, and the whole manifest it is from."""

    @property
    def corpus(self) -> Sequence[Sample]:
        """All samples of the manifest, in its order."""


def machine() -> dict[str, Any]:
    """The environment block of a result: versions, processor, memory, GPUs and their driver."""
    devices, reasons = gpu_facts()
    found = environment(devices=devices)
    found["reasons"].update(reasons)
    return found


def score_outcome(outcome: ScorableOutcome) -> Scores:
    """Scores of the completed samples, each in the language that it was generated in. A failed one is
    left out: it is no empty caption."""
    completed = _completed(outcome)
    found = by_language(
        [_language(record, outcome) for record in completed],
        lambda language, its: _scored(outcome, language, [completed[place] for place in its]),
    )
    return found or _scored(outcome, outcome.config.data.language, [])


def _language(record: Record, outcome: ScorableOutcome) -> Language:
    data = outcome.config.data
    return record.language(text=data.kind == "text", default=data.language)


def _truths(outcome: ScorableOutcome) -> dict[str, dict[str, str]]:
    """The truth about each sample, by id. A journal from before there were attributes has none: those of the embedded
    corpus are the same today, where its captions are."""
    samples = {sample.file_id: sample for sample in outcome.samples}
    found = {name: dict(sample.attributes) for name, sample in samples.items()}
    if any(found.values()) or outcome.config.data.path is not None:
        return found
    own, _ = load_corpus(outcome.config)
    return {
        sample.file_id: dict(sample.attributes)
        for sample in own
        if sample.file_id in samples and samples[sample.file_id].references == sample.references
    }


def _scored(outcome: ScorableOutcome, language: Language, completed: Sequence[Record]) -> Scores:
    config = outcome.config
    chinese = language == "chinese"
    truths = _truths(outcome)
    model = config.bertscore.model_zh if chinese else config.bertscore.model_en
    return scored(
        language=language,
        ids=[record.file_id for record in completed],
        hypotheses=[record.text or "" for record in completed],
        references=[record.references for record in completed],
        reference_languages=[record.reference_language or language for record in completed],
        corpus_references=corpus_references_of(outcome.corpus, language),
        attributes=[truths.get(record.file_id, {}) for record in completed],
        bertscore=bertscore_settings(language, model, config.bertscore.layers),
        extended=True,
        meteor_from=METEOR_FROM,
    )


def result_of(
    outcome: ScorableOutcome,
    *,
    environment: Mapping[str, Any],
    run_block: Mapping[str, Any],
    floors: Mapping[str, Any] | None = None,
) -> Result:
    """The whole result. ``floors`` holds the content of a floors file; none, and none is asserted."""
    result = build_result(
        outcome,
        score_outcome(outcome),
        environment=environment,
        run_block=run_block,
        defects=[
            defects_of(record.text or "", language=_language(record, outcome), stop=record.stop)
            for record in _completed(outcome)
        ],
    )
    # What grew only while samples ran; from the records, so that a result made again says it too.
    peaks = [(record.resources or {}).get("ram_gb_peak") or 0.0 for record in outcome.records]
    limits = with_resident(result.limits.facts, max(peaks, default=0.0))
    result = replace(result, limits=read(Limits, limits))
    if floors is None:
        return result
    verdict = check_floors(
        floors,
        mode=outcome.mode,
        config=result.experiment_config.settings,
        metrics=result.metrics,
        corpus_size=len(outcome.corpus),
    )
    return replace(result, quality_floors=read(Floors, verdict))


def finished(outcome: ScorableOutcome, *, run_block: Mapping[str, Any]) -> Result:
    """The result of a run that has just come to its end, on this machine, judged by the floors of the embedded pair;
    ``run_block`` is as it was before the run."""
    stage("scoring the captions")
    found = result_of(
        outcome, environment=machine(), run_block=run_block, floors=pair_floors.load()
    )
    if found.certificate is not None:
        say(sentence(found.certificate))
    return found


def _completed(outcome: ScorableOutcome) -> list[Record]:
    return [record for record in outcome.records if record.ok]
