"""Prompts of text in several languages in one manifest: each is scored, and fitted to, in its own."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgecloud.experiments.calibration import examples
from edgecloud.experiments.reporting import result_of
from edgecloud.results.journal import SCHEMA
from tests.experiments.test_calibration import caption
from tests.results.synthetic import FakeOutcome

CHINESE = ("说话人十分开心，语速很快。", "听起来开心的声音。")


def outcome(n: int = 6, **flags: Any) -> FakeOutcome:
    """Every other prompt is in Chinese; each answer is its reference, word for word."""
    found = FakeOutcome("edge", n, dataset_type="text", dataset_path="prompts.json", **flags)
    records = [
        replace(record, reference_language="chinese", references=(CHINESE[number % 4 // 2],))
        if number % 2
        else record
        for number, record in enumerate(found.records)
    ]
    found.records = tuple(replace(record, text=record.references[0]) for record in records)
    found.corpus = tuple(
        replace(
            sample,
            references=record.references,
            reference_language=record.reference_language or "english",
        )
        for sample, record in zip(found.samples, found.records, strict=True)
    )
    return found


def result(found: FakeOutcome) -> dict[str, Any]:
    return result_of(found, environment={}, run_block={}).to_json()


def test_each_prompt_is_scored_in_its_own_language() -> None:
    found = result(outcome())
    for position, entry in enumerate(found["detailed_results"]):
        own, other = ("zh.jieba", "en.simple")[:: -1 if position % 2 == 0 else 1]
        assert entry["score_note"] is None
        assert entry["rouge_l"] == entry[f"{own}.rouge_l"] == 1.0
        assert entry[f"{other}.rouge_l"] is None
        assert entry["defects"] == []


def test_what_is_no_one_number_over_two_languages_is_null_and_says_where_its_parts_are() -> None:
    metrics = result(outcome())["metrics"]
    assert metrics["zh.jieba.rouge_l"] == metrics["en.simple.rouge_l"] == 1.0
    for name in ("avg_cider", "rouge_l", "caption_length", "corpus_bleu_1"):
        assert metrics[name] is None
        assert "the captions are in chinese and english: see " in metrics["notes"][name]
    assert metrics["en.caption_length"] > 0 < metrics["zh.caption_length"]


def test_in_one_language_nothing_changes() -> None:
    found = FakeOutcome("edge", 4)
    text = FakeOutcome("edge", 4, dataset_type="text", dataset_path="prompts.json")
    assert result(found)["metrics"] == result(text)["metrics"]
    assert result(found)["metrics"]["rouge_l"] is not None


def test_a_recordings_caption_is_in_the_runs_language_whatever_its_reference_is_in() -> None:
    found = FakeOutcome("edge", 4)
    found.records = tuple(replace(record, reference_language="chinese") for record in found.records)
    assert {entry["score_note"] for entry in result(found)["detailed_results"]} == {
        "reference in chinese, caption in english"
    }


def test_examples_of_a_fit_belong_to_the_language_of_their_prompt(tmp_path: Path) -> None:
    rng = random.Random(3)
    settings = {"language": "chinese", "prompt_type": "default", "dataset_type": "text"}
    rows: list[dict[str, Any]] = [
        {"schema": SCHEMA, "mode": "spec", "identity": {"settings": settings}}
    ]
    for number in range(10):
        language = "english" if number % 2 else "chinese"
        rows.append(
            {"file_id": f"p{number}", "trace": caption(rng), "reference_language": language}
        )
    path = tmp_path / "j.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = examples([path])
    kinds = dict(zip(found.recordings, found.kinds, strict=True))
    assert kinds == {
        f"p{number}": f"{'english' if number % 2 else 'chinese'}/default" for number in range(10)
    }
