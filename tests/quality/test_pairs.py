"""`edgecloud score`: any captions, the golden names, and the traps of the field's scorers."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from edgecloud.cli import score as score_command
from edgecloud.cli.main import main
from edgecloud.errors import DataError, MetricError
from edgecloud.quality import bertmodel, java
from edgecloud.quality import pairs as pairs_module
from edgecloud.quality.pairs import read_pairs, score_pairs

OWN = Path(__file__).with_name("golden_pairs.json")
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="no java on the PATH")


@pytest.fixture(autouse=True)
def no_bundled_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """BERTScore has tests of its own; here its model would only cost seconds."""
    monkeypatch.setattr(bertmodel, "_BUNDLED_PACKAGE", "no_such_package")


def shared() -> Path:
    folder = os.environ.get("EDGECLOUD_TEST_DATA")
    if not folder or not (path := Path(folder) / "golden_metrics.json").is_file():
        pytest.skip("EDGECLOUD_TEST_DATA is not set, or holds no golden_metrics.json")
    return path


def scored(path: Path, tmp_path: Path) -> dict[str, Any]:
    output = tmp_path / "scores.json"
    assert main(["score", str(path), "-o", str(output)]) == 0
    found: dict[str, Any] = json.loads(output.read_text("utf-8"))
    return found


def tolerance(name: str) -> float:
    # COCO's smoothing constants leave BLEU-3 and BLEU-4 of few matches less well determined.
    return 1e-5 if name in ("zh.jieba.bleu_3", "zh.jieba.bleu_4") else 1e-6


def without_java() -> str:
    raise MetricError("there is no Java")


def pairs(*rows: tuple[str, str], language: str = "en") -> list[Any]:
    return read_pairs(
        {
            "pairs": [
                {"id": i, "hypothesis": text, "reference": reference, "language": language}
                for i, (text, reference) in enumerate(rows)
            ]
        }
    )


@needs_java
@pytest.mark.system
def test_the_command_gives_every_shared_golden_value(tmp_path: Path) -> None:
    path = shared()
    golden, found = json.loads(path.read_text("utf-8")), scored(path, tmp_path)
    assert len(golden["expected"]) == 35
    for name, value in golden["expected"].items():
        assert found["corpus"][name] == pytest.approx(value, abs=tolerance(name)), name
    for pair, values in golden["expected_per_pair"].items():
        for name, value in values.items():
            assert found["per_pair"][pair][name] == pytest.approx(value, abs=1e-6), (pair, name)
    # Real captions of the earlier project: many go on with the conversation.
    assert found["defects"]["en"]["chat_leakage"] == 16


@needs_java
def test_the_command_gives_our_own_golden_values_traps_among_them(tmp_path: Path) -> None:
    golden, found = json.loads(OWN.read_text("utf-8")), scored(OWN, tmp_path)
    assert len(golden["expected"]) == 35
    for name, value in golden["expected"].items():
        assert found["corpus"][name] == pytest.approx(value, abs=1e-6), name
    # The last caption equals its reference: no line break before it has shifted it.
    assert found["per_pair"]["e-last"]["en.ptb.meteor"] == 1.0
    assert found["per_pair"]["e-empty"]["en.ptb.meteor"] == 0.0
    assert found["per_pair"]["z-runaway"]["defects"] == ["repetition_loop"]
    assert found["defects"]["en"]["empty"] == 1
    assert all(name.startswith(("zh.", "en.")) for name in found["corpus"])
    for name, value in found["corpus"].items():
        assert value is not None or found["notes"][name], name
        assert found["info"][name]["range"]


@needs_java
@pytest.mark.system
def test_texts_that_would_break_lines_or_fields_shift_no_other_caption() -> None:
    nasty = [
        "a\nb",
        "a\u2028b",
        "a\u2029b\x85c\x0bd",
        "a ||| b",
        "|||",
        "\ud83d half",
        "\x00 a",
        "\t",
    ]
    rows = [(text, "a calm voice") for text in nasty] + [("a calm voice", "a calm voice")]
    per_pair = score_pairs(pairs(*rows))["per_pair"]
    last = per_pair[str(len(nasty))]
    assert (last["en.ptb.meteor"], last["en.simple.rouge_l"]) == (1.0, 1.0)


def test_chinese_is_segmented_so_that_it_does_not_score_zero() -> None:
    found = score_pairs(
        pairs(("语气十分开心", "语气十分开心。"), ("他很生气", "他非常生气"), language="zh")
    )
    assert found["per_pair"]["0"]["zh.jieba.bleu_2"] == pytest.approx(1.0)
    assert found["per_pair"]["1"]["zh.char.bleu_1"] == pytest.approx(0.5841, abs=1e-3)


def test_document_frequencies_come_from_the_pairs_of_the_same_language(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(java, "find_java", without_java)
    chinese = pairs(("语气平静", "语气平静"), ("他很生气", "他非常生气"), language="zh")
    english = read_pairs(
        {"pairs": [{"id": "e", "hypothesis": "a", "reference": ["a", "b"], "language": "english"}]}
    )
    alone, together = score_pairs(chinese), score_pairs([*chinese, *english])
    assert alone["corpus"]["zh.jieba.cider"] == together["corpus"]["zh.jieba.cider"]
    assert together["corpus"]["en.simple.cider"] is None
    assert "2 samples" in together["notes"]["en.simple.cider"]
    for name in ("en.ptb.cider", "en.ptb.meteor"):
        assert together["corpus"][name] is None
        assert together["notes"][name] == "there is no Java"


def test_empty_and_short_captions_score_and_empty_references_are_left_out() -> None:
    found = score_pairs(
        pairs(("", "他非常生气"), ("生气", "他非常生气"), ("生气", ""), language="zh")
    )["per_pair"]
    assert found["0"]["zh.jieba.cider"] == 0.0
    assert found["1"]["zh.jieba.bleu_1"] > 0.0
    assert found["1"]["zh.jieba.bleu_4"] is not None
    assert found["2"]["zh.jieba.cider"] is None
    assert found["2"]["note"] == "no reference"


def test_what_is_wrong_with_a_file_is_told_all_at_once(tmp_path: Path) -> None:
    good = {"id": "a", "hypothesis": "x", "reference": "y", "language": "en"}
    with pytest.raises(DataError) as caught:
        read_pairs(
            {
                "pairs": [
                    good,
                    good,
                    {**good, "id": "b", "language": "fr"},
                    {**good, "id": "c", "hypothesis": None, "reference": [1]},
                    "text",
                ]
            }
        )
    text = str(caught.value)
    assert "pairs[1]: id 'a' occurs twice" in text
    assert "pairs[2]: language 'fr' is not one of zh" in text
    assert "pairs[3]: hypothesis" in text
    assert "pairs[3]: reference" in text
    assert "pairs[4]: is not an object" in text
    empty: list[Any] = [[], {"pairs": []}, {"pairs": {}}]
    for content in empty:
        with pytest.raises(DataError, match="it must hold"):
            read_pairs(content)


@pytest.mark.parametrize("content", [None, "{", '{"pairs": []}'])
def test_a_file_that_cannot_be_read_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    path = tmp_path / "pairs.json"
    if content is not None:
        path.write_text(content)
    assert main(["score", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"edgecloud: error: {path}: ")
    assert error.count("\n") == 1


def test_scores_are_printed_as_json_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pairs.json"
    row = {"id": "a", "hypothesis": "开心", "reference": ["很开心", "高兴"], "language": "chinese"}
    path.write_text(json.dumps({"pairs": [row]}))
    assert main(["score", str(path), "-o", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["pairs"] == {"zh": 1}


@needs_java
@pytest.mark.alone
def test_600_pairs_are_scored_in_seconds() -> None:
    voices = [
        f"voice {i} is calm, slow and low, and speaker {i % 7} sounds tired" for i in range(300)
    ]
    chinese = [f"第{i}段录音里，一位女士语速很快，音量很大，显得十分开心。" for i in range(300)]
    rows = [
        {
            "id": f"{code}{i}",
            "hypothesis": text,
            "reference": [text, texts[i - 1]],
            "language": code,
        }
        for code, texts in (("en", voices), ("zh", chinese))
        for i, text in enumerate(texts)
    ]
    some = read_pairs({"pairs": rows})
    started = time.perf_counter()
    found = score_pairs(some)
    # 5 to 7 s on two quiet cores, METEOR's program included; the bound is for a loaded machine.
    assert time.perf_counter() - started < 40.0
    assert found["corpus"]["en.ptb.meteor"] is not None


def test_long_work_says_what_it_is_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pairs.json"
    row = {"id": "a", "hypothesis": "开心", "reference": "很开心", "language": "zh"}
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({"pairs": [row]}).encode())
    monkeypatch.setattr(score_command, "PROGRESS_EVERY_S", 0.05)

    def slow(pairs: Any, *, bertscore: Any, step: Any) -> dict[str, Any]:
        step("1 in chinese: emotions")
        time.sleep(0.5)
        return score_pairs(pairs, bertscore=bertscore)

    monkeypatch.setattr(pairs_module, "score_pairs", slow)
    assert main(["score", str(path)]) == 0
    assert "scoring 1 in chinese: emotions" in capsys.readouterr().err
