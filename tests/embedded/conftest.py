"""A tiny corpus and tokenizer, made once for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from edgecloud.embedded.factory.layout import Size, write_feature_settings
from edgecloud.embedded.factory.tokenizer import train_tokenizer

TINY = Size(
    hidden=24,
    layers=1,
    heads=2,
    key_value_heads=1,
    feed_forward=32,
    audio_width=16,
    audio_layers=1,
    audio_heads=2,
    audio_feed_forward=16,
)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_tokenizer(seed=1)


@pytest.fixture(scope="session")
def feature_settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("features")
    write_feature_settings(folder)
    return folder
