"""Log-mel features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniAudioEncoder
from transformers.models.qwen2_audio.modeling_qwen2_audio import Qwen2AudioEncoder

from edgecloud.embedded.factory.layout import write_feature_settings
from edgecloud.errors import AudioError
from edgecloud.models.features import SAMPLE_RATE_HZ, LogMel, audio_token_count, padded


@pytest.fixture(scope="module")
def log_mel(tmp_path_factory: pytest.TempPathFactory) -> LogMel:
    folder: Path = tmp_path_factory.mktemp("checkpoint")
    write_feature_settings(folder)
    return LogMel(folder)


@pytest.fixture(scope="module")
def padded_log_mel(tmp_path_factory: pytest.TempPathFactory) -> LogMel:
    folder: Path = tmp_path_factory.mktemp("padding")
    WhisperFeatureExtractor(feature_size=128).save_pretrained(str(folder))
    return LogMel(folder, pads=True)


def tone(seconds: float, amplitude: float = 0.1) -> np.ndarray:
    t = np.arange(int(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    return (amplitude * np.sin(2 * np.pi * 440 * t)).astype(np.float32)


def noise(seconds: float) -> np.ndarray:
    found = np.random.default_rng(1).normal(scale=0.1, size=int(seconds * SAMPLE_RATE_HZ))
    return found.astype(np.float32)


def test_features_have_a_frame_every_ten_milliseconds(log_mel: LogMel) -> None:
    features = log_mel(tone(2.5))
    assert features.shape == (128, 250)
    assert features.dtype == np.float16


def test_recordings_longer_than_thirty_seconds_are_not_cut(log_mel: LogMel) -> None:
    assert log_mel(tone(31.0)).shape == (128, 3100)


def test_quiet_speech_looks_quiet(log_mel: LogMel) -> None:
    assert log_mel(tone(1.0, 0.1)).max() > log_mel(tone(1.0, 0.01)).max() + 0.4


def test_silence_gives_finite_features(log_mel: LogMel) -> None:
    assert np.isfinite(log_mel(np.zeros(SAMPLE_RATE_HZ, np.float32))).all()


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.099])
def test_too_short_recordings_are_refused(log_mel: LogMel, seconds: float) -> None:
    with pytest.raises(AudioError, match="at least 100 ms"):
        log_mel(tone(seconds))


def test_the_shortest_recording_has_an_audio_token() -> None:
    assert audio_token_count(10) >= 1


def test_several_channels_are_refused(log_mel: LogMel) -> None:
    with pytest.raises(AudioError, match="mono"):
        log_mel(np.zeros((2, SAMPLE_RATE_HZ), np.float32))


def test_values_that_are_not_finite_are_refused(log_mel: LogMel) -> None:
    waveform = tone(1.0)
    waveform[5] = np.nan
    with pytest.raises(AudioError, match="not finite"):
        log_mel(waveform)


@pytest.mark.parametrize(
    ("frames", "tokens"), [(10, 2), (100, 25), (250, 62), (251, 63), (300, 75)]
)
def test_audio_token_count_follows_the_tower(frames: int, tokens: int) -> None:
    assert audio_token_count(frames) == tokens


@pytest.mark.parametrize("seconds", [0.1, 0.3337, 2.5, 29.99, 31.2])
def test_features_are_those_of_the_familys_extractor(log_mel: LogMel, seconds: float) -> None:
    extractor = WhisperFeatureExtractor(feature_size=128, chunk_length=300)
    waveform = noise(seconds)
    theirs = extractor(
        waveform,
        sampling_rate=SAMPLE_RATE_HZ,
        padding="do_not_pad",
        truncation=False,
        return_tensors="np",
    )["input_features"][0]
    np.testing.assert_array_equal(log_mel(waveform), theirs.astype(np.float16))


@pytest.mark.parametrize("seconds", [0.3337, 2.0, 2.5001])
def test_all_frames_but_the_last_are_those_of_a_recording_padded_to_300_s(
    log_mel: LogMel, seconds: float
) -> None:
    """Qwen2.5-Omni's processor pads with silence before it cuts into frames. The last window then ends
    in silence, here in the recording's own mirror image; and what is left of a frame is one more."""
    extractor = WhisperFeatureExtractor(feature_size=128, chunk_length=300)
    waveform = noise(seconds)
    theirs = extractor(
        waveform,
        sampling_rate=SAMPLE_RATE_HZ,
        padding="max_length",
        return_attention_mask=True,
        return_tensors="np",
    )
    frames = int(theirs["attention_mask"].sum())
    features = log_mel(waveform)
    assert frames - features.shape[1] == (0 if len(waveform) % 160 == 0 else 1)
    same = theirs["input_features"][0, :, : features.shape[1] - 1].astype(np.float16)
    np.testing.assert_array_equal(features[:, :-1], same)
    last = np.abs(features[:, -1] - theirs["input_features"][0, :, features.shape[1] - 1])
    assert last.max() < 0.1


@pytest.mark.parametrize("seconds", [0.1, 0.3337, 2.5, 29.985, 30.0])
def test_padded_features_are_the_familys_own_over_the_whole_window(
    padded_log_mel: LogMel, seconds: float
) -> None:
    extractor = WhisperFeatureExtractor(feature_size=128)
    waveform = noise(seconds)
    theirs = extractor(
        waveform,
        sampling_rate=SAMPLE_RATE_HZ,
        padding="max_length",
        return_attention_mask=True,
        return_tensors="np",
    )
    features = padded_log_mel(waveform)
    assert padded_log_mel.frames(features) == theirs["attention_mask"].sum()
    expected = theirs["input_features"][0].astype(np.float16)
    np.testing.assert_allclose(padded(features, 3000), expected, rtol=0, atol=1e-3)
    frames = padded_log_mel.frames(features)
    np.testing.assert_array_equal(features[:, :frames], expected[:, :frames])


def test_padded_silence_is_the_familys_own(padded_log_mel: LogMel) -> None:
    features = padded_log_mel(np.zeros(SAMPLE_RATE_HZ, np.float32))
    assert set(np.unique(padded(features, 3000))) == {np.float16(-1.5)}


def test_a_placeholder_stands_for_each_embedding_of_the_towers_own_count() -> None:
    frames = torch.arange(1, 3001)
    for tower in (Qwen2_5OmniAudioEncoder, Qwen2AudioEncoder):
        _, counts = tower._get_feat_extract_output_lengths(None, frames)  # type: ignore[arg-type]
        assert [audio_token_count(count) for count in frames.tolist()] == counts.tolist()
