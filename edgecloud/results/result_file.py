"""The result file of a run: everything it found, and everything needed to read it.

Its fields are described one by one in ``reports/README.md``. What may vary between two runs that
computed the same is in the block ``run`` and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from edgecloud.contracts import Sample
from edgecloud.errors import OutputError
from edgecloud.results.aggregate import (
    Measured,
    cost_metrics,
    latency_metrics,
    measure,
    speculation_metrics,
)
from edgecloud.results.audio_notes import count_notes
from edgecloud.results.degraded import degraded
from edgecloud.results.files import put
from edgecloud.results.records import language_of
from edgecloud.results.statistics import drift
from edgecloud.settings.config import Config
from edgecloud.settings.options import OPTIONS

__all__ = [
    "PRIMARY_TOKENIZER",
    "SCHEMA",
    "OutcomeLike",
    "ScoresLike",
    "build_result",
    "write_result",
]

SCHEMA = "edgecloud-result/1"
PRIMARY_TOKENIZER = {"chinese": "zh.jieba", "english": "en.simple"}
"""The tokeniser whose n-gram scores also go by their plain names: ``cider`` is ``zh.jieba.cider``."""

_NGRAM = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider")
_BERTSCORE = ("bertscore_precision", "bertscore_recall", "bertscore_f1")

Json = dict[str, Any]


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
    def records(self) -> Sequence[Mapping[str, Any]]:
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
) -> Json:
    """The whole result of a run, as JSON values in a fixed order.

    ``environment`` holds what stays the same on one machine, ``run_block`` what does not (dates, host,
    load, commit, run id); the settings that change no result and the models' cold times join it.
    ``defects`` says of each completed sample which defects its caption has, all under the same names.
    """
    completed = [record for record in outcome.records if record["status"] == "ok"]
    measured = [measure(record, k=outcome.config.k) for record in completed]
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
        "drift": drift([found.latency["total_time"] for found in measured]),
    }
    return {
        "schema": SCHEMA,
        "experiment_config": {"mode": outcome.mode, **settings},
        "metrics": _metrics(outcome, scores, measured, defects, sorted({*languages})),
        "detailed_results": _details(
            outcome.records, measured, plain, scores.sample_notes, defects
        ),
        "quality_info": dict(scores.info),
        "quality_floors": dict(quality_floors or {"status": "not asserted", "why": "none given"}),
        "environment": dict(environment),
        "limits": setup.pop("limits", {}),
        "models": setup.pop("models", {}),
        "data": setup.pop("data", {}),
        "hardware_profile": setup.pop("hardware_profile", None),
        **({"setup": setup} if setup else {}),
        "run": {**run_block, **varying},
    }


def write_result(
    path: str | Path, result: Mapping[str, Any], *, flag: str = "--output-dir"
) -> Path:
    """Write ``result`` at ``path`` whole or not at all; ``flag`` is what chose the path.

    Raises:
        OutputError: the file cannot be written.
        ValueError: the result holds a number that JSON has no word for.
    """
    target = Path(path)
    text = json.dumps(result, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        put(target, text.encode())
    except OSError as error:
        raise OutputError(
            f"cannot write the result {target}: {error.strerror or error}; choose another {flag}"
        ) from error
    return target


def _metrics(
    outcome: OutcomeLike,
    scores: ScoresLike,
    measured: Sequence[Measured],
    defects: Sequence[Mapping[str, bool]] | None,
    languages: Sequence[str],
) -> Json:
    language = outcome.config.language
    several = _several(languages)
    corpus = {**dict.fromkeys(several), **scores.corpus}
    if not several:
        corpus = _plain_scores(scores.corpus, language)
    latency, latency_notes = latency_metrics(measured)
    speculation, speculation_notes = speculation_metrics(measured)
    cost, cost_notes = cost_metrics(measured)
    quality: Json = {
        "avg_bleu": corpus.get("bleu_4"),
        "avg_cider": corpus.get("cider"),
        **{f"avg_{name}": corpus.get(name) for name in _BERTSCORE},
        **{f"corpus_{name}": corpus.get(name) for name in _NGRAM if name.startswith("bleu")},
        **{name: value for name, value in corpus.items() if not name.startswith("bleu")},
    }
    if "meteor" not in quality:
        quality["meteor"] = None
    notes = _quality_notes(quality, {**scores.notes, **several}, language)
    if quality["meteor"] is None:
        english = language == "english"
        notes.setdefault("meteor", "not computed" if english else "METEOR is for English alone")
    if defects is None:
        notes["defects"] = "nobody looked for them"
    for block, some in (
        ("latency_metrics", latency_notes),
        ("speculative_decoding_metrics", speculation_notes),
        ("cost_metrics", cost_notes),
    ):
        notes.update({f"{block}.{name}": why for name, why in some.items()})
    failed = sum(record["status"] != "ok" for record in outcome.records)
    return {
        **quality,
        "num_samples": len(outcome.records),
        "num_completed": len(outcome.records) - failed,
        "num_failed": failed,
        "num_degraded": sum(degraded(record) is not None for record in outcome.records),
        "defects": _defect_counts(defects),
        "audio_notes": count_notes(outcome.records),
        "latency_metrics": latency,
        "speculative_decoding_metrics": speculation,
        "cost_metrics": cost,
        "notes": notes,
    }


def _defect_counts(defects: Sequence[Mapping[str, bool]] | None) -> Json | None:
    """Number of completed captions with each defect, and with ``any``; ``None`` if none was examined."""
    if defects is None:
        return None
    names = dict.fromkeys(name for flags in defects for name in flags)
    counts = {name: sum(flags[name] for flags in defects) for name in names}
    return {**counts, "any": sum(any(flags.values()) for flags in defects)}


def _language(record: Mapping[str, Any], config: Config) -> str:
    return language_of(record, text=config.dataset_type == "text", default=config.language)


def _several(languages: Sequence[str]) -> dict[str, str]:
    """Of captions in several languages: why there is no one value, by the plain names of scores."""
    if len(languages) < 2:
        return {}
    own: dict[str, list[str]] = {}
    for language in languages:
        for name, long in _long_names(language).items():
            own.setdefault(name, []).append(long)
    return {
        name: f"the captions are in {' and '.join(languages)}: see {', '.join(long)}"
        for name, long in own.items()
    }


def _plain_scores(values: Mapping[str, float | None], language: str) -> dict[str, float | None]:
    """The scores under their own names, and those of the primary tokeniser under plain names first."""
    long = _long_names(language)
    return {**{name: values[own] for name, own in long.items() if own in values}, **values}


def _long_names(language: str) -> dict[str, str]:
    """The scorers' names by the plain ones."""
    primary = PRIMARY_TOKENIZER[language]
    return {
        **{name: f"{primary}.{name}" for name in _NGRAM},
        **{name: f"{primary[:2]}.{name}" for name in ("chrf", "sacrebleu")},
        **({"meteor": "en.ptb.meteor"} if language == "english" else {}),
    }


