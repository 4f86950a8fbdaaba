"""``edgecloud certify``, from a manifest to a calibration file with a certificate."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecloud import __version__
from edgecloud.contracts import Sample
from edgecloud.datasets.corpus import in_own_language, load_corpus
from edgecloud.datasets.manifest import data_hash, embedded_manifest, load_manifest
from edgecloud.edge.gate_calibration import content
from edgecloud.errors import ConfigError, ContextLengthError, DataError
from edgecloud.experiments.calibration import SIGN
from edgecloud.experiments.certificate import (
    CIDER_SCALE,
    Chosen,
    Floats,
    Frequencies,
    fewest,
    has_loss,
    learn_then_test,
    losses,
    policy_of,
    statement,
)
from edgecloud.experiments.retiming import by_time
from edgecloud.experiments.run import data_of
from edgecloud.files import held
from edgecloud.quality import corpus_references_of
from edgecloud.quality.metrics.cider import STABLE_CORPUS
from edgecloud.results.certificate import signals
from edgecloud.results.records import Record
from edgecloud.settings.config import Config
from edgecloud.settings.options import OPTIONS

if TYPE_CHECKING:
    from edgecloud.experiments.tuned import Bench

__all__ = ["Asked", "Decoded", "certify", "check", "decoded", "loss_matrix"]

GRIDS: dict[str, tuple[float, ...]] = {
    "calibrated": (0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.3, 0.5, 1),
    "entropy": (0, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.25, 1.5, 2, 2.5, 3),
    "margin": (1, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0),
    "logprob": (0, -0.05, -0.1, -0.2, -0.35, -0.5, -0.75, -1, -1.5, -2, -3, -5),
}
"""Thresholds that are tested where none are given, by the threshold's setting: fixed before any data are seen."""
_ENDING = "_threshold"
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be certified, checked. ``samples`` are those of the population, ``left_out`` how many of the manifest's
    are not, by reason; ``thresholds`` are in the order of testing, of the setting ``option``."""

    config: Config
    samples: tuple[Sample, ...]
    left_out: Mapping[str, int]
    option: str
    thresholds: tuple[float, ...]
    loss: str
    risk: float
    confidence: float
    frequencies: Frequencies | None = None

    def at(self, threshold: float) -> Config:
        """The policy at a threshold."""
        return self.config.changed(**{self.option: threshold})


@dataclass(frozen=True, slots=True)
class Decoded:
    """What was decoded of each sample: the cloud's caption and those at each threshold; ``None``: it failed, and counts
    as lost whole. ``facts`` are the models' (JSON), by side."""

    facts: Mapping[str, Any]
    rows: Sequence[Sequence[Row] | None]


def check(
    config: Config,
    *,
    loss: str,
    risk: float,
    confidence: float,
    thresholds: str | None = None,
    document_frequencies: Path | None = None,
) -> Asked:
    """Check what can be without a model, the number of samples above all. ``thresholds`` are numbers between commas;
    ``document_frequencies`` a manifest whose references CIDEr's are counted over (``None``: the embedded corpus's).

    Raises:
        ConfigError: a setting with which nothing can be certified.
        DataError: samples that are too few, or have not what the loss is measured by.
    """
    for name, value in (("risk", risk), ("confidence", confidence)):
        if not 0 < value < 1:
            raise ConfigError(f"--{name} {value:g}: give a number between 0 and 1")
    for name, refused in {
        "temperature": config.sampling.temperature > 0,
        "regret_budget": config.acceptance.regret_budget is not None,
        "cloud_budget": config.cloud.budget is not None,
        by_time("spec", config) or "": by_time("spec", config) is not None,
    }.items():
        if refused:
            raise ConfigError(
                f"certify is for greedy decoding whose tokens hang on no time and no budget; leave out {name}"
            )
    option = _option(config)
    config = in_own_language(config.changed(clock="modelled"))
    tried = _thresholds(option, thresholds)
    corpus, _ = load_corpus(config)
    taken = corpus[: config.data.max_samples]
    language = config.data.language
    samples = tuple(sample for sample in taken if has_loss(loss, sample, language))
    missing = {"attributes": "without attributes", "cider": f"without a reference in {language}"}
    left_out = {missing[loss]: n} if (n := len(taken) - len(samples)) else {}
    least = fewest(risk=risk, confidence=confidence)
    if len(samples) < least:
        without = "".join(f"; {n} more are {why}" for why, n in left_out.items())
        raise DataError(
            f"--risk {risk:g} with --confidence {confidence:g} needs at least {least} samples, even if none of them loses "
            f"anything; there are {len(samples)} with what --loss {loss} is measured by{without}"
        )
    frequencies = None
    if loss == "cider":
        frequencies = _frequencies(config, samples, document_frequencies)
    elif document_frequencies is not None:
        raise ConfigError("--document-frequencies are for --loss cider alone; leave them out")
    return Asked(config, samples, left_out, option, tried, loss, risk, confidence, frequencies)


