"""The result file of a run: everything it found, and everything needed to read it.

Its fields are described one by one in ``reports/README.md``. What may vary between two runs that
computed the same is in the block ``run`` and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from edgecloud.contracts import Language, Sample
from edgecloud.errors import OutputError
from edgecloud.files import put
from edgecloud.jsontypes import read, write
from edgecloud.quality.describe import plain_names
from edgecloud.quality.metric import METRICS, values
from edgecloud.quality.tokenize import LANGUAGE_TOKENIZERS
from edgecloud.registry import BUILT_IN
from edgecloud.results.aggregate import (
    Measured,
    cost_metrics,
    latency_metrics,
    measure,
    speculation_metrics,
)
from edgecloud.results.audio_notes import count_notes
from edgecloud.results.certificate import certificate_of
from edgecloud.results.percentiles import drift
from edgecloud.results.records import Record
from edgecloud.results.result import (
    Data,
    Environment,
    Experiment,
    Floors,
    HardwareProfile,
    Limits,
    Metrics,
    ModelFacts,
    Result,
    Run,
    SampleResult,
)
from edgecloud.settings.config import Config
from edgecloud.settings.options import OPTIONS

__all__ = [
    "PRIMARY_TOKENIZER",
    "OutcomeLike",
    "ScoresLike",
    "build_result",
    "write_result",
]

PRIMARY_TOKENIZER = {language: some[0] for language, some in LANGUAGE_TOKENIZERS.items()}
"""The tokeniser whose n-gram scores also go by their plain names: ``cider`` is ``zh.jieba.cider``."""

Scored = dict[str, float | None]


class OutcomeLike(Protocol):
    """The outcome of a run: its settings, samples, journal records and set-up."""

    @property
    def mode(self) -> str:
        """``edge``, ``cloud`` or ``spec``."""

    @property
    def config(self) -> Config:
        """The validated configuration."""

    @property
    def samples(self) -> Sequence[Sample]:
        """The samples that were run."""

    @property
    def records(self) -> Sequence[Record]:
        """The journal's records, one a sample."""

    @property
    def setup(self) -> Mapping[str, Any]:
        """Models, environment and limits, as the journal's header holds them."""


class ScoresLike(Protocol):
    """Scores of the completed samples, in the order of their records."""

    @property
    def corpus(self) -> Mapping[str, float | None]:
        """Each metric over the whole corpus; None with a note where it has no value."""

    @property
    def per_sample(self) -> Sequence[Mapping[str, float | None]]:
        """Each metric of each sample."""

    @property
    def notes(self) -> Mapping[str, str]:
        """Reasons for missing corpus values, by metric."""

    @property
    def sample_notes(self) -> Sequence[str | None]:
        """Reasons for missing values of a sample, or None."""

    @property
    def info(self) -> Mapping[str, Any]:
        """Versions and models that the metrics were computed with."""


def build_result(
    outcome: OutcomeLike,
    scores: ScoresLike,
    *,
    environment: Mapping[str, Any],
    run_block: Mapping[str, Any],
    quality_floors: Mapping[str, Any] | None = None,
    defects: Sequence[Mapping[str, bool]] | None = None,
) -> Result:
    """The whole result of a run.

    ``environment`` holds what stays the same on one machine, ``run_block`` what does not (dates, host,
    load, commit, run id); the settings that change no result and the models' cold times join it.
    ``defects`` says of each completed sample which defects its caption has, all under the same names.
    """
    completed = [record for record in outcome.records if record.ok]
    measured = [measure(record, k=outcome.config.draft.k) for record in completed]
    languages = [_language(record, outcome.config) for record in completed]
    plain = [
        _plain_scores(row, language)
        for row, language in zip(scores.per_sample, languages, strict=True)
    ]
    setup = dict(outcome.setup)
    settings = outcome.config.to_json()
    ways = {option.name for option in OPTIONS if option.group == "run"}
    varying = {
        "settings": {name: settings.pop(name) for name in list(settings) if name in ways},
        "cold": setup.pop("cold", {}),
        "drift": drift([found.latency.total_time or 0.0 for found in measured]),
    }
    models, profile = setup.pop("models", {}), setup.pop("hardware_profile", None)
    certified = setup.pop("certificate", None)
    floors = dict(quality_floors or {"status": "not asserted", "why": "none given"})
    return Result(
        experiment_config=read(Experiment, {"mode": outcome.mode, **settings}),
        metrics=_metrics(outcome, scores, measured, defects, sorted({*languages})),
        detailed_results=_details(outcome.records, measured, plain, scores.sample_notes, defects),
        quality_info=dict(scores.info),
        quality_floors=read(Floors, floors),
        environment=read(Environment, dict(environment)),
        limits=read(Limits, setup.pop("limits", {})),
        models={side: model and read(ModelFacts, model) for side, model in models.items()},
        data=read(Data, setup.pop("data", {})),
        hardware_profile=profile and read(HardwareProfile, profile),
        plugins=(*setup.pop("plugins", []), *_metrics_of_others(scores.corpus)),
        certificate=certified
        and certificate_of(
            certified,
            outcome.records,
            signals_of=lambda one: measure(one, k=outcome.config.draft.k).signals,
        ),
        setup=setup or None,
        run=read(Run, {**run_block, **varying}),
    )


