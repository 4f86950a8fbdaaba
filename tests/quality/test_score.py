"""All scores of a run at once."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from edgecloud.contracts import Sample
from edgecloud.errors import MetricError
from edgecloud.quality import Scores, corpus_references_of, score
from edgecloud.quality.metrics.attributes import ATTRIBUTE_METRICS
from edgecloud.quality.score import MAX_CHARACTERS

REFERENCES = {
    "a": ["一位女士语速很快，十分开心。", "女声，语速快，非常高兴。"],
    "b": ["一个男人语速缓慢，显得悲伤。"],
    "c": ["说话人语气平静，音量适中。"],
}
CAPTIONS = {"a": "一位女士十分开心。", "b": "男人很生气。", "c": "语气平静。"}


def run(names: str = "abc", **changes: Any) -> Scores:
    given: dict[str, Any] = {
        "language": "chinese",
        "ids": list(names),
        "hypotheses": [CAPTIONS[name] for name in names],
        "references": [REFERENCES[name] for name in names],
        "reference_languages": ["chinese"] * len(names),
        "corpus_references": REFERENCES,
    }
    return score(**given | changes)


def test_every_name_has_a_value_or_a_reason_and_is_clean_json() -> None:
    scores = run()
    assert {
        *(f"{t}.bleu_{n}" for t in ("zh.jieba", "zh.char") for n in (1, 2, 3, 4)),
        *(f"{t}.{m}" for t in ("zh.jieba", "zh.char") for m in ("rouge_l", "cider")),
        *(f"bertscore_{m}" for m in ("precision", "recall", "f1")),
        *(f"emotion_{m}" for m in ("accuracy", "recall", "precision")),
        *ATTRIBUTE_METRICS,
        "caption_length",
        "reference_length",
    } == scores.corpus.keys()
    assert scores.info.keys() == scores.corpus.keys()
    for name, value in scores.corpus.items():
        assert value is not None or scores.notes[name]
    for row in scores.per_sample:
        assert row.keys() == scores.corpus.keys()
    assert "pycocoevalcap" in scores.info["zh.jieba.cider"]["library"]
    assert "zh.char" in scores.info["zh.char.bleu_1"]["tokeniser"]
    json.dumps([scores.corpus, scores.per_sample, scores.notes, scores.info], allow_nan=False)


def test_values_are_those_of_the_captions() -> None:
    scores = run()
    assert scores.scored == 3
    assert [row["emotion_accuracy"] for row in scores.per_sample] == [1.0, 0.0, 1.0]
    assert scores.corpus["emotion_accuracy"] == pytest.approx(2 / 3)
    assert [row["caption_length"] for row in scores.per_sample] == [4.0, 3.0, 2.0]
    assert scores.notes["zh.jieba.cider"].startswith("unstable")
    assert scores.sample_notes == [None, None, None]


def test_english_is_scored_by_its_own_tokeniser() -> None:
    scores = score(
        language="english",
        ids=["a", "b"],
        hypotheses=["A happy woman.", "A sad man."],
        references=[["A happy woman!"], ["A calm man."]],
        reference_languages=["english", "english"],
        corpus_references={"a": ["A happy woman!"], "b": ["A calm man."]},
    )
    assert scores.per_sample[0]["en.simple.bleu_1"] == pytest.approx(1.0)
    assert scores.corpus["emotion_accuracy"] == 0.5
    assert not any(name.startswith("zh.") for name in scores.corpus)


def test_a_sample_alone_scores_in_cider_as_among_all() -> None:
    alone, among = run("b"), run()
    assert alone.per_sample[0]["zh.jieba.cider"] == among.per_sample[1]["zh.jieba.cider"]


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"references": [REFERENCES["a"], [], REFERENCES["c"]]}, "no reference"),
        (
            {"reference_languages": ["chinese", "english", "chinese"]},
            "reference in english, caption in chinese",
        ),
        ({"references": [REFERENCES["a"], ["……"], REFERENCES["c"]]}, "reference without words"),
    ],
)
def test_what_has_no_reference_in_the_language_is_null_and_left_out(
    change: dict[str, Any], reason: str
) -> None:
    scores, others = run(**change), run("ac")
    assert scores.scored == 2
    assert scores.sample_notes == [None, reason, None]
    assert {name for name, value in scores.per_sample[1].items() if value is not None} == {
        "caption_length"
    }
    assert scores.corpus == others.corpus
    assert scores.notes["references"] == f"1 of 3 samples left out of the scores (1: {reason})"


def test_without_any_usable_reference_everything_is_null_with_the_reason() -> None:
    scores = run(reference_languages=["english"] * 3, corpus_references={})
    assert set(scores.corpus.values()) == {None}
    for name in scores.corpus:
        why = "no attributes" if name in ATTRIBUTE_METRICS else "no caption has a reference"
        assert why in scores.notes[name]
    assert scores.scored == 0
    nothing = run("")
    assert nothing.per_sample == []
    assert nothing.notes["zh.jieba.cider"] == "no captions"


def test_an_empty_caption_is_scored_zero_not_left_out() -> None:
    scores = run(hypotheses=["", CAPTIONS["b"], CAPTIONS["c"]])
    row = scores.per_sample[0]
    assert row["zh.jieba.rouge_l"] == 0.0
    assert row["zh.jieba.cider"] == 0.0
    assert row["zh.jieba.bleu_1"] == pytest.approx(0.0, abs=1e-9)
    assert row["emotion_accuracy"] == 0.0
    assert scores.scored == 3


def test_misuse_is_refused() -> None:
    with pytest.raises(MetricError, match="3 ids, 2 hypotheses"):
        run(hypotheses=["开心", "难过"])
    with pytest.raises(MetricError, match="ids repeat"):
        run(ids=["a", "a", "b"])
    with pytest.raises(MetricError, match="give a list"):
        run(references=["开心", "难过", "平静"])
    with pytest.raises(MetricError, match="not in the corpus"):
        run(corpus_references={"a": REFERENCES["a"], "b": REFERENCES["b"]})


def test_the_corpus_holds_the_references_of_the_language_only() -> None:
    def sample(name: str, language: Any, *references: str) -> Sample:
        return Sample(name, 0, "tiny", Path(name), references, language)

    samples = [
        sample("a", "chinese", "开心"),
        sample("b", "english", "happy"),
        sample("c", "chinese"),
    ]
    assert corpus_references_of(samples, "chinese") == {"a": ("开心",)}


def test_600_captions_are_scored_in_seconds() -> None:
    texts = [f"第{i}段录音里，一位女士语速很快，音量很大，显得十分开心的语气。" for i in range(600)]
    ids = [str(i) for i in range(600)]
    references = [[text, texts[i - 1], texts[i - 2]] for i, text in enumerate(texts)]
    started = time.perf_counter()
    score(
        language="chinese",
        ids=ids,
        hypotheses=texts,
        references=references,
        reference_languages=["chinese"] * 600,
        corpus_references=dict(zip(ids, references, strict=True)),
    )
    # About 2 s on one quiet core; the bound leaves room for a loaded machine.
    assert time.perf_counter() - started < 30.0


def test_extended_scores_have_a_value_or_a_reason() -> None:
    scores = run(extended=True)
    assert scores.corpus.keys() - run().corpus.keys() == {"zh.chrf", "zh.sacrebleu"}
    assert scores.info["zh.chrf"]["range"] == "0..100"
    for name, value in scores.corpus.items():
        assert value is not None or scores.notes[name]


@pytest.mark.parametrize(
    "language, unit",
    [("chinese", "他说话很快，"), ("english", "he speaks fast, "), ("english", "x")],
)
def test_of_a_text_of_15000_characters_a_stated_part_is_scored(language: Any, unit: str) -> None:
    text = (unit * 15_000)[:15_000]
    steps: list[str] = []
    started = time.process_time()
    scores = score(
        language=language,
        ids=["a"],
        hypotheses=[text],
        references=[[text]],
        reference_languages=[language],
        corpus_references={"a": [text]},
        step=steps.append,
    )
    assert time.process_time() - started < 20.0
    assert f"more than {MAX_CHARACTERS} characters" in scores.notes["length"]
    assert scores.corpus[
        {"chinese": "zh.char", "english": "en.simple"}[language] + ".rouge_l"
    ] == pytest.approx(1.0)
    assert "emotions" in steps
    shorter = score(
        language=language,
        ids=["a"],
        hypotheses=[text[:MAX_CHARACTERS]],
        references=[[text[:MAX_CHARACTERS]]],
        reference_languages=[language],
        corpus_references={"a": [text[:MAX_CHARACTERS]]},
    )
    assert shorter.corpus == scores.corpus
    assert "length" not in shorter.notes
