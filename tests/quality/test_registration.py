"""Metrics of other people: what a registration decides, and what becomes of one that fails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

import edgecloud
from edgecloud.errors import PluginError
from edgecloud.quality import METRICS, Scores, score
from edgecloud.quality.metric import Metric, Value, metric, values
from edgecloud.quality.result import MetricResult, of_samples
from edgecloud.quality.tokenize import Tokens
from edgecloud.results.aggregate import RunLatency, RunSpeculation
from edgecloud.results.floors import check_floors
from edgecloud.results.result import Metrics


@pytest.fixture
def own() -> Iterator[Any]:
    """Register metrics for the time of a test, as those of a module that is none of this package."""
    before = dict(METRICS._parts)  # type: ignore[attr-defined]
    yield edgecloud.metric
    METRICS._parts.clear()  # type: ignore[attr-defined]
    METRICS._parts.update(before)  # type: ignore[attr-defined]


def scored(language: Any = "english", *, references: Sequence[str] = ("a calm voice",)) -> Scores:
    return score(
        language=language,
        ids=["a", "b"],
        hypotheses=["a calm voice", "he shouts"],
        references=[list(references), ["he is angry"]],
        reference_languages=[language, "english"],
        corpus_references={"a": list(references), "b": ["he is angry"]},
        extended=True,
        meteor_from=20,
    )


def words(hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> MetricResult:
    """Words of the captions."""
    return of_samples("words", [float(len(tokens.words)) for tokens in hypotheses])


def test_the_public_decorator_is_the_registry_s_and_leaves_the_function_alone(own: Any) -> None:
    assert own is metric
    assert own("words")(words) is words
    assert METRICS["words"].compute is words
    assert METRICS.part("words").origin.startswith("module ")
    assert METRICS.part("words").summary == "Words of the captions."
    assert list(METRICS)[-1] == "words"


def test_tokens_are_of_every_tokenizer_of_the_run(own: Any) -> None:
    own("words", range=None, unit="words")(words)
    found = scored()
    assert found.corpus["en.simple.words"] == 2.5
    assert [row["en.simple.words"] for row in found.per_sample] == [3.0, 2.0]
    assert found.info["en.simple.words"]["range"] == "words"


def test_texts_the_language_and_the_references_of_the_corpus_are_handed_over(own: Any) -> None:
    seen: dict[str, Any] = {}

    def told(hypotheses: Any, references: Any, **extras: Any) -> MetricResult:
        seen.update(extras, hypotheses=hypotheses, references=references)
        return of_samples("told", [np.float32(0.5)] * len(hypotheses))

    own("told", takes="texts", needs=["language", "corpus"], by_language=True)(told)
    found = scored()
    assert seen["hypotheses"] == ["a calm voice", "he shouts"]
    assert seen["references"] == [["a calm voice"], ["he is angry"]]
    assert seen["language"] == "english"
    assert seen["ids"] == ["a", "b"]
    assert seen["corpus_references"] == {"a": ["a calm voice"], "b": ["he is angry"]}
    assert type(found.per_sample[0]["en.told"]) is float


def test_one_that_needs_no_reference_is_computed_without(own: Any) -> None:
    own("words", reference_free=True, range=None, unit="words")(words)
    own("others", range=None, unit="words")(
        lambda h, _: MetricResult({"others": 1.0}, tuple({"others": 1.0} for _ in h))
    )
    found = scored(references=())
    assert [row["en.simple.words"] for row in found.per_sample] == [3.0, 2.0]
    assert [row["en.simple.others"] for row in found.per_sample] == [None, 1.0]
    assert found.corpus["en.simple.words"] == 2.0


def test_one_of_another_language_is_left_out(own: Any) -> None:
    own("words", languages=["chinese"])(words)
    assert not [name for name in scored().corpus if name.endswith("words")]


def test_one_may_have_a_value_of_the_corpus_alone(own: Any) -> None:
    own("vocabulary", per_sample=False, range=None, unit="words")(
        lambda hypotheses, _: MetricResult(
            {"vocabulary": len({word for tokens in hypotheses for word in tokens.words})}, ()
        )
    )
    found = scored()
    assert found.corpus["en.simple.vocabulary"] == 5.0
    assert found.per_sample[0]["en.simple.vocabulary"] is None


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (lambda _: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda n: [0.5] * n, "it gave list, not MetricResult"),
        (
            lambda n: of_samples("other", [0.5] * n),
            "it gave other of the corpus, not broken",
        ),
        (lambda _: of_samples("broken", [0.5]), "it gave 1 rows for 2 samples"),
        (lambda n: of_samples("broken", [float("nan")] * n), "broken is nan, not a finite"),
        (lambda n: of_samples("broken", ["x"] * n), "TypeError: "),
    ],
)
def test_one_that_fails_has_no_value_says_why_and_costs_no_other(
    own: Any, given: Any, why: str
) -> None:
    own("broken")(lambda hypotheses, _: given(len(hypotheses)))
    found = scored()
    assert found.corpus["en.simple.broken"] is None
    assert [row["en.simple.broken"] for row in found.per_sample] == [None, None]
    assert found.notes["en.simple.broken"].startswith("metric broken failed: ")
    assert why in found.notes["en.simple.broken"]
    assert found.corpus["en.simple.rouge_l"] is not None


@pytest.mark.parametrize(
    ("name", "fields", "why"),
    [
        ("bleu", {}, "two parts are called metric 'bleu'"),
        ("mine", {"values": [Value("cider")]}, "a score 'cider' is there already"),
        ("mine", {"aliases": ("avg_cider",)}, "a score 'avg_cider' is there already"),
        ("mine", {"range": (1.0, 0.0)}, "range"),
        ("mine", {"tolerance": -1.0}, "a tolerance is a number from 0 on"),
        ("mine", {"tolerance": 0.1, "higher_is_better": None}, "has a better side"),
        ("mine", {"per_sample": False, "paired": True}, "nothing is paired"),
        ("mine", {"takes": "words"}, "takes 'words' is not one of tokens"),
        ("mine", {"needs": ["gpu"]}, "need 'gpu' is not one of language"),
        ("mine", {"languages": ["french"]}, "language 'french' is not one of"),
        ("a score", {}, "cannot be called 'a score'"),
    ],
)
def test_a_registration_that_cannot_be_is_refused_in_one_line(
    own: Any, name: str, fields: dict[str, Any], why: str
) -> None:
    with pytest.raises(PluginError, match=why) as caught:
        own(name, **fields)(words)
    assert "\n" not in str(caught.value)


def test_an_object_that_is_no_metric_is_refused() -> None:
    with pytest.raises(PluginError, match=r"put @edgecloud\.metric above it"):
        METRICS.add("words", words)  # type: ignore[arg-type]


def test_every_value_has_a_name_in_both_languages_and_numbers_of_its_own() -> None:
    for value in values().values():
        assert value.label("english")
        assert value.label("chinese")
    every = [key for value in values().values() for key in value.keys]
    assert len(every) == len(set(every))


def test_a_floor_is_a_ceiling_where_a_lower_value_is_better(own: Any) -> None:
    own("errors", higher_is_better=False)(words)
    floors = {"settings": {}, "floors": {"english": {"edge": {"errors": 0.5, "cider": 0.5}}}}

    def missed(errors: float, cider: float) -> list[str]:
        metrics = Metrics(
            scores={"errors": errors, "cider": cider},
            num_samples=1,
            num_completed=1,
            num_failed=0,
            latency_metrics=RunLatency(numbers={}),
            speculative_decoding_metrics=RunSpeculation(),
            cost_metrics={},
            notes={},
        )
        config = {"language": "english", "acceptance": "rank"}
        found = check_floors(floors, mode="edge", config=config, metrics=metrics, corpus_size=1)
        return [text.split()[0] for text in found.get("missed", [])]

    assert missed(0.4, 0.6) == []
    assert missed(0.6, 0.4) == ["errors", "cider"]


def test_of_metrics_whose_values_nobody_sees_none_is_registered() -> None:
    for made in METRICS.values():
        assert isinstance(made, Metric)
        assert made.values
