"""What several folders of tests share: a checkpoint of the published layout with a few thousand weights."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    normalizers,
    pre_tokenizers,
    trainers,
)
from tokenizers import models as token_models

from edgecloud.embedded.factory import tokenizer as tok
from edgecloud.embedded.factory.layout import Size, save_weights, write_settings
from edgecloud.embedded.factory.miniature import Miniature
from edgecloud.models.audio_lm import AudioLM
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.processor import Processor

# Cores are few and shared: how long an example takes says nothing about the rule it tests.
settings.register_profile(
    "edgecloud", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
settings.load_profile("edgecloud")

# Tests start experiments of their own, which are no workers of pytest-xdist.
os.environ.pop("PYTEST_XDIST_WORKER", None)


@contextmanager
def locked(path: Path, *, shared: bool) -> Iterator[None]:
    """Hold a lock between processes; the system lets go of it for a process that dies."""
    import fcntl

    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """With several workers (``pytest -n 2``): a test marked ``alone`` waits until the others' are over,
    and they wait for it."""
    if not hasattr(item.config, "workerinput"):
        return (yield)
    folder = item.config._tmp_path_factory.getbasetemp().parent  # type: ignore[attr-defined]
    alone = item.get_closest_marker("alone") is not None
    with ExitStack() as held:
        # Whoever is next in line stands here, so that one that waits for all is not passed by.
        with locked(folder / "next", shared=False):
            held.enter_context(locked(folder / "machine", shared=not alone))
        return (yield)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in ``tests/system`` works with whole runs."""
    for item in items:
        if Path(__file__).parent / "system" in item.path.parents:
            item.add_marker("system")


TINY = Size(
    hidden=32,
    layers=2,
    heads=2,
    key_value_heads=1,
    feed_forward=48,
    audio_width=32,
    audio_layers=1,
    audio_heads=2,
    audio_feed_forward=32,
)


def byte_tokenizer(
    words: str = "。！？. ! ? 的 the voice", special: Sequence[str] = tok.SPECIAL_TOKENS
) -> Tokenizer:
    """All bytes, a few merges of ``words`` (full stops of both languages among them) and the special tokens."""
    tokenizer = Tokenizer(token_models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{L}+|[^\p{L}]"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=280,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([words] * 4, trainer)
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in special]
    )
    return tokenizer


def make_checkpoint(folder: Path, *, seed: int, size: Size = TINY) -> Path:
    """A checkpoint with random weights, spread widely enough that its choices are clear."""
    write_settings(folder, size=size, tokenizer=byte_tokenizer())
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Miniature(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.3)
    save_weights(folder, audio_tower=model.audio_tower, language_model=model.language_model)
    return folder


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read it, do not change it: the whole session shares it."""
    return make_checkpoint(tmp_path_factory.mktemp("tiny"), seed=1)


@pytest.fixture(scope="session")
def tiny_processor(tiny_checkpoint: Path) -> Processor:
    return Processor(Checkpoint.open(tiny_checkpoint))


@pytest.fixture(scope="session")
def tiny_model(tiny_checkpoint: Path, tiny_processor: Processor) -> AudioLM:
    """Take ``tiny_model.new_sequence()``: the weights are shared, a sequence is a test's own."""
    return AudioLM.load(
        Checkpoint.open(tiny_checkpoint),
        vocab_size=tiny_processor.vocab_size,
        device="cpu",
        dtype="float32",
    )


@pytest.fixture(scope="session")
def tone() -> NDArray[np.float32]:
    """0.8 s of a tone that rises, 16 kHz."""
    time_s = np.arange(12_800) / 16_000
    return (0.3 * np.sin(2 * np.pi * (200 + 300 * time_s) * time_s)).astype(np.float32)


@pytest.fixture(scope="session")
def audio_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2-Audio in miniature; read it, do not change it."""
    from tests.models.miniatures import audio_checkpoint

    return audio_checkpoint(tmp_path_factory.mktemp("qwen2-audio"), padded_rows=7)


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2.5 for text in miniature; read it, do not change it."""
    from tests.models.miniatures import text_checkpoint

    return text_checkpoint(tmp_path_factory.mktemp("qwen2"), padded_rows=5)


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama 3 in miniature; read it, do not change it."""
    from tests.models.miniatures import llama_checkpoint

    return llama_checkpoint(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def mistral_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Mistral in miniature that attends to its last 12 tokens; read it, do not change it."""
    from tests.models.miniatures import mistral_checkpoint

    return mistral_checkpoint(tmp_path_factory.mktemp("mistral"), window=12)


@pytest.fixture(scope="session")
def flamingo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An Audio Flamingo 3 in miniature; read it, do not change it."""
    from tests.models.miniatures import flamingo_checkpoint

    return flamingo_checkpoint(tmp_path_factory.mktemp("flamingo"))


@pytest.fixture(scope="session")
def asr_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen3-ASR in miniature; read it, do not change it."""
    from tests.models.miniatures import asr_checkpoint

    return asr_checkpoint(tmp_path_factory.mktemp("asr"))


@pytest.fixture(scope="session")
def gemma_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Gemma 3 in miniature, which the general adapter runs; read it, do not change it."""
    from tests.models.miniatures import gemma_checkpoint

    return gemma_checkpoint(tmp_path_factory.mktemp("gemma3"))


@pytest.fixture(scope="session")
def qwen3_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen3 in miniature; read it, do not change it."""
    from tests.models.miniatures import qwen3_checkpoint

    return qwen3_checkpoint(tmp_path_factory.mktemp("qwen3"))


@pytest.fixture(scope="session")
def omni_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole Qwen2.5-Omni in miniature; read it, do not change it."""
    from tests.models.miniatures import omni_checkpoint

    return omni_checkpoint(tmp_path_factory.mktemp("qwen2.5-omni"))
