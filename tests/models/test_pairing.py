"""Two models that are to decode together: what may differ, and what is said of what may not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.pairing import differences
from edgecloud.models.processor import Processor
from tests.models.miniatures import audio_checkpoint, text_checkpoint


def shared(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(Processor(Checkpoint.open(folder)).shared()))
    return found


def copy(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to))


def change(path: Path, **values: Any) -> None:
    content = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**content, **values}), "utf-8")


def test_output_layers_may_be_padded_differently(tmp_path: Path) -> None:
    small = text_checkpoint(tmp_path / "a", padded_rows=5)
    large = text_checkpoint(tmp_path / "b", padded_rows=133, layers=4, seed=2)
    assert differences(shared(small), shared(large)) == []


def test_the_published_paddings_compare_over_the_tokenizer(tmp_path: Path) -> None:
    sizes = {}
    for name, rows in (("3B", 151_936), ("7B", 152_064)):
        folder = text_checkpoint(tmp_path / name)
        change(folder / "config.json", vocab_size=rows)
        sizes[name] = shared(folder)
    assert sizes["3B"] == sizes["7B"]


def test_a_special_token_with_another_id_is_named(omni_folder: Path) -> None:
    edge = shared(omni_folder)
    cloud = json.loads(json.dumps(edge))
    number = cloud["special ids"]["<|AUDIO|>"]
    cloud["special ids"]["<|AUDIO|>"] = number + 1
    assert differences(edge, cloud) == [
        f"special ids: <|AUDIO|> is {number} on the edge, {number + 1} in the cloud"
    ]


def test_another_chat_template_is_said(omni_folder: Path, tmp_path: Path) -> None:
    other = copy(omni_folder, tmp_path / "m")
    change(other / "tokenizer_config.json", chat_template="{{- 'hello' }}")
    assert differences(shared(omni_folder), shared(other)) == ["the chat templates differ"]


def test_another_vocabulary_of_the_same_size_is_said(omni_folder: Path, tmp_path: Path) -> None:
    other = copy(omni_folder, tmp_path / "m")
    path = other / "tokenizer.json"
    content = json.loads(path.read_text("utf-8"))
    vocabulary = content["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    path.write_text(json.dumps(content), "utf-8")
    assert differences(shared(omni_folder), shared(other)) == [
        "vocabulary: as many entries, but other ones"
    ]


def test_other_audio_settings_are_named(omni_folder: Path, tmp_path: Path) -> None:
    other = copy(omni_folder, tmp_path / "m")
    change(other / "preprocessor_config.json", hop_length=128, n_fft=512)
    config = json.loads((other / "config.json").read_text("utf-8"))
    config["thinker_config"]["audio_config"]["n_window"] = 50
    (other / "config.json").write_text(json.dumps(config), "utf-8")
    (said,) = differences(shared(omni_folder), shared(other))
    assert said == (
        "audio: hop_length is 160 on the edge, 128 in the cloud, n_fft is 400 on the edge, "
        "512 in the cloud, n_window is 100 on the edge, 50 in the cloud"
    )


def test_two_families_are_told_apart_first(omni_folder: Path, tmp_path: Path) -> None:
    said = differences(shared(omni_folder), shared(audio_checkpoint(tmp_path)))
    assert said[0] == "family: qwen2_5_omni on the edge, qwen2_audio in the cloud"
    assert any("n_window is 100 on the edge, absent in the cloud" in part for part in said)


@pytest.mark.parametrize("extra", [5, 40])
def test_a_message_names_a_few_entries_and_counts_the_rest(extra: int) -> None:
    cloud = {"special ids": {f"<{number}>": number for number in range(extra)}}
    (said,) = differences({"special ids": {}}, cloud)
    assert said.endswith(f", and {extra - 4} more")
