"""Log-mel features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgecloud.errors import AudioError
from edgecloud.models.features import SAMPLE_RATE_HZ, LogMel, audio_token_count
from edgecloud.models.reference.layout import write_feature_settings


@pytest.fixture(scope="module")
def log_mel(tmp_path_factory: pytest.TempPathFactory) -> LogMel:
    folder: Path = tmp_path_factory.mktemp("checkpoint")
    write_feature_settings(folder)
    return LogMel(folder)


def tone(seconds: float, amplitude: float = 0.1) -> np.ndarray:
    t = np.arange(int(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    return (amplitude * np.sin(2 * np.pi * 440 * t)).astype(np.float32)


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
