"""Every registered metric obeys the laws of ``edgecloud.testing.metrics``, and a planted violation of each
is caught. A new metric is found by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from edgecloud.errors import MetricError
from edgecloud.quality import METRICS
from edgecloud.quality.metric import Metric, Value
from edgecloud.quality.result import MetricResult, of_samples
from edgecloud.quality.tokenize import Tokens, segment
from edgecloud.testing.metrics import METRIC_LAWS, broken_laws, check_metric, missing, score_texts

Languages = pytest.mark.parametrize("language", ["english", "chinese"])


@Languages
@pytest.mark.parametrize("name", METRICS)
def test_a_metric_obeys_every_law(name: str, language: str) -> None:
    if (why := missing(METRICS[name], language)) is not None:  # type: ignore[arg-type]
        pytest.skip(why)
    check_metric(METRICS[name], language=language)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", METRICS)
def test_lists_of_different_lengths_are_refused(name: str) -> None:
    with pytest.raises(MetricError):
        score_texts(METRICS[name], ["a calm voice", "an angry voice"], [["a calm voice"]])


ON_TOKENS = [name for name in METRICS if METRICS[name].takes != "texts"]


@pytest.mark.parametrize("name", ON_TOKENS)
def test_texts_that_nobody_cut_up_are_refused(name: str) -> None:
    with pytest.raises(MetricError, match="unsegmented Chinese"):
        METRICS[name].score(["语气开心"], [["语气开心"]])


@pytest.mark.parametrize("name", ON_TOKENS)
def test_tokens_of_two_tokenisers_do_not_mix(name: str) -> None:
    with pytest.raises(MetricError):
        METRICS[name].score([segment("a voice", "en.simple")], [[segment("a voice", "zh.char")]])


def shared(hypothesis: Tokens, references: Sequence[Tokens]) -> float:
    """The share of the words of either that both have, with the best reference."""
    own = set(hypothesis.words)
    return max(len(own & set(text.words)) / len(own | set(text.words)) for text in references)


Row = Callable[[list[float]], list[float]]


def planted(change: Row = lambda values: values, **fields: object) -> Metric:
    """A sound metric, with its samples' values changed."""

    def compute(
        hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]
    ) -> MetricResult:
        values = [shared(*pair) for pair in zip(hypotheses, references, strict=True)]
        return of_samples("overlap", change(values))

    return Metric(name="overlap", compute=compute, values=(Value("overlap", **fields),))  # type: ignore[arg-type]


def _summed(metric: Metric) -> Metric:
    def compute(*captions: Sequence[object]) -> MetricResult:
        found = metric.compute(*captions)
        return replace(found, corpus={"overlap": float(len(found.per_sample))})

    return replace(metric, compute=compute)


PLANTED: dict[str, Metric] = {
    "names": planted(lambda values: [None, *values[1:]]),  # type: ignore[list-item]
    "range": planted(lambda values: [2.0 * value for value in values]),
    "itself": planted(lambda values: [1.0 if value else 0.0 for value in values]),
    "empty": planted(lambda values: [0.1 + 0.9 * value for value in values]),
    "between": _summed(planted(range=None, unit="words")),
    "order": planted(lambda values: [v * (1 - 0.01 * i) for i, v in enumerate(values)]),
}


def test_each_law_has_a_planted_violation() -> None:
    assert set(PLANTED) == set(METRIC_LAWS)
    assert all(law.__doc__ for law in METRIC_LAWS.values())


@pytest.mark.parametrize("law", METRIC_LAWS)
def test_a_planted_violation_is_caught(law: str) -> None:
    assert law in broken_laws(PLANTED[law])
    with pytest.raises(AssertionError, match=law):
        check_metric(PLANTED[law])


@Languages
def test_a_sound_metric_breaks_none(language: str) -> None:
    assert broken_laws(planted(), language=language) == {}  # type: ignore[arg-type]


def test_a_lower_value_may_be_the_better_one() -> None:
    distance = planted(lambda values: [1.0 - value for value in values], higher_is_better=False)
    assert broken_laws(distance) == {}
    assert {"itself", "empty"} <= set(broken_laws(planted(higher_is_better=False)))


def test_a_metric_may_have_no_values_of_samples() -> None:
    metric = planted(per_sample=False)

    def compute(*captions: Sequence[object]) -> MetricResult:
        return replace(metric.compute(*captions), per_sample=())

    assert broken_laws(replace(metric, compute=compute)) == {}
