"""One form for what is written in several."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecloud.errors import MetricError
from edgecloud.quality import java
from edgecloud.quality.defects import is_chat_leakage
from edgecloud.quality.fold import fold, script_of, simplified
from edgecloud.quality.language import detect_language
from edgecloud.quality.metrics.emotion import named_emotions
from edgecloud.quality.pairs import read_pairs, score_pairs
from edgecloud.quality.tokenize import segment


@pytest.mark.parametrize(
    "text, folded",
    [
        ("isn’t ‘so’ “very”", "isn't 'so' \"very\""),
        ("isnʼt, isn＇t", "isn't, isn't"),
        ("isn`t", "isn't"),
        ("她说「好」，isn`t", '她说"好"，isn\'t'),
        ("他说「她说『好』了」，又说『不』", '他说"她说\'好\'了"，又说"不"'),
        ("an un\u00adhappy \u200bvo\u200dice\ufeff", "an unhappy voice"),
        ("ＡＢＣ　１２３！", "ABC\u3000123!"),
        ("他说“ＯＫ”，很开心！", '他说"OK"，很开心！'),
    ],
)
def test_quotes_and_full_width_forms_are_folded_and_chinese_marks_stay(
    text: str, folded: str
) -> None:
    assert fold(text) == folded


@given(st.text())
def test_folding_twice_changes_nothing_and_only_what_has_no_width_is_lost(text: str) -> None:
    once = fold(text)
    assert fold(once) == once
    assert len(once) == len(
        re.sub("[\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]", "", text)
    )


@pytest.mark.parametrize("tokenizer", ["en.simple", "zh.char", "zh.jieba", "zh.jieba_punct"])
def test_every_tokeniser_is_given_folded_text(tokenizer: str) -> None:
    assert segment("She isn’t ｈａｐｐｙ", tokenizer) == segment("She isn't happy", tokenizer)


def test_lexicons_and_languages_are_given_folded_text() -> None:
    assert named_emotions("She isn’t happy, she is ｔｉｒｅｄ", "english") == ("tired",)
    assert named_emotions("She isn`t happy, she is ti\u00adred", "english") == ("tired",)
    assert named_emotions("他说『我很高兴』，语气平\u200b静", "chinese") == ("neutral",)
    assert detect_language("Ａ ｃａｌｍ ｖｏｉｃｅ") == "english"
    assert is_chat_leakage("Ｈｕｍａｎ： hello")


def test_traditional_characters_count_as_simplified_ones_in_lexicons() -> None:
    assert simplified("著急、憤怒、裡面") == "着急、愤怒、里面"
    assert named_emotions("他憤怒地大聲喊叫，又很著急", "chinese") == ("angry", "anxious")
    assert named_emotions("並非憤怒，語氣平靜", "chinese") == ("neutral",)
    assert is_chat_leakage("當然可以！以下是描述：語氣平靜")


def test_the_script_of_a_text() -> None:
    assert script_of("語氣平靜，后來") == "traditional"
    assert script_of("语气平静") == "simplified"
    assert script_of("心平") is None
    assert script_of("a calm voice") is None


def _pairs(*rows: tuple[str, str]) -> list[Any]:
    return read_pairs(
        {
            "pairs": [
                {"id": f"p{i}", "hypothesis": text, "reference": reference, "language": "zh"}
                for i, (text, reference) in enumerate(rows)
            ]
        }
    )


def _no_java() -> str:
    raise MetricError("there is no Java")


def test_a_note_says_where_reference_and_caption_are_in_different_scripts() -> None:
    mixed = score_pairs(_pairs(("語氣平靜", "语气平静"), ("语气开心", "语气开心")))
    assert "1 of 2" in mixed["notes"]["zh.script"]
    assert "'p0'" in mixed["notes"]["zh.script"]
    assert mixed["corpus"]["zh.emotion_accuracy"] == 1.0
    alike = score_pairs(_pairs(("語氣平靜", "語氣平靜"), ("语气开心", "语气开心")))
    assert "zh.script" not in alike["notes"]


CASES = Path(os.environ.get("EDGECLOUD_TEST_DATA", "")) / "cases" / "score"


@pytest.mark.parametrize(
    "name, expected",
    [
        ("curly_negation.json", {"en.emotion_accuracy": 1.0, "en.simple.bleu_1": 1.0}),
        ("curly_en.json", {"en.simple.bleu_1": 1.0}),
        ("negation_zh.json", {"zh.emotion_accuracy": 1.0, "zh.emotion_recall": 1.0}),
        ("traditional_both.json", {"zh.emotion_accuracy": 1.0}),
    ],
)
def test_shared_cases_give_what_their_list_says(
    name: str, expected: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(java, "find_java", _no_java)  # it takes seconds to start
    path = CASES / name
    if not path.is_file():
        pytest.skip("the shared cases are not here")
    found = score_pairs(read_pairs(json.loads(path.read_text("utf-8-sig"))))
    for score, value in expected.items():
        assert found["corpus"][score] == pytest.approx(value), score