def _option(config: Config) -> str:
    """The setting that is the gate's threshold."""
    for option in OPTIONS:
        if option.name.removesuffix(_ENDING) in GRIDS and config.gate.name in option.used_by:
            return option.name
    raise ConfigError(
        f"the gate {config.gate.name!r} has no threshold that could be certified; give --gate-type "
        f"{', '.join(GRIDS)} or mean-logprob"
    )


def _thresholds(option: str, text: str | None) -> tuple[float, ...]:
    """The thresholds to test, from the one that asks the cloud most."""
    name = option.removesuffix(_ENDING)
    values: Sequence[Any] = GRIDS[name] if text is None else text.split(",")
    declared = next(each for each in OPTIONS if each.name == option)
    try:
        found = {float(declared.convert(value)) for value in values}
    except ValueError as error:
        raise ConfigError(f"--thresholds {text}: {error}; give numbers such as 0.1,0.2") from None
    return tuple(sorted(found, key=lambda value: SIGN.get(name, 1) * value))


def _frequencies(config: Config, samples: Sequence[Sample], path: Path | None) -> Frequencies:
    """The references of another corpus than the samples.

    Raises:
        DataError: they are few, or among them are some of the samples'.
    """
    language = config.data.language
    source = embedded_manifest(language, config.data.prompt_type) if path is None else path
    corpus = load_manifest(source, language=language, caption_type=config.data.caption_type)
    found = corpus_references_of(corpus, language)
    if len(found) < STABLE_CORPUS:
        raise DataError(
            f"{source}: document frequencies need {STABLE_CORPUS} samples with references in {language}; there are "
            f"{len(found)}"
        )
    shared = {(s.file_id, s.references) for s in samples} & {*found.items()}
    if shared:
        raise DataError(
            f"{source}: {len(shared)} of its samples are among those of the calibration, whose losses would hang on "
            "each other; give a manifest of others as --document-frequencies"
        )
    return Frequencies(found, "the embedded corpus" if path is None else path.name)


def certify(
    asked: Asked,
    folder: Path,
    *,
    told: Callable[[str, int, int], None] = lambda *_: None,
    loaded: Callable[[Config, Sequence[Sample]], Bench] | None = None,
) -> dict[str, Any]:
    """The content of a calibration file with the certificate. ``folder`` keeps what is decoded, so that another call,
    for another risk or loss too, goes on with it; ``loaded`` gives a pair that is loaded already.

    Raises:
        EdgeCloudError: the pair cannot be used.
    """
    found = decoded(asked, folder, told=told, loaded=loaded)
    matrix = loss_matrix(asked, found)
    result = learn_then_test(matrix, risk=asked.risk, confidence=asked.confidence)
    whole = content(asked.config.gate.calibration)
    return {**whole, "certificate": _certificate(asked, found, matrix, result)}


