"""The weights and the corpus that are in the repository."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest
import soundfile as sf
from safetensors import safe_open

from edgecloud.embedded import corpus as embedded
from edgecloud.embedded.factory import grammar
from edgecloud.embedded.factory.card import CARD_NAME
from edgecloud.embedded.factory.sentences import split_of
from edgecloud.embedded.pair import CLOUD_CHECKPOINT, EDGE_CHECKPOINT, OTHER_CHECKPOINT


def parameters(checkpoint: Path) -> int:
    total = 0
    with safe_open(checkpoint / "model.safetensors", framework="pt") as weights:
        for name in weights.keys():  # noqa: SIM118 - it is no mapping
            tensor = weights.get_tensor(name)
            assert str(tensor.dtype) == "torch.float16"
            total += tensor.numel()
    return total


def test_the_pair_has_the_sizes_it_should() -> None:
    edge, cloud = parameters(EDGE_CHECKPOINT), parameters(CLOUD_CHECKPOINT)
    assert edge <= 500_000
    assert cloud >= 5 * edge
    stored = list(EDGE_CHECKPOINT.parent.glob("*/model.safetensors"))
    assert sum(path.stat().st_size for path in stored) <= 16 * 2**20


def test_the_pair_shares_one_tokenizer() -> None:
    edge, cloud = (
        (folder / "tokenizer.json").read_bytes() for folder in (EDGE_CHECKPOINT, CLOUD_CHECKPOINT)
    )
    assert edge == cloud


def test_the_card_has_the_hash_of_every_file() -> None:
    card = (EDGE_CHECKPOINT.parent / CARD_NAME).read_text(encoding="utf-8")
    for folder in (EDGE_CHECKPOINT, CLOUD_CHECKPOINT):
        for path in folder.iterdir():
            assert hashlib.sha256(path.read_bytes()).hexdigest() in card, path


def test_the_edge_of_another_family_is_small_and_its_card_has_the_hash_of_every_file() -> None:
    assert parameters(OTHER_CHECKPOINT) <= 700_000
    assert (OTHER_CHECKPOINT / "model.safetensors").stat().st_size <= 1.5e6
    card = (OTHER_CHECKPOINT / CARD_NAME).read_text(encoding="utf-8")
    for path in OTHER_CHECKPOINT.iterdir():
        assert path.name == CARD_NAME or hashlib.sha256(path.read_bytes()).hexdigest() in card, path


@pytest.mark.parametrize("manifest", embedded.MANIFESTS, ids=lambda path: path.stem)
def test_the_corpus_is_held_out_and_of_the_size_it_should_be(manifest: Path) -> None:
    entries = json.loads(manifest.read_text(encoding="utf-8"))
    assert len(entries) >= 120
    attributes: Mapping[str, Mapping[str, str]] = json.loads(
        embedded.ATTRIBUTES.read_text(encoding="utf-8")
    )
    size = 0
    for entry in entries:
        assert split_of(entry["transcription"]) == "test"
        for language in ("chinese", "english"):
            named = {grammar.emotion_of(text, language) for text in entry[f"{language}_caption"]}
            assert named == {attributes[entry["file_id"]]["emotion"]}
        audio = manifest.parent / entry["audio_path"]
        found = sf.info(audio)
        assert 1.0 <= found.duration <= 8.0
        assert (found.format, found.samplerate, found.channels) == ("FLAC", 16_000, 1)
        for name in ("chinese", "english"):
            captions = entry[f"{name}_caption"]
            assert len(captions) == 3
            # A phrase has so few wordings that two may be drawn alike.
            assert len(set(captions)) == 3 or manifest.stem.endswith("concise")
        size += audio.stat().st_size
    assert size <= 8 * 2**20


def card_scores() -> dict[tuple[str, str, str, str], dict[str, str]]:
    """The card's table of held-out scores, by model, split, language and prompt type."""
    lines = (EDGE_CHECKPOINT.parent / CARD_NAME).read_text(encoding="utf-8").splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("| model | split |"))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start:]]
    found = {}
    for row in rows[2:]:
        if len(row) != len(rows[0]):
            break
        model, split, language, prompt_type = row[:4]
        found[model, split, language, prompt_type] = dict(zip(rows[0], row, strict=True))
    return found


@pytest.mark.parametrize("language", ["chinese", "english"])
def test_the_pair_has_the_quality_it_was_made_for(language: str) -> None:
    scores = card_scores()
    edge, cloud = (scores[side, "test", language, "default"] for side in ("edge", "cloud"))
    assert float(cloud["emotion_accuracy"]) >= 0.85
    assert 0.45 <= float(edge["emotion_accuracy"]) <= 0.70
    assert float(cloud["cider"]) >= 1.3 * float(edge["cider"])
    assert ("cloud", "unseen", language, "default") in scores
    # Thresholds of 1.0, 1.5 and 2.0 nats ask the cloud clearly less and less.
    rates = [float(edge[name]) for name in ("rate_1", "rate_1.5", "rate_2")]
    assert all(low < high - 0.1 for high, low in pairwise(rates))
    assert 0.05 < rates[-1] < rates[0] < 0.95