def write_result(
    path: str | Path, result: Result | Mapping[str, Any], *, flag: str = "--output-dir"
) -> Path:
    """Write ``result``, or other JSON, at ``path`` whole or not at all; ``flag`` is what chose the path.

    Raises:
        OutputError: the file cannot be written.
        ValueError: the result holds a number that JSON has no word for.
    """
    target = Path(path)
    parts = _parts(result) if isinstance(result, Result) else [_indented(result), "\n"]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        put(target, (part.encode() for part in parts))
    except OSError as error:
        raise OutputError(
            f"cannot write the result {target}: {error.strerror or error}; choose another {flag}"
        ) from error
    return target


def _parts(result: Result) -> Iterator[str]:
    """The text of a result's file: indented, but each sample in a line of its own, which the encoder in C writes."""
    rest = replace(result, detailed_results=())
    before, mark, after = _indented(rest.to_json()).partition('\n "detailed_results": [')
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
    yield before + mark
    for number, sample in enumerate(result.detailed_results):
        yield f"{',' if number else ''}\n  {encode(write(sample))}"
    yield f"\n {after}\n" if result.detailed_results else f"{after}\n"


def _indented(content: Mapping[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1)


def _metrics(
    outcome: OutcomeLike,
    scores: ScoresLike,
    measured: Sequence[Measured],
    defects: Sequence[Mapping[str, bool]] | None,
    languages: Sequence[Language],
) -> Metrics:
    language = outcome.config.data.language
    several = _several(languages)
    corpus = {**dict.fromkeys(several), **scores.corpus}
    if not several:
        corpus = _plain_scores(scores.corpus, language)
    latency, latency_notes = latency_metrics(measured)
    speculation, speculation_notes = speculation_metrics(measured)
    cost, cost_notes = cost_metrics(measured)
    known = values()
    renamed = {value.name for value in known.values() if value.key != value.name}
    quality: Scored = {
        **{alias: corpus.get(value.name) for value in known.values() for alias in value.aliases},
        **{known[name].key: corpus.get(name) for name in known if name in renamed},
        **{name: value for name, value in corpus.items() if name not in renamed},
    }
    unknown = _other_languages(language)
    quality.update({name: None for name in unknown if name not in quality})
    notes = _quality_notes(quality, {**scores.notes, **several}, language)
    for name, why in unknown.items():
        if quality[name] is None:
            notes.setdefault(name, why)
    if defects is None:
        notes["defects"] = "nobody looked for them"
    for block, some in (
        ("latency_metrics", latency_notes),
        ("speculative_decoding_metrics", speculation_notes),
        ("cost_metrics", cost_notes),
    ):
        notes.update({f"{block}.{name}": why for name, why in some.items()})
    failed = sum(not record.ok for record in outcome.records)
    return Metrics(
        scores=quality,
        num_samples=len(outcome.records),
        num_completed=len(outcome.records) - failed,
        num_failed=failed,
        num_degraded=sum(record.loss is not None for record in outcome.records),
        defects=_defect_counts(defects),
        audio_notes=count_notes(record.audio_notes for record in outcome.records),
        latency_metrics=latency,
        speculative_decoding_metrics=speculation,
        cost_metrics=cost,
        notes=notes,
    )


def _defect_counts(defects: Sequence[Mapping[str, bool]] | None) -> dict[str, int] | None:
    """Number of completed captions with each defect, and with ``any``; ``None`` if none was examined."""
    if defects is None:
        return None
    names = dict.fromkeys(name for flags in defects for name in flags)
    counts = {name: sum(flags[name] for flags in defects) for name in names}
    return {**counts, "any": sum(any(flags.values()) for flags in defects)}


def _language(record: Record, config: Config) -> Language:
    return record.language(text=config.data.kind == "text", default=config.data.language)


def _several(languages: Sequence[Language]) -> dict[str, str]:
    """Of captions in several languages: why there is no one value, by the plain names of scores."""
    if len(languages) < 2:
        return {}
    own: dict[str, list[str]] = {}
    for language in languages:
        for name, long in plain_names(language).items():
            own.setdefault(name, []).append(long)
    return {
        name: f"the captions are in {' and '.join(languages)}: see {', '.join(long)}"
        for name, long in own.items()
    }


def _plain_scores(
    scores: Mapping[str, float | None], language: Language
) -> dict[str, float | None]:
    """The scores under their own names, and those of the primary tokeniser under plain names first."""
    long = plain_names(language)
    return {**{name: scores[own] for name, own in long.items() if own in scores}, **scores}


def _metrics_of_others(corpus: Mapping[str, float | None]) -> list[dict[str, str | None]]:
    """The metrics of other packages that gave some of the scores."""
    names = {name.rpartition(".")[2] for name in corpus}
    return [
        part.to_json()
        for part in METRICS.parts()
        if part.origin != BUILT_IN and names & set(part.object.names)
    ]


def _other_languages(language: Language) -> dict[str, str]:
    """By key the scores that not every language has, and why there is none where there is none."""
    found = {}
    for metric in METRICS.values():
        if set(metric.languages) == set(LANGUAGE_TOKENIZERS):
            continue
        only = " and ".join(name.capitalize() for name in metric.languages)
        for value in metric.values:
            why = f"{value.label()} is for {only} alone"
            found[value.key] = "not computed" if language in metric.languages else why
    return found


def _quality_notes(quality: Scored, notes: Mapping[str, str], language: Language) -> dict[str, str]:
    """The scorers' notes, and the same under every other name that a score goes by here."""
    long = plain_names(language)
    names = {key: value.name for value in values().values() for key in value.keys}
    own_notes = _other_languages(language)
    found = dict(notes)
    for name, value in quality.items():
        own = names.get(name, name)
        why = notes.get(name) or notes.get(own) or notes.get(long.get(own, own))
        if why is not None:
            found[name] = why
        elif value is None and name not in own_notes:
            found[name] = notes.get("references", "no caption was scored")
    return found


def _details(
    records: Sequence[Record],
    measured: Sequence[Measured],
    scores: Sequence[Mapping[str, float | None]],
    score_notes: Sequence[str | None],
    defects: Sequence[Mapping[str, bool]] | None,
) -> tuple[SampleResult, ...]:
    """One entry a sample; a failed one has its error, and nulls where the others have numbers."""
    flags = [None] * len(measured) if defects is None else defects
    rows = iter(zip(measured, scores, score_notes, flags, strict=True))
    no_scores = dict.fromkeys(name for row in scores for name in row)
    entries = []
    for record in records:
        if record.ok:
            entries.append(_entry(record, *next(rows)))
        else:
            entries.append(_entry(record, None, no_scores, "the sample failed", None))
    return tuple(entries)


def _entry(
    record: Record,
    found: Measured | None,
    scores: Mapping[str, float | None],
    note: str | None,
    defects: Mapping[str, bool] | None,
) -> SampleResult:
    return SampleResult(
        file_id=record.file_id,
        index=record.index,
        dataset=record.dataset,
        status=record.status,
        error=record.error,
        degraded=record.loss,
        reference_caption=next(iter(record.references), None),
        reference_captions=record.references,
        reference_language=record.reference_language,
        generated_text=record.text,
        tokens=record.tokens,
        origins=record.origins,
        stop=record.stop,
        audio_s=record.audio_s,
        audio_notes=record.audio_notes,
        scores=scores,
        score_note=note,
        defects=None if defects is None else tuple(name for name in defects if defects[name]),
        latency_metrics=None if found is None else found.latency,
        speculative_decoding_metrics=None if found is None else found.speculation,
        cost_metrics=None if found is None else found.cost,
        resources=None if found is None else found.resources,
    )
