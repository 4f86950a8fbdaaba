"""Each metric alone: what it refuses, and values a reader can derive."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider

from edgecloud.errors import MetricError
from edgecloud.quality.metrics.bleu import bleu
from edgecloud.quality.metrics.cider import cider
from edgecloud.quality.metrics.rouge import rouge_l
from edgecloud.quality.tokenize import Tokens, segment

NGRAM = [bleu, rouge_l]


def en(text: str) -> Tokens:
    return segment(text, "en.simple")


@pytest.mark.parametrize("metric", NGRAM)
def test_the_reference_itself_scores_one(metric: Any) -> None:
    text = en("a calm voice at medium speed")
    result = metric([text], [[text]])
    assert all(value == pytest.approx(1.0, abs=1e-6) for value in result.corpus.values())


def test_bleu_counts_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    # 3 of 4 words and 1 of 3 pairs occur in the reference, which is as long.
    result = bleu([en("a calm low voice")], [[en("a calm quiet voice")]])
    assert result.corpus["bleu_1"] == pytest.approx(3 / 4)
    assert result.corpus["bleu_2"] == pytest.approx(math.sqrt(3 / 4 * 1 / 3))
    assert capsys.readouterr().out == ""


def test_rouge_by_hand() -> None:
    # The longest common subsequence, "a voice", is 2 of 3 words and 2 of 4.
    value = rouge_l([en("a loud voice")], [[en("a calm quiet voice")]]).corpus["rouge_l"]
    precision, recall, beta2 = 2 / 3, 2 / 4, 1.2**2
    assert value == pytest.approx((1 + beta2) * precision * recall / (recall + beta2 * precision))


@pytest.mark.parametrize("metric", NGRAM)
def test_an_empty_caption_scores_zero(metric: Any) -> None:
    result = metric([en("")], [[en("a calm voice")]])
    assert all(value == pytest.approx(0.0, abs=1e-6) for value in result.corpus.values())


@pytest.mark.parametrize("metric", NGRAM)
@pytest.mark.parametrize(
    "hypotheses, references, says",
    [
        (["语气开心"], [["语气开心"]], "unsegmented Chinese"),
        ([en("a")], [["a"]], "is not tokens"),
        ([en("a")], [[]], "empty reference"),
        ([en("a")], [[en("!")]], "empty reference"),
        ([en("a")], [], "1 hypotheses but 0"),
        ([], [], "nothing to score"),
        ([en("a")], [[segment("a", "zh.char")]], "different tokenisers"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    metric: Any, hypotheses: Any, references: Any, says: str
) -> None:
    with pytest.raises(MetricError, match=says):
        metric(hypotheses, references)


def corpus(size: int) -> dict[str, list[Tokens]]:
    return {str(i): [en(f"word{i} a voice kind{i % 3} says something{i}")] for i in range(size)}


def test_cider_weighs_by_the_whole_corpus_whatever_is_scored() -> None:
    references = corpus(60)
    everything = {name: en(f"a voice kind1 says something{name}") for name in references}
    whole = cider(everything, references)
    part = cider({"7": everything["7"], "3": everything["3"]}, references)
    assert part.per_sample == (whole.per_sample[7], whole.per_sample[3])
    alone = cider({"7": everything["7"]}, {name: references[name] for name in ("7", "3")})
    assert alone.per_sample[0] != part.per_sample[0]


def test_bleu_gives_the_very_values_of_the_library() -> None:
    draw = random.Random(1)

    def text() -> str:
        return " ".join(draw.choice("abcdef") for _ in range(draw.randint(1, 9)))

    references = [[en(text()) for _ in range(draw.randint(1, 3))] for _ in range(40)]
    texts = [en(text()) for _ in range(39)] + [en("")]
    found = bleu(texts, references)
    gts = {i: [tokens.text for tokens in some] for i, some in enumerate(references)}
    values, by_order = Bleu(4).compute_score(gts, {i: [t.text] for i, t in enumerate(texts)}, 0)
    assert list(found.corpus.values()) == values
    rows = [tuple(row.values()) for row in found.per_sample]
    assert rows == list(zip(*by_order, strict=True))


def test_cider_gives_the_very_values_of_the_library_over_the_whole_corpus() -> None:
    draw = random.Random(0)
    words = ["a", "b", "c", "d", "e", "f", "g", "h"]

    def text() -> str:
        return " ".join(draw.choice(words) for _ in range(draw.randint(1, 9)))

    references = {str(i): [en(text()) for _ in range(draw.randint(1, 3))] for i in range(60)}
    scored = {str(i): en(text()) for i in (41, 3, 17)} | {"5": en("")}
    found = cider(scored, references)
    gts = {name: [tokens.text for tokens in some] for name, some in references.items()}
    res = {name: [scored[name].text if name in scored else ""] for name in references}
    _, values = Cider().compute_score(gts, res)
    by_name = dict(zip(references, values, strict=True))
    assert [row["cider"] for row in found.per_sample] == [float(by_name[name]) for name in scored]
    assert any(row["cider"] for row in found.per_sample)


def test_cider_of_one_sample_is_not_defined() -> None:
    references = corpus(1)
    result = cider({"0": references["0"][0]}, references)
    assert result.corpus == {"cider": None}
    assert result.per_sample == ({"cider": None},)
    assert "need 2 samples" in result.notes["cider"]


@pytest.mark.parametrize("size, flagged", [(2, True), (49, True), (50, False)])
def test_cider_under_50_samples_is_flagged(size: int, flagged: bool) -> None:
    references = corpus(size)
    result = cider({"1": references["1"][0]}, references)
    assert ("unstable" in result.notes.get("cider", "")) == flagged
    assert result.corpus["cider"] is not None


def test_cider_needs_the_scored_samples_in_the_corpus() -> None:
    with pytest.raises(MetricError, match="1 scored samples are not in the corpus, 'x' the first"):
        cider({"x": en("a")}, corpus(3))
    with pytest.raises(MetricError, match="nothing to score"):
        cider({}, corpus(3))
