"""The whole build, with models and corpora too small to be of use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile as sf

from edgecloud.embedded.factory.build import Plan, build
from edgecloud.embedded.factory.train import Schedule
from tests.embedded.conftest import TINY

pytest.importorskip("espeakng_loader")

SCHEDULE = Schedule(steps=2, clips=4, texts=2, peak_rate=1e-3, warmup_steps=1)
PLAN = Plan(
    seed=1,
    training_clips=8,
    dev_clips=2,
    test_clips=4,
    unseen_clips=2,
    edge_size=TINY,
    edge_schedule=SCHEDULE,
    cloud_size=TINY,
    cloud_schedule=SCHEDULE,
)

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("build")
    build(PLAN, folder, workers=1)
    return folder


def test_a_build_makes_both_checkpoints_and_the_card(out: Path) -> None:
    for name in ("edge", "cloud"):
        assert {path.name for path in (out / name).iterdir()} == {
            "chat_template.jinja",
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "preprocessor_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
        }
    card = (out / "MODEL_CARD.md").read_text(encoding="utf-8")
    for heading in ("Data", "Sizes and schedules", "Held-out scores", "Files", "Time"):
        assert f"## {heading}" in card


@pytest.mark.parametrize("language", ["chinese", "english"])
def test_manifests_list_every_clip_with_three_references(out: Path, language: str) -> None:
    manifest = out / "embedded" / f"{language}.json"
    entries = json.loads(manifest.read_text(encoding="utf-8"))
    assert [entry["index"] for entry in entries] == [0, 1, 2, 3]
    for entry in entries:
        assert entry["caption"] == entry[f"{language}_caption"]
        assert len(entry["caption"]) == 3
        assert bool(entry["chinese_transcription"]) != bool(entry["english_transcription"])
        info = sf.info(manifest.parent / entry["audio_path"])
        assert (info.samplerate, info.channels) == (16_000, 1)


def test_a_second_build_in_the_same_folder_trains_nothing_again(out: Path) -> None:
    weights = out / "edge" / "model.safetensors"
    stamp = weights.stat().st_mtime_ns
    build(PLAN, out, workers=1)
    assert weights.stat().st_mtime_ns == stamp
