"""The laws that every metric obeys, and a check of one against them::

from edgecloud.quality import METRICS
from edgecloud.testing.metrics import check_metric

def test_my_metric():
    check_metric(METRICS["mine"], language="english")
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import isclose, isfinite
from types import MappingProxyType
from typing import Any, Final

from edgecloud.contracts import Language
from edgecloud.errors import MetricError
from edgecloud.quality.java import find_java
from edgecloud.quality.metric import Metric, Value
from edgecloud.quality.metrics.bertscore import bertscore_settings
from edgecloud.quality.metrics.meteor import PTB
from edgecloud.quality.result import MetricResult
from edgecloud.quality.tokenize import Tokens, segment

__all__ = ["METRIC_LAWS", "broken_laws", "check_metric", "missing", "score_texts"]

_REFERENCES: Final[Mapping[Language, Sequence[Sequence[str]]]] = MappingProxyType(
    {
        "english": (
            ("the man sounds angry and speaks loudly", "an angry man speaks in a loud voice"),
            (
                "a happy woman speaks fast with a high voice",
                "she talks quickly and sounds cheerful",
            ),
            ("a calm man speaks slowly and quietly", "his quiet slow voice sounds calm"),
            ("a sad woman speaks in a low voice", "she is sad and her voice is low"),
        ),
        "chinese": (
            ("这位男士语气愤怒，说话声音很大", "男士非常生气，嗓门响亮"),
            ("女士语气开心，说话很快，音调较高", "她高兴地快速说着话"),
            ("男士平静地说话，语速缓慢，声音很轻", "他的声音轻而平静"),
            ("女士悲伤地说话，声音低沉", "她很难过，嗓音低"),
        ),
    }
)
_NEAR: Final[Mapping[Language, str]] = MappingProxyType(
    {"english": "a happy woman whispers", "chinese": "女士语气开心，低声说话"}
)
_OTHER: Final[Mapping[Language, str]] = MappingProxyType(
    {"english": "a furious child shouts", "chinese": "孩子们在远处喧哗"}
)
_TRUTHS: Final[Sequence[Mapping[str, str]]] = (
    {"voice": "male", "loudness": "loud", "emotion": "angry"},
    {"voice": "female", "rate": "fast", "pitch": "high", "emotion": "happy"},
    {"voice": "male", "rate": "slow", "loudness": "soft", "emotion": "neutral"},
    {"voice": "female", "pitch": "low", "emotion": "sad"},
)
"""What the references say of the voice, each of the first one."""
_CLOSE: Final = 1e-5
"""Scores of one caption in two calls differ by rounding at most, relative to the range."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a metric gave: of each reference as its own caption (``itself``), then of a reference, of
    something near one, of nothing and of something else (``mixed``)."""

    metric: Metric
    result: MetricResult
    count: int
    again: Callable[[], MetricResult]
    of: Callable[[Sequence[int]], MetricResult]

    def each(self, value: Value) -> list[float]:
        """The samples' own values, those that are defined."""
        rows = [row.get(value.name) for row in self.result.per_sample]
        return [number for number in rows if number is not None]

    def scored(self) -> Iterator[Value]:
        """The values that have a better side, of which an empty caption has the worse."""
        return (
            value
            for value in self.metric.values
            if value.higher_is_better is not None and not value.fault
        )


Problem = str | None


def _names(seen: _Seen) -> Problem:
    """It gives the values that it registered: of the corpus, and a row of them for each sample; all are
    defined for captions that have references."""
    for value in seen.metric.values:
        note = seen.result.notes.get(value.name, "")
        if value.name not in seen.result.corpus:
            return f"no {value.name} of the corpus"
        if seen.result.corpus[value.name] is None:
            return f"{value.name} of the corpus is not defined: {note}"
        if value.of_truth:
            continue  # a truth need not say everything
        if value.per_sample and len(seen.each(value)) != seen.count:
            return f"{len(seen.each(value))} values of {value.name} for {seen.count} samples"
    return None


def _range(seen: _Seen) -> Problem:
    """Every value is finite and within the range that is registered."""
    for value in seen.metric.values:
        whole = seen.result.corpus.get(value.name)
        for number in (*seen.each(value), *(() if whole is None else (whole,))):
            if not isfinite(number):
                return f"{value.name} is {number}"
            if value.range is not None:
                low, high = value.range
                slack = _CLOSE * (high - low)
                if not low - slack <= number <= high + slack:
                    return f"{value.name} is {number:g}, its range {value.extent()}"
    return None


def _itself(seen: _Seen) -> Problem:
    """The reference itself as caption scores better than something else, and no caption scores twice as
    well as any reference."""
    for value in seen.scored():
        if not value.per_sample:
            best, worst = (
                seen.of(some).corpus[value.name] for some in ((0, 1, 2, 3), (7, 7, 7, 7))
            )
            if best is None or worst is None or not best * value.sign > worst * value.sign:
                return f"{value.name} is {best} of the references, {worst} of something else"
            continue
        numbers = [number * value.sign for number in seen.each(value)]
        if len(numbers) != seen.count:
            continue  # another law's
        if not min(numbers[:4]) > numbers[7]:
            return f"{value.name}: something else scores as well as a reference itself"
        if value.higher_is_better and min(numbers[:4]) < max(numbers) * 0.5:
            return f"{value.name}: a caption scores twice as well as a reference itself"
    return None


