"""Names of the scores, and what each is: its range, tokeniser, library and version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from edgecloud.contracts import Language
from edgecloud.quality.metric import METRICS, Metric, Value
from edgecloud.quality.tokenize import DESCRIPTIONS
from edgecloud.registry import BUILT_IN

__all__ = ["Job", "jobs", "plain_names", "score_names"]


@dataclass(frozen=True, slots=True)
class Job:
    """A metric to be computed once: by one ``tokenizer``, or ``None`` where it takes texts; the full
    names of its values begin with ``prefix``."""

    metric: Metric
    tokenizer: str | None
    prefix: str

    def describe(self, language: Language) -> dict[str, dict[str, str]]:
        """By full name the range, tokeniser, library and version of each value."""
        return {
            self.prefix + value.name: _describe(self.metric, value, self.tokenizer, language)
            for value in self.metric.values
        }


def jobs(language: Language, tokenizers: Sequence[str], *, extended: bool) -> list[Job]:
    """What there is to compute of captions in ``language``, in the order in which it is shown.
    ``tokenizers`` are those of the metrics that name none; without ``extended`` the main scores alone."""
    some = [
        metric
        for metric in METRICS.values()
        if language in metric.languages and (extended or metric.main)
    ]
    by_run = [metric for metric in some if metric.takes == "tokens" and metric.tokenizers is None]
    found = [Job(metric, name, f"{name}.") for name in tokenizers for metric in by_run]
    for metric in some:
        if metric.takes == "texts":
            found.append(Job(metric, None, metric.prefix(language, None)))
        elif metric not in by_run:
            found += [
                Job(metric, name, metric.prefix(language, name))
                for name in metric.tokenizers_of(language)
            ]
    return found


def score_names(language: Language, tokenizers: Sequence[str], *, extended: bool) -> list[str]:
    """The full names of all scores of captions in ``language``, in the order in which they are shown."""
    return [
        job.prefix + name
        for job in jobs(language, tokenizers, extended=extended)
        for name in job.metric.names
    ]


def plain_names(language: Language) -> dict[str, str]:
    """By plain name the full name of each score that has one: ``cider`` is ``zh.jieba.cider``."""
    return {
        name: prefix + name
        for metric in METRICS.values()
        if language in metric.languages and (prefix := metric.plain_prefix(language))
        for name in metric.names
    }


def _describe(
    metric: Metric, value: Value, tokenizer: str | None, language: Language
) -> dict[str, str]:
    info = {"range": value.extent()}
    own = value.tokenizer
    if tokenizer is not None:
        info["tokeniser"] = f"{tokenizer}: {DESCRIPTIONS.get(tokenizer, tokenizer)}"
    elif own:
        info["tokeniser"] = own[language] if isinstance(own, Mapping) else own
    libraries = [*metric.libraries]
    if tokenizer is not None and tokenizer.startswith("zh.jieba"):
        libraries.append("jieba")
    sources = [metric.source] if metric.source else []
    if metric.name in METRICS and (part := METRICS.part(metric.name)).origin != BUILT_IN:
        # Another version of it is another scorer.
        sources.append(f"{part.origin} ({(part.sha256 or 'no file')[:12]})")
    sources += [f"{package} {_version(package)}" for package in libraries]
    info["library"] = ", ".join(sources)
    return info


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
