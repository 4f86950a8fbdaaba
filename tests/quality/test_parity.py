"""Every n-gram score equals that of the reference libraries."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from edgecloud.quality.metrics.bleu import bleu
from edgecloud.quality.metrics.cider import cider
from edgecloud.quality.metrics.rouge import rouge_l
from edgecloud.quality.result import MetricResult
from edgecloud.quality.tokenize import segment

GoldenPair = tuple[str, str, list[str]]
OWN = Path(__file__).parent / "golden.json"
TOKENISERS = ("zh.jieba", "zh.jieba_punct", "zh.char", "en.simple")


def _shared() -> dict[str, Any]:
    folder = os.environ.get("EDGECLOUD_TEST_DATA")
    if not folder or not (path := Path(folder) / "golden_metrics.json").is_file():
        pytest.skip("EDGECLOUD_TEST_DATA is not set, or holds no golden_metrics.json")
    golden: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return golden


def _results(pairs: list[GoldenPair], tokenizer: str) -> list[MetricResult]:
    hypotheses = {name: segment(text, tokenizer) for name, text, _ in pairs}
    references = {name: [segment(r, tokenizer) for r in some] for name, _, some in pairs}
    values, targets = list(hypotheses.values()), list(references.values())
    return [bleu(values, targets), rouge_l(values, targets), cider(hypotheses, references)]


def _tolerance(name: str) -> float:
    # COCO's smoothing constants leave BLEU-3 and BLEU-4 of few matches less well determined.
    return 1e-5 if name in ("zh.jieba.bleu_3", "zh.jieba.bleu_4") else 1e-6


@pytest.mark.parametrize("tokenizer", TOKENISERS)
def test_scores_equal_the_shared_golden_values(tokenizer: str) -> None:
    golden = _shared()
    pairs = [
        (pair["id"], pair["hypothesis"], [pair["reference"]])
        for pair in golden["pairs"]
        if pair["language"] == tokenizer[:2]
    ]
    results = _results(pairs, tokenizer)
    checked = 0
    for result in results:
        for metric, value in result.corpus.items():
            name = f"{tokenizer}.{metric}"
            assert value == pytest.approx(golden["expected"][name], abs=_tolerance(name)), name
            checked += 1
        for (pair_id, _, _), row in zip(pairs, result.per_sample, strict=True):
            for metric, value in row.items():
                expected = golden["expected_per_pair"][pair_id].get(f"{tokenizer}.{metric}")
                if expected is not None:
                    assert value == pytest.approx(expected, abs=1e-6), (pair_id, metric)
                    checked += 1
    assert checked >= 6 + 2 * len(pairs)


@pytest.mark.parametrize("tokenizer", TOKENISERS)
def test_scores_equal_our_own_golden_values(tokenizer: str) -> None:
    golden = json.loads(OWN.read_text(encoding="utf-8"))
    pairs = [tuple(pair) for pair in golden["pairs"][tokenizer[:2]]]
    actual = [dict(result.corpus) for result in _results(pairs, tokenizer)]
    merged = {name: value for values in actual for name, value in values.items()}
    assert merged == pytest.approx(golden["expected"][tokenizer], abs=1e-9)
