"""What every metric obeys: values of the corpus and of each sample, in range; an empty caption scores
least; the reference itself scores most; texts that nobody cut up are refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from edgecloud.errors import MetricError
from edgecloud.quality.bertscore import bertscore, bertscore_settings
from edgecloud.quality.bleu import bleu
from edgecloud.quality.cider import cider
from edgecloud.quality.emotion import emotion_scores
from edgecloud.quality.java import find_java
from edgecloud.quality.meteor import PTB, meteor_tokens
from edgecloud.quality.result import MetricResult
from edgecloud.quality.rouge import rouge_l
from edgecloud.quality.sacre import sacre_scores
from edgecloud.quality.tokenize import Tokens, segment

REFERENCES = [
    ["the man sounds angry and speaks loudly", "an angry man speaks in a loud voice"],
    ["a happy woman speaks fast with a high voice", "she talks quickly and sounds cheerful"],
    ["a calm man speaks slowly and quietly", "his quiet slow voice sounds calm"],
    ["a sad woman speaks in a low voice", "she is sad and her voice is low"],
]
ITSELF = [some[0] for some in REFERENCES]
MIXED = [ITSELF[0], "a happy woman whispers", "", "a furious child shouts"]
"""The reference itself, something near it, nothing, something else."""

Score = Callable[[Sequence[str], Sequence[Sequence[str]]], MetricResult]
TokenScore = Callable[[Sequence[Tokens], Sequence[Sequence[Tokens]]], MetricResult]


@dataclass(frozen=True)
class Metric:
    """``names`` with their ``best`` value, over texts; ``needs`` says why it cannot run here."""

    score: Score
    names: tuple[str, ...]
    best: float
    on_tokens: TokenScore | None = None
    tokenizer: str = "en.simple"
    needs: Callable[[], str | None] = lambda: None


def _cider(hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> MetricResult:
    ids = [str(number) for number in range(len(hypotheses))]
    return cider(dict(zip(ids, hypotheses, strict=True)), dict(zip(ids, references, strict=False)))


def _java() -> str | None:
    try:
        find_java()
    except MetricError as error:
        return str(error)
    return None


def _bert_model() -> str | None:
    try:
        import bert_score  # noqa: F401
    except ImportError as error:
        return str(error)
    none = bertscore_settings("english", None, None) is None
    return "the extra bertscore-minilm is not installed" if none else None


def _cut(text: str, tokenizer: str) -> Tokens:
    # PTB's own program is not needed for lower-cased words.
    return Tokens(PTB, tuple(text.split())) if tokenizer == PTB else segment(text, tokenizer)


def _of_tokens(
    score: TokenScore,
    *names: str,
    best: float = 1.0,
    tokenizer: str = "en.simple",
    needs: Callable[[], str | None] = lambda: None,
) -> Metric:
    def on_texts(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> MetricResult:
        return score(
            [_cut(text, tokenizer) for text in hypotheses],
            [[_cut(text, tokenizer) for text in some] for some in references],
        )

    return Metric(on_texts, names, best, score, tokenizer, needs)


METRICS: dict[str, Metric] = {
    "bleu": _of_tokens(bleu, "bleu_1", "bleu_2", "bleu_3", "bleu_4"),
    "rouge_l": _of_tokens(rouge_l, "rouge_l"),
    "cider": _of_tokens(_cider, "cider", best=10.0),
    "meteor": _of_tokens(meteor_tokens, "meteor", tokenizer=PTB, needs=_java),
    "sacre": Metric(
        lambda hypotheses, references: sacre_scores(hypotheses, references, language="english"),
        ("chrf", "sacrebleu"),
        100.0,
    ),
    "emotion": Metric(
        lambda hypotheses, references: emotion_scores(hypotheses, references, language="english"),
        ("emotion_accuracy", "emotion_recall", "emotion_precision"),
        1.0,
    ),
    "bertscore": Metric(
        lambda hypotheses, references: bertscore(
            hypotheses, references, settings=bertscore_settings("english", None, None)
        ),
        ("bertscore_precision", "bertscore_recall", "bertscore_f1"),
        1.0,
        needs=_bert_model,
    ),
}
"""Add a new metric here."""

ON_TOKENS = [name for name, metric in METRICS.items() if metric.on_tokens is not None]


@pytest.fixture(params=METRICS)
def metric(request: pytest.FixtureRequest) -> Metric:
    found = METRICS[request.param]
    if (why := found.needs()) is not None:
        pytest.skip(why)
    return found


def check_mixed(metric: Metric) -> None:
    """All laws about values, from one call: METEOR's program takes seconds to start."""
    result = metric.score([*ITSELF, *MIXED], [*REFERENCES, *REFERENCES])
    assert tuple(result.corpus) == metric.names
    assert len(result.per_sample) == len(ITSELF) + len(MIXED)
    for name in metric.names:
        values = [row[name] for row in result.per_sample]
        assert all(isinstance(value, float) and math.isfinite(value) for value in values)
        numbers = [value for value in values if value is not None]
        assert all(-1e-6 <= value <= metric.best * (1 + 1e-5) for value in numbers)
        itself, (_, _, empty, other) = numbers[: len(ITSELF)], numbers[len(ITSELF) :]
        assert min(itself) > other
        assert min(itself) >= max(numbers) * 0.5
        assert empty == pytest.approx(0.0, abs=1e-6)
        whole = result.corpus[name]
        assert whole is not None
        assert min(numbers) <= whole <= max(numbers)


def test_values_are_of_the_corpus_and_of_each_sample(metric: Metric) -> None:
    check_mixed(metric)


def test_lists_of_different_lengths_are_refused(metric: Metric) -> None:
    with pytest.raises(MetricError):
        metric.score(ITSELF[:2], REFERENCES[:1])


@pytest.mark.parametrize("name", ON_TOKENS)
def test_texts_that_nobody_cut_up_are_refused(name: str) -> None:
    score = METRICS[name].on_tokens
    assert score is not None
    with pytest.raises(MetricError, match="unsegmented Chinese"):
        score(["语气开心"], [["语气开心"]])  # type: ignore[list-item]
    with pytest.raises(MetricError):
        Tokens(METRICS[name].tokenizer, ("a calm voice",))


@pytest.mark.parametrize("name", ON_TOKENS)
def test_tokens_of_two_tokenisers_do_not_mix(name: str) -> None:
    score, tokenizer = METRICS[name].on_tokens, METRICS[name].tokenizer
    assert score is not None
    with pytest.raises(MetricError):
        score([_cut("a voice", tokenizer)], [[segment("a voice", "zh.char")]])


def test_a_metric_that_breaks_these_laws_is_caught() -> None:
    def sunny(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> MetricResult:
        rows = tuple({"sunny": 1.0} for _ in hypotheses)
        return MetricResult({"sunny": 1.0}, rows)

    with pytest.raises(AssertionError):
        check_mixed(Metric(sunny, ("sunny",), 1.0))
