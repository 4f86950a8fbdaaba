"""Words and waveforms in, prompts out; tokens in, text out; and folders that are not complete."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from transformers import Qwen2Tokenizer

from edgecloud.contracts import LOG_MEL, StopLimits
from edgecloud.errors import CheckpointError, ModelError
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.features import audio_token_count
from edgecloud.models.processor import Processor


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))


def open_processor(folder: Path) -> Processor:
    return Processor(Checkpoint.open(folder))


def raw_tokenizer(folder: Path) -> Qwen2Tokenizer:
    tokenizer: Qwen2Tokenizer = Qwen2Tokenizer.from_pretrained(str(folder), local_files_only=True)
    return tokenizer


def encode(folder: Path, text: str) -> list[int]:
    return list(raw_tokenizer(folder).encode(text, add_special_tokens=False))


@pytest.mark.parametrize("frames", [30, 80, 201, 410])
def test_the_placeholder_is_repeated_once_per_audio_embedding(
    tiny_checkpoint: Path, tiny_processor: Processor, frames: int
) -> None:
    features = np.zeros((128, frames), dtype=np.float16)
    prompt = tiny_processor.prompt({LOG_MEL: features}, language="english", prompt_type="default")
    (audio,) = encode(tiny_checkpoint, "<|AUDIO|>")
    (start,) = encode(tiny_checkpoint, "<|audio_bos|>")
    (end,) = encode(tiny_checkpoint, "<|audio_eos|>")
    count = audio_token_count(frames)
    place = prompt.token_ids.index(start)
    assert prompt.token_ids[place : place + count + 2] == (start, *[audio] * count, end)
    assert prompt.token_ids.count(audio) == count
    assert prompt.features is features


def test_features_are_rounded_to_half_precision_once(
    tiny_processor: Processor, tone: NDArray[np.float32]
) -> None:
    (features,) = tiny_processor.features(tone).values()
    assert features.dtype == np.float16
    assert features.shape == (128, len(tone) // 160)


def test_language_prompt_type_and_transcription_change_the_prompt_after_the_audio_only(
    tiny_processor: Processor,
) -> None:
    features = np.zeros((128, 80), dtype=np.float16)
    prompts = {
        tiny_processor.prompt(
            {LOG_MEL: features}, language=language, prompt_type=kind, transcription=words
        ).token_ids
        for language in ("chinese", "english")
        for kind in ("concise", "default", "detailed")
        for words in (None, "你好")
    }
    assert len(prompts) == 12
    first = next(iter(prompts))
    last_audio = max(i for i, token in enumerate(first) if token == tiny_processor._audio_id)
    assert len({ids[: last_audio + 2] for ids in prompts}) == 1


def test_a_transcription_that_spells_the_placeholder_is_refused_not_decoded(
    tiny_processor: Processor,
) -> None:
    with pytest.raises(ModelError, match="audio placeholders"):
        tiny_processor.prompt(
            {LOG_MEL: np.zeros((128, 80), dtype=np.float16)},
            language="english",
            prompt_type="default",
            transcription="say <|AUDIO|> now",
        )


def test_text_is_decoded_without_special_tokens_and_edges(
    tiny_checkpoint: Path, tiny_processor: Processor
) -> None:
    tokens = encode(tiny_checkpoint, " a 声音。<|im_end|>")
    assert tiny_processor.text(tokens) == "a 声音。"
    assert tiny_processor.text([]) == ""


def test_the_feature_extractors_settings_may_be_the_processors(
    asr_folder: Path, tmp_path: Path, tone: NDArray[np.float32]
) -> None:
    """As transformers 5 saves them."""
    for path in asr_folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    settings = json.loads((tmp_path / "preprocessor_config.json").read_text())
    (tmp_path / "preprocessor_config.json").unlink()
    nested = json.dumps({"feature_extractor": settings})
    (tmp_path / "processor_config.json").write_text(nested)
    one, other = (Processor(Checkpoint.open(folder)) for folder in (asr_folder, tmp_path))
    assert np.array_equal(one.features(tone)[LOG_MEL], other.features(tone)[LOG_MEL])
    assert one.features_key != other.features_key
    assert one.shared() == other.shared()


def test_texts_end_at_both_end_tokens_and_sentences_at_full_stops(
    tiny_checkpoint: Path, tiny_processor: Processor
) -> None:
    stopping = tiny_processor.stopping(StopLimits(max_sentences=1))
    ends = [*encode(tiny_checkpoint, "<|im_end|>"), *encode(tiny_checkpoint, "<|endoftext|>")]
    assert stopping.end_ids == set(ends)
    for mark in "。！？.!?":
        assert encode(tiny_checkpoint, mark)[-1] in stopping.sentence_ids, mark
    for letter in "a,，声":
        assert encode(tiny_checkpoint, letter)[-1] not in stopping.sentence_ids, letter


def test_without_a_sentence_limit_no_sentence_ends_are_looked_up(
    tiny_processor: Processor,
) -> None:
    assert tiny_processor.stopping(StopLimits()).sentence_ids == frozenset()


def test_the_fingerprint_follows_vocabulary_and_template_not_the_weights(
    tiny_processor: Processor, folder: Path
) -> None:
    assert open_processor(folder).fingerprint() == tiny_processor.fingerprint()
    template = folder / "chat_template.jinja"
    template.write_text("{{- '.' }}" + template.read_text(encoding="utf-8"), encoding="utf-8")
    assert open_processor(folder).fingerprint() != tiny_processor.fingerprint()


def test_features_of_another_extractor_have_another_key(
    tiny_processor: Processor, folder: Path
) -> None:
    assert open_processor(folder).features_key == tiny_processor.features_key
    settings = folder / "preprocessor_config.json"
    content = json.loads(settings.read_text(encoding="utf-8"))
    settings.write_text(json.dumps({**content, "dither": 0.1}), encoding="utf-8")
    assert open_processor(folder).features_key != tiny_processor.features_key


def _drop_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    del settings["chat_template"]
    path.write_text(json.dumps(settings), encoding="utf-8")


def test_a_template_in_its_own_json_file_is_found(
    tiny_checkpoint: Path, tiny_processor: Processor, folder: Path
) -> None:
    _drop_template(folder)
    template = (tiny_checkpoint / "chat_template.jinja").read_text(encoding="utf-8")
    (folder / "chat_template.json").write_text(
        json.dumps({"chat_template": template}), encoding="utf-8"
    )
    assert open_processor(folder).fingerprint() == tiny_processor.fingerprint()


def _write(name: str, text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_text(text, encoding="utf-8")

    return write


def _remove(name: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        (folder / name).unlink()

    return remove


def _rename_audio_token(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        text = (folder / name).read_text(encoding="utf-8")
        (folder / name).write_text(text.replace("<|AUDIO|>", "<|SOUND|>"), encoding="utf-8")


@pytest.mark.parametrize(
    "harm, says",
    [
        (_remove("tokenizer.json"), "tokenizer.json"),
        (_write("tokenizer.json", "{"), "tokenizer"),
        (_write("tokenizer.json", "{}"), "tokenizer"),
        (_write("tokenizer_config.json", "{"), "tokenizer"),
        (_remove("preprocessor_config.json"), "preprocessor_config.json"),
        (_write("preprocessor_config.json", "{"), "preprocessor_config.json"),
        (_drop_template, "chat template"),
        (_rename_audio_token, "<|AUDIO|>"),
    ],
    ids=[
        "no-tokenizer",
        "broken-tokenizer",
        "empty-tokenizer",
        "broken-tokenizer-settings",
        "no-feature-settings",
        "broken-feature-settings",
        "no-template",
        "other-audio-token",
    ],
)
def test_an_incomplete_folder_is_one_line_that_names_it(
    folder: Path, harm: Callable[[Path], None], says: str
) -> None:
    harm(folder)
    with pytest.raises(CheckpointError) as info:
        open_processor(folder)
    message = str(info.value)
    assert str(folder) in message
    assert says in message
    assert "\n" not in message
