"""Attributes read from captions, and scored against the truth."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any, get_args

import pytest

from edgecloud.contracts import Language
from edgecloud.datasets.manifest import load_manifest
from edgecloud.embedded import corpus as embedded
from edgecloud.embedded.factory import grammar
from edgecloud.errors import DataError, ManifestError, MetricError
from edgecloud.library.evaluation import evaluate
from edgecloud.quality.attributes import KNOWN, read_attributes
from edgecloud.quality.metrics.attributes import ATTRIBUTE_METRICS
from edgecloud.quality.pairs import read_pairs, score_pairs

LANGUAGES: tuple[Language, ...] = get_args(Language)
TRUTH = {"voice": "male", "pitch": "low", "rate": "slow", "loudness": "soft", "emotion": "sad"}


def scores(text: str, truth: dict[str, str], language: Language = "english") -> dict[str, Any]:
    given = {"attributes": [truth], "language": language, "meteor_from": 99}
    row = evaluate([text], [[text or "nothing"]], **given).per_sample[0]
    return {name: row[name] for name in ATTRIBUTE_METRICS}


@pytest.mark.parametrize("manifest", embedded.MANIFESTS, ids=lambda path: path.stem)
def test_every_sentence_of_the_embedded_corpus_says_its_attributes_and_nothing_else(
    manifest: Path,
) -> None:
    for entry in json.loads(manifest.read_text(encoding="utf-8")):
        for language in LANGUAGES:
            for text in entry[f"{language}_caption"]:
                reading = read_attributes(text, language)
                named = {name: its for name, its in reading.named.items() if its}
                assert named == {name: (v,) for name, v in entry["attributes"].items()}, text
                assert {*reading.manners} <= {entry["attributes"]["emotion"]}, text
                assert not reading.contradicts_itself, text


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", ["concise", "default", "detailed"])
def test_every_combination_of_values_is_read_as_the_grammar_wrote_it(
    language: Language, kind: Any
) -> None:
    rng = random.Random(kind)
    for values in itertools.product(*KNOWN.values()):
        truth = dict(zip(KNOWN, values, strict=True))
        if truth["emotion"] not in grammar.EMOTIONS:
            continue
        text = grammar.caption(grammar.Attributes(**truth), language, kind, rng)  # type: ignore[arg-type]
        reading = read_attributes(text, language)
        said = {name: truth[name] for name in grammar.SAID[kind]}
        assert {n: its[0] for n, its in reading.named.items() if its} == said, text
        assert not reading.contradicts_itself, text


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_emotion_with_the_manner_of_another_is_a_contradiction(language: Language) -> None:
    rng = random.Random(0)
    for one, other in itertools.product(grammar.EMOTIONS, repeat=2):
        first, second = (
            grammar.caption(
                grammar.Attributes("male", "low", "slow", "soft", emotion), language, "default", rng
            )
            for emotion in (one, other)
        )
        comma = "，" if language == "chinese" else ", "
        mixed = f"{first.rpartition(comma)[0]}{comma}{second.rpartition(comma)[2]}"
        reading = read_attributes(mixed, language)
        assert (reading.named["emotion"], reading.manners) == ((one,), (other,)), mixed
        assert reading.contradicts_itself == (one != other)


@pytest.mark.parametrize(
    ("text", "language", "named"),
    [
        ("A gentleman's voice, low and steady in pitch", "english", {"voice": ("male",)}),
        ("She speaks rapidly in a high-pitched voice", "english", {"pitch": ("high",)}),
        ("The woman isn't loud", "english", {"loudness": (), "voice": ("female",)}),
        ('A man calmly says "quickly, shout"', "english", {"rate": (), "loudness": ()}),
        ("He murmurs at a very steady pace", "english", {"loudness": ("soft",), "rate": ("mid",)}),
        ("語速較快，聲音洪亮", "chinese", {"rate": ("fast",), "loudness": ("loud",)}),
        ("语速不快，语调上扬", "chinese", {"rate": (), "pitch": ("high",)}),
        ("声音大小正常，声音轻松", "chinese", {"loudness": ("mid",)}),
        ("先是语速缓慢，后来语速很快", "chinese", {"rate": ("slow", "fast")}),
    ],
)
def test_usual_words_are_read(text: str, language: Language, named: dict[str, Any]) -> None:
    found = read_attributes(text, language).named
    assert {name: found[name] for name in named} == named


def test_a_caption_is_right_where_it_names_the_true_value_alone() -> None:
    right = "A man speaks slowly and softly in a low pitch, sounding sad."
    assert scores(right, TRUTH) == {
        **dict.fromkeys(ATTRIBUTE_METRICS, 1.0),
        "contradictions": 0.0,
        "hallucinated": 0.0,
    }
    both = scores(right.replace("slowly", "slowly, then quickly,"), TRUTH)
    assert (both["attribute_accuracy_rate"], both["attribute_accuracy"]) == (0.0, 0.0)
    assert (both["contradictions"], both["hallucinated"]) == (1.0, 1 / 6)


def test_a_false_manner_is_hallucinated_and_an_emotion_beside_it_still_right() -> None:
    found = scores("A man sounds sad, as if sharing good news.", TRUTH)
    assert (found["attribute_accuracy_emotion"], found["attribute_accuracy_pitch"]) == (1.0, 0.0)
    assert (found["contradictions"], found["hallucinated"]) == (1.0, 1 / 3)


def test_two_emotions_are_no_contradiction() -> None:
    found = scores("She sounds sad and angry.", {"emotion": "sad"})
    assert (found["contradictions"], found["hallucinated"]) == (0.0, 0.5)
    assert found["attribute_accuracy"] == 0.0


def test_an_empty_caption_is_wrong_and_says_nothing_false() -> None:
    found = scores("", TRUTH)
    assert (found["attribute_accuracy"], found["contradictions"]) == (0.0, 0.0)
    assert found["hallucinated"] == 0.0


def test_what_the_truth_does_not_say_is_null_with_the_reason() -> None:
    given = evaluate(
        ["A man speaks slowly.", "A woman.", "A child."],
        ["A man.", "A woman.", "A child."],
        attributes={"0": {"voice": "male"}, "1": {"voice": "elderly", "age": "60"}},
    )
    rows = given.per_sample
    assert (rows[0]["attribute_accuracy"], rows[0]["attribute_accuracy_rate"]) == (1.0, None)
    assert rows[0]["hallucinated"] == 0.0  # the rate is not in the truth: nothing denies it
    assert {rows[1][name] for name in ATTRIBUTE_METRICS} == {None}
    assert given.corpus["attribute_accuracy"] == 1.0
    assert "no attributes of 2 of 3 samples" in given.notes["attribute_accuracy"]


def test_truth_needs_no_reference() -> None:
    given = evaluate(["A sad man."], [[]], language="english", attributes=[{"emotion": "sad"}])
    assert given.corpus["attribute_accuracy"] == 1.0
    assert given.corpus["cider"] is None


def test_pairs_may_have_attributes() -> None:
    pair = {"id": 1, "hypothesis": "一位男士语速缓慢", "reference": "男士", "language": "zh"}
    found = score_pairs(read_pairs({"pairs": [{**pair, "attributes": {"rate": "slow"}}]}))
    assert found["corpus"]["zh.attribute_accuracy_rate"] == 1.0
    with pytest.raises(DataError, match="attributes is not an object of texts"):
        read_pairs({"pairs": [{**pair, "attributes": {"rate": 3}}]})


def test_attributes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MetricError, match="attributes of 2"):
        evaluate(["a man"], ["a man"], attributes=[{}, {}])
    with pytest.raises(MetricError, match="no caption's id"):
        evaluate({"a": "a man"}, {"a": "a man"}, attributes={"b": {}})
    (tmp_path / "a.flac").touch()
    path = tmp_path / "manifest.json"
    for wrong, said in (([], "must be an object, not a list"), ({"rate": 1}, "rate must be text")):
        entry = {"file_id": "a", "audio_path": "a.flac", "attributes": wrong}
        path.write_text(json.dumps([entry]), encoding="utf-8")
        with pytest.raises(ManifestError, match=f"attributes.*{said}"):
            load_manifest(path, language="english", caption_type="original")
