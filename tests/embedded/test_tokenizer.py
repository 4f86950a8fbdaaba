"""The shared tokenizer, as tokenizers and as transformers load it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from edgecloud.embedded.factory.miniature import PromptIds
from edgecloud.embedded.factory.tokenizer import SPECIAL_TOKENS
from edgecloud.models.prompts import LANGUAGES, PROMPT_TYPES, instruction, prompt_messages
from tests.embedded.conftest import TINY

TEXTS = [
    "一位男士语速缓慢，流露出悲伤的情绪。",
    "A man speaks.",
    "naïve 🎧 ελληνικά\n\t x",
    "今天天气",
]


@pytest.fixture(scope="module")
def folder(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from edgecloud.embedded.factory.layout import write_settings

    path: Path = tmp_path_factory.mktemp("checkpoint")
    write_settings(path, size=TINY, tokenizer=tokenizer)
    return path


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_survives_the_round_trip(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_special_tokens_are_single_tokens(tokenizer: Tokenizer) -> None:
    for token in SPECIAL_TOKENS:
        assert tokenizer.encode(token).ids == [tokenizer.token_to_id(token)]


@pytest.mark.parametrize("text", TEXTS)
def test_transformers_splits_the_same_way(folder: Path, tokenizer: Tokenizer, text: str) -> None:
    loaded = AutoTokenizer.from_pretrained(folder)
    assert loaded(text)["input_ids"] == tokenizer.encode(text).ids


def test_the_chat_template_gives_what_the_models_were_trained_on(
    folder: Path, tokenizer: Tokenizer
) -> None:
    loaded = AutoTokenizer.from_pretrained(folder)
    ids = PromptIds(tokenizer)
    for language in LANGUAGES:
        for kind in PROMPT_TYPES:
            text = loaded.apply_chat_template(
                prompt_messages(language, kind, "词"), tokenize=False, add_generation_prompt=True
            )
            # One placeholder stands for one audio token: 7 mel frames.
            trained = [
                *ids.prefix(4),
                *ids.text(instruction(language, kind, transcription="词")).prompt_ids,
            ]
            assert tokenizer.encode(text).ids == trained