def _quality_notes(quality: Json, notes: Mapping[str, str], language: str) -> dict[str, str]:
    """The scorers' notes, and the same under every other name that a score goes by here."""
    long = _long_names(language)
    found = dict(notes)
    for name, value in quality.items():
        own = name.removeprefix("avg_").removeprefix("corpus_")
        own = "bleu_4" if own == "bleu" else own
        why = notes.get(name) or notes.get(own) or notes.get(long.get(own, own))
        if why is not None:
            found[name] = why
        elif value is None and name != "meteor":
            found[name] = notes.get("references", "no caption was scored")
    return found


def _details(
    records: Sequence[Mapping[str, Any]],
    measured: Sequence[Measured],
    scores: Sequence[Mapping[str, float | None]],
    score_notes: Sequence[str | None],
    defects: Sequence[Mapping[str, bool]] | None,
) -> list[Json]:
    """One entry a sample; a failed one has its error, and nulls where the others have numbers."""
    flags = [None] * len(measured) if defects is None else defects
    rows = iter(zip(measured, scores, score_notes, flags, strict=True))
    names = list(dict.fromkeys(name for row in scores for name in row))
    entries: list[Json] = []
    for record in records:
        entry = _head(record)
        if record["status"] == "ok":
            found, its_scores, why, has = next(rows)
            entry.update(its_scores)
            entry["score_note"] = why
            entry["defects"] = None if has is None else [name for name in has if has[name]]
            entry["latency_metrics"] = found.latency
            entry["speculative_decoding_metrics"] = found.speculation
            entry["cost_metrics"] = found.cost
            entry["resources"] = found.resources
        else:
            entry.update(dict.fromkeys(names))
            entry["score_note"] = "the sample failed"
            entry["defects"] = None
            entry["latency_metrics"] = None
            entry["speculative_decoding_metrics"] = None
            entry["cost_metrics"] = None
            entry["resources"] = None
        entries.append(entry)
    return entries


def _head(record: Mapping[str, Any]) -> Json:
    references = list(record.get("references") or [])
    return {
        "file_id": record["file_id"],
        "index": record.get("index"),
        "dataset": record.get("dataset"),
        "status": record["status"],
        "error": record.get("error"),
        "degraded": degraded(record),
        "reference_caption": references[0] if references else None,
        "reference_captions": references,
        "reference_language": record.get("reference_language"),
        "generated_text": record.get("text"),
        "tokens": list(record.get("tokens") or []),
        "origins": list(record.get("origins") or []),
        "stop": record.get("stop"),
        "audio_s": record.get("audio_s"),
        "audio_notes": dict(record.get("audio_notes") or {}),
    }