def decoded(
    asked: Asked,
    folder: Path,
    *,
    told: Callable[[str, int, int], None] = lambda *_: None,
    loaded: Callable[[Config, Sequence[Sample]], Bench] | None = None,
) -> Decoded:
    """Decode the samples by the cloud alone and at each threshold; what ``folder`` holds is not decoded again.

    Raises:
        EdgeCloudError: the pair cannot be used, or the cloud was lost.
    """
    from edgecloud.experiments.tuned import keep, kept, load_bench

    rows: list[Sequence[Row] | None] = []
    with held(folder / "decoded", flag="-o"):
        bench = (loaded or load_bench)(asked.config, asked.samples)
        policy = _digest([policy_of(asked.config, bench.facts), asked.option, asked.thresholds])
        handlers = [(bench.handler("cloud", asked.config), asked.config)]
        configs = [asked.at(threshold) for threshold in asked.thresholds]
        handlers += [(bench.handler("spec", config), config) for config in configs]
        for number, sample in enumerate(asked.samples):
            place = folder / f"decoded-{number:05d}.json"
            version = _digest([policy, asked.config.data.max_audio_s, data_hash([sample])])
            done = kept(place, version, sample)
            if done is None:
                try:
                    its = [_row(bench.decoded(each, own, sample)) for each, own in handlers]
                    done = {"captions": its}
                except (DataError, ContextLengthError) as error:
                    done = {"captions": None, "failed": str(error)}
                keep(place, {"version": version, "file_id": sample.file_id, "rows": done})
            rows.append(done["captions"])
            told(f"cloud alone and {len(configs)} thresholds", number + 1, len(asked.samples))
        return Decoded(bench.facts, rows)


def _digest(of: Any) -> str:
    """Of what decides what is decoded: what was decoded otherwise is of no use."""
    return hashlib.blake2b(json.dumps(of, sort_keys=True).encode(), digest_size=8).hexdigest()


def _row(record: Record) -> Row:
    """What is kept of a caption (JSON)."""
    return {
        "text": record.text or "",
        "tokens": list(record.tokens),
        "calls": len(record.trace.calls),
        "signals": signals(record.trace),
    }


def loss_matrix(asked: Asked, found: Decoded) -> Floats:
    """Losses ``(thresholds, samples)`` against the cloud alone; 1 where a sample failed."""
    matrix = np.ones((len(asked.thresholds), len(asked.samples)))
    done = [place for place, rows in enumerate(found.rows) if rows is not None]
    captions = [rows for rows in found.rows if rows is not None]
    for number in range(len(asked.thresholds) if captions else 0):
        matrix[number, done] = losses(
            asked.loss,
            [rows[number + 1] for rows in captions],
            [rows[0] for rows in captions],
            samples=[asked.samples[place] for place in done],
            language=asked.config.data.language,
            frequencies=asked.frequencies,
        )
    return matrix


def _certificate(asked: Asked, found: Decoded, matrix: Floats, result: Chosen) -> dict[str, Any]:
    """The block ``certificate`` of the file; of its parts runs read :class:`edgecloud.results.certificate.Certified`."""
    index = result.index
    at = None if index is None else asked.thresholds[index]
    captions = [rows for rows in found.rows if rows is not None]
    calls = np.array([[row["calls"] for row in rows[1:]] for rows in captions]).reshape(
        -1, len(matrix)
    )
    seen = (
        [] if index is None else [row for rows in captions if (row := rows[index + 1]["signals"])]
    )
    corpus, manifest = load_corpus(asked.config)
    policy = policy_of(asked.config, found.facts)
    failed = len(found.rows) - len(captions)
    tests = [
        {"threshold": t, "mean_loss": float(row.mean()), "p_value": p, "mean_calls": float(c)}
        for t, row, p, c in zip(
            asked.thresholds, matrix, result.p_values, calls.mean(axis=0), strict=True
        )
    ]
    return {
        "statement": statement(
            loss=asked.loss,
            gate=asked.config.gate.name,
            threshold=at,
            samples=len(asked.samples),
            left_out=asked.left_out,
            failed=failed,
            risk=asked.risk,
            confidence=asked.confidence,
        ),
        "loss": asked.loss,
        "scale": CIDER_SCALE if asked.loss == "cider" else 1.0,
        "risk": asked.risk,
        "confidence": asked.confidence,
        "gate": asked.config.gate.name,
        "threshold": at,
        "samples": len(asked.samples),
        "left_out": dict(asked.left_out),
        "failed": failed,
        "tested": tests,
        "how": "learn then test: betting p-values, thresholds in this order until one is not rejected",
        "document_frequencies": asked.frequencies and asked.frequencies.to_json(),
        "policy": {**policy, asked.option: at},
        "models": dict(found.facts),
        "data": data_of(asked.config, corpus, manifest),
        "edgecloud": __version__,
        "signals": {name: [round(row[name], 6) for row in seen] for name in (seen or [{}])[0]},
    }