def _empty(seen: _Seen) -> Problem:
    """Nothing scores worse than an empty caption; where the range has an end on that side, it is that."""
    for value in seen.scored():
        if not value.per_sample:
            continue
        numbers = [number * value.sign for number in seen.each(value)]
        if len(numbers) != seen.count:
            continue
        if numbers[6] > min(numbers):
            return f"{value.name}: a caption scores worse than an empty one"
        end = None if value.range is None else value.range[0 if value.higher_is_better else 1]
        if end is not None and not isclose(numbers[6] * value.sign, end, abs_tol=1e-6):
            return f"{value.name} of an empty caption is {numbers[6] * value.sign:g}, not {end:g}"
    return None


def _between(seen: _Seen) -> Problem:
    """The corpus value lies between the least and the greatest of its samples."""
    for value in seen.metric.values:
        whole, numbers = seen.result.corpus.get(value.name), seen.each(value)
        if whole is not None and numbers:
            slack = _CLOSE * max(1.0, abs(whole))
            if not min(numbers) - slack <= whole <= max(numbers) + slack:
                return f"{value.name} of the corpus is {whole:g}, its samples {min(numbers):g} to {max(numbers):g}"
    return None


def _order(seen: _Seen) -> Problem:
    """The value of a sample depends on that sample alone: in another order, each has its own again, and
    the corpus value is the same. Not asked of a metric that starts a Java program, which takes seconds."""
    if "java" in seen.metric.needs:
        return None
    turned = seen.again()
    for value in seen.metric.values:
        one, other = seen.result.corpus.get(value.name), turned.corpus.get(value.name)
        pairs = [(one, other)]
        if value.per_sample:
            rows = zip(seen.result.per_sample, reversed(turned.per_sample), strict=True)
            pairs += [(row.get(value.name), again.get(value.name)) for row, again in rows]
        for before, after in pairs:
            if (before is None) != (after is None):
                return f"{value.name} is {before}, in another order {after}"
            if before is None or after is None:
                continue
            if not isclose(before, after, rel_tol=_CLOSE, abs_tol=_CLOSE):
                return f"{value.name} is {before:g}, in another order {after:g}"
    return None


METRIC_LAWS: Final[Mapping[str, Callable[[_Seen], Problem]]] = MappingProxyType(
    {
        "names": _names,
        "range": _range,
        "itself": _itself,
        "empty": _empty,
        "between": _between,
        "order": _order,
    }
)
"""By name each law, which its docstring states."""


def missing(metric: Metric, language: Language = "english") -> str | None:
    """What keeps a metric from being computed on this machine; ``None``: nothing."""
    if language not in metric.languages:
        return f"{metric.name} is not for {language}"
    if "java" in metric.needs or PTB in metric.tokenizers_of(language):
        try:
            find_java()
        except MetricError as error:
            return str(error)
    if "bert_model" in metric.needs and bertscore_settings(language, None, None) is None:
        return f"there is no model for {language}"
    return None


def score_texts(
    metric: Metric,
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    language: Language = "english",
    attributes: Sequence[Mapping[str, str]] | None = None,
) -> MetricResult:
    """A metric of texts, cut up by the first tokenizer that it takes, with all that it needs; ``attributes`` are
    the truth about each sample, nothing where they are not given."""
    tokenizers = metric.tokenizers_of(language)
    cut: Callable[[str], Any] = str
    if tokenizers:
        cut = partial(_cut, tokenizer=tokenizers[0])
    targets = [[cut(text) for text in some] for some in references]
    extras: dict[str, Any] = {}
    if "language" in metric.needs:
        extras["language"] = language
    if "attributes" in metric.needs:
        extras["attributes"] = [{}] * len(hypotheses) if attributes is None else attributes
    if "bert_model" in metric.needs:
        extras["settings"] = bertscore_settings(language, None, None)
    if "corpus" in metric.needs:
        ids = [str(number) for number in range(len(hypotheses))]
        extras |= {"ids": ids, "corpus_references": dict(zip(ids, targets, strict=False))}
    return metric.score([cut(text) for text in hypotheses], targets, **extras)


def broken_laws(metric: Metric, *, language: Language = "english") -> dict[str, str]:
    """By name the laws of :data:`METRIC_LAWS` that a metric breaks, and how.

    Raises:
        MetricError: it cannot be computed here, see :func:`missing`.
    """
    if (why := missing(metric, language)) is not None:
        raise MetricError(why)
    references = _REFERENCES[language]
    itself = [some[0] for some in references]
    captions = [*itself, itself[0], _NEAR[language], "", _OTHER[language]]
    targets = [*references, *references]
    truths = [*_TRUTHS, *_TRUTHS]

    def call(
        texts: Sequence[str], some: Sequence[Sequence[str]], known: Sequence[Mapping[str, str]]
    ) -> MetricResult:
        return score_texts(metric, texts, some, language=language, attributes=known)

    seen = _Seen(
        metric,
        call(captions, targets, truths),
        len(captions),
        lambda: call(captions[::-1], targets[::-1], truths[::-1]),
        lambda some: call([captions[i] for i in some], targets[: len(some)], truths[: len(some)]),
    )
    return {
        name: problem for name, law in METRIC_LAWS.items() if (problem := law(seen)) is not None
    }


def check_metric(metric: Metric, *, language: Language = "english") -> None:
    """Raise ``AssertionError`` with every law that a metric breaks; see :func:`broken_laws`."""
    found = broken_laws(metric, language=language)
    told = [f"{name} ({METRIC_LAWS[name].__doc__}): {how}" for name, how in found.items()]
    if told:
        raise AssertionError("\n".join([f"metric {metric.name} breaks:", *told]))


def _cut(text: str, tokenizer: str) -> Tokens:
    # PTB's own program is not needed for lower-cased words.
    return Tokens(PTB, tuple(text.split())) if tokenizer == PTB else segment(text, tokenizer)
