"""How captions are cut up."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecloud.errors import MetricError
from edgecloud.quality import tokenize
from edgecloud.quality.language import detect_language
from edgecloud.quality.tokenize import DESCRIPTIONS, Tokens, is_punctuation, normalize, segment

TEXTS = st.text() | st.text(alphabet="开心的 a'B1，。！\n\u3000\u2028<|im_end|>…", max_size=30)


@pytest.mark.parametrize(
    "tokenizer, text, words",
    [
        ("zh.jieba", "她十分开心，OK！", ("她", "十分", "开心", "ok")),
        ("zh.jieba_punct", "她十分开心，OK！", ("她", "十分", "开心", "，", "ok", "！")),
        ("zh.char", "她 十分\n开心。", ("她", "十", "分", "开", "心")),
        (
            "en.simple",
            "It's a LOW-pitched, 2nd voice.",
            ("it's", "a", "low", "pitched", "2nd", "voice"),
        ),
    ],
)
def test_each_tokeniser_cuts_as_described(
    tokenizer: str, text: str, words: tuple[str, ...]
) -> None:
    assert segment(text, tokenizer) == Tokens(tokenizer, words)


def test_end_of_turn_and_separators_are_normalised() -> None:
    assert normalize(" a\n\tb\u2028c\u3000d<|im_end|> ") == "a b c d"


@pytest.mark.parametrize("tokenizer", sorted(DESCRIPTIONS.keys() - {"en.ptb"}))
@given(text=TEXTS)
def test_any_text_gives_tokens_without_white_space(tokenizer: str, text: str) -> None:
    tokens = segment(text, tokenizer)
    assert tokens.text.split() == list(tokens.words)
    assert tokens.text.split(" ") == list(tokens.words or [""])
    if tokenizer != "zh.jieba_punct":
        assert not any(map(is_punctuation, tokens.words))


@settings(deadline=None)
@given(text=TEXTS | st.text(alphabet="语气平静又温柔，。！？；：、ab1._- ", max_size=40))
def test_chinese_cut_clause_by_clause_is_what_jieba_makes_of_the_whole(text: str) -> None:
    plain = normalize(text).lower()
    whole = [word for word in tokenize._jieba().lcut(plain) if word.strip()]
    assert list(segment(text, "zh.jieba_punct").words) == whole


def test_a_text_nobody_cut_up_is_not_tokens() -> None:
    for words in (("她很开心，语速很快",), ("she is happy",), ("",)):
        with pytest.raises(MetricError, match="is not a token"):
            Tokens("zh.jieba", words)


def test_an_unknown_tokeniser_names_those_there_are() -> None:
    with pytest.raises(MetricError, match=r"no tokeniser 'zh'; there are zh\.jieba, "):
        segment("开心", "zh")


def test_jieba_is_quiet_and_its_warnings_stay_inside() -> None:
    code = "from edgecloud.quality.tokenize import segment; segment('很开心', 'zh.jieba')"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "text, language",
    [
        ("语气平静", "chinese"),
        ("他说 I love you，语气开心", "chinese"),
        ("A calm voice.", "english"),
        ("The speaker says 你好 in a calm voice", "english"),
        ("……123", None),
        ("", None),
    ],
)
def test_a_text_is_in_the_language_of_most_of_it(text: str, language: str | None) -> None:
    assert detect_language(text) == language
