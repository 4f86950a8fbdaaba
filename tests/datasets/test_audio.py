"""Decoding recordings of every kind, refusing the rest clearly, and caching features."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecloud.contracts import Arrays
from edgecloud.datasets.audio import MIN_AUDIO_S, SAMPLE_RATE_HZ, FeatureCache, load_audio
from edgecloud.errors import AudioError, OutputError


def tone(seconds: float, rate: int = 16_000, hertz: float = 440.0) -> NDArray[np.float64]:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def write(path: Path, samples: Any, rate: int = 16_000, **how: Any) -> Path:
    soundfile.write(path, samples, rate, **how)
    return path


def refusal(path: Path, max_audio_s: float = 30.0) -> str:
    with pytest.raises(AudioError) as caught:
        load_audio(path, max_audio_s=max_audio_s)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_16_khz_recording_comes_back_sample_for_sample(tmp_path: Path) -> None:
    samples = tone(0.5).astype(np.float32)
    waveform = load_audio(write(tmp_path / "a.wav", samples, subtype="FLOAT"), max_audio_s=30.0)
    assert waveform.dtype == np.float32
    np.testing.assert_array_equal(waveform, samples)


@pytest.mark.parametrize(
    "name, rate, channels, subtype",
    [
        ("stereo.wav", 48_000, 2, "PCM_16"),
        ("deep.wav", 24_000, 1, "PCM_24"),
        ("surround.flac", 44_100, 6, "PCM_24"),
        ("telephone.wav", 8_000, 1, "ULAW"),
        ("song.mp3", 44_100, 2, "MPEG_LAYER_III"),
        ("song.ogg", 48_000, 1, "VORBIS"),
        ("double.wav", 16_000, 2, "DOUBLE"),
    ],
)
def test_every_rate_depth_and_channel_count_becomes_mono_16_khz(
    tmp_path: Path, name: str, rate: int, channels: int, subtype: str
) -> None:
    samples = np.repeat(tone(1.0, rate)[:, None], channels, axis=1)
    path = write(tmp_path / name, samples, rate, subtype=subtype)
    waveform = load_audio(path, max_audio_s=30.0)
    assert waveform.dtype == np.float32
    assert waveform.ndim == 1
    # Lossy coders pad the ends by a fraction of a frame.
    assert len(waveform) == pytest.approx(SAMPLE_RATE_HZ, abs=1700)
    middle = waveform[4000:12_000]
    spectrum = np.abs(np.fft.rfft(middle))
    assert np.argmax(spectrum) * SAMPLE_RATE_HZ / len(middle) == pytest.approx(440.0, abs=3.0)
    assert np.abs(middle).max() == pytest.approx(0.5, abs=0.05)


def test_channels_are_averaged(tmp_path: Path) -> None:
    samples = np.stack([tone(0.2), -tone(0.2)], axis=1)
    waveform = load_audio(write(tmp_path / "a.wav", samples), max_audio_s=30.0)
    assert np.abs(waveform).max() < 1e-4


def test_silence_is_a_recording(tmp_path: Path) -> None:
    waveform = load_audio(write(tmp_path / "a.wav", np.zeros(16_000)), max_audio_s=30.0)
    assert waveform.shape == (16_000,)
    assert not waveform.any()


def test_missing_files_and_folders_are_told_apart(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.wav").endswith("does not exist")
    assert refusal(tmp_path).endswith("is not a file")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.touch()
    assert "empty" in refusal(path)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a", "a.raw", "a.txt"])
def test_what_is_not_audio_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"this is not audio at all, " * 50)
    assert "WAV" in refusal(path)


def test_a_20_ms_recording_is_refused_with_its_length(tmp_path: Path) -> None:
    assert "lasts 20 ms; at least 100 ms" in refusal(write(tmp_path / "a.wav", tone(0.02)))


def test_a_header_without_samples_is_refused(tmp_path: Path) -> None:
    assert "lasts 0 ms" in refusal(write(tmp_path / "a.wav", np.zeros(0)))


def test_the_longest_accepted_length_is_inclusive(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(2.0))
    assert len(load_audio(path, max_audio_s=2.0)) == 32_000
    assert "lasts 2.0 s, longer than the 1.99 s accepted" in refusal(path, max_audio_s=1.99)


def test_a_cut_off_flac_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", np.random.default_rng(0).uniform(-1, 1, 64_000))
    path.write_bytes(path.read_bytes()[:60_000])
    refusal(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_refused(tmp_path: Path, bad: float) -> None:
    samples = tone(0.5)
    samples[100] = bad
    path = write(tmp_path / "a.wav", samples, subtype="FLOAT")
    assert "not finite" in refusal(path)


def test_a_rate_too_low_for_speech_is_refused(tmp_path: Path) -> None:
    assert "2000 samples a second" in refusal(write(tmp_path / "a.wav", tone(1.0), 2_000))


def test_the_feature_extractor_refuses_the_same_length() -> None:
    features = pytest.importorskip("edgecloud.models.features")
    assert features.MIN_DURATION_S == MIN_AUDIO_S
    assert features.SAMPLE_RATE_HZ == SAMPLE_RATE_HZ
    frames = round(MIN_AUDIO_S * SAMPLE_RATE_HZ) // features.HOP_SAMPLES
    assert features.audio_token_count(frames) >= 1
    assert features.audio_token_count(2) == 0  # 20 ms


def test_shared_recordings_load_at_16_khz() -> None:
    folder = os.environ.get("EDGECLOUD_TEST_DATA")
    audio = Path(folder or "") / "secap" / "audio"
    if not folder or not audio.is_dir():
        pytest.skip("EDGECLOUD_TEST_DATA is not set, or holds no secap/audio")
    for path in sorted(audio.glob("*.flac"))[:5]:
        assert len(load_audio(path, max_audio_s=30.0)) == soundfile.info(path).frames


class Counter:
    """Computes the same features every time, and counts how often."""

    def __init__(self, features: NDArray[np.float16]) -> None:
        self.features = features
        self.calls = 0

    def __call__(self) -> Arrays:
        self.calls += 1
        return {"mel": self.features}


def counter() -> Counter:
    return Counter(np.arange(12, dtype=np.float16).reshape(3, 4))


def test_the_cache_computes_once_for_one_content_and_setting(tmp_path: Path) -> None:
    path, copy, other = tmp_path / "a.wav", tmp_path / "b.wav", tmp_path / "c.wav"
    path.write_bytes(b"one")
    copy.write_bytes(b"one")
    other.write_bytes(b"two")
    compute, cache = counter(), FeatureCache(tmp_path / "cache")
    for recording in (path, path, copy):
        features = cache.get_or_compute(recording, "mel 128", compute)
        np.testing.assert_array_equal(features["mel"], compute.features)
        assert features["mel"].dtype == np.float16
    assert compute.calls == 1
    cache.get_or_compute(path, "mel 80", compute)
    cache.get_or_compute(other, "mel 128", compute)
    assert compute.calls == 3
    assert not list((tmp_path / "cache").rglob("*.part"))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_damaged_cache_entry_is_never_believed(
    tmp_path_factory: pytest.TempPathFactory, place: int, flip: int
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    recording = folder / "a.wav"
    recording.write_bytes(b"one")
    compute, cache = counter(), FeatureCache(folder / "cache")
    cache.get_or_compute(recording, "mel", compute)
    (entry,) = (folder / "cache").rglob("*.npz")
    content = bytearray(entry.read_bytes())
    content[place % len(content)] ^= flip
    entry.write_bytes(content)
    found = cache.get_or_compute(recording, "mel", compute)
    np.testing.assert_array_equal(found["mel"], compute.features)


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04"])
def test_a_broken_cache_entry_is_computed_and_written_again(tmp_path: Path, content: bytes) -> None:
    recording = tmp_path / "a.wav"
    recording.write_bytes(b"one")
    compute, cache = counter(), FeatureCache(tmp_path / "cache")
    cache.get_or_compute(recording, "mel", compute)
    (entry,) = (tmp_path / "cache").rglob("*.npz")
    entry.write_bytes(content)
    for _ in range(2):
        cache.get_or_compute(recording, "mel", compute)
    assert compute.calls == 2


def test_a_cache_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    recording = tmp_path / "a.wav"
    recording.write_bytes(b"one")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="feature cache"):
        FeatureCache(tmp_path / "file").get_or_compute(recording, "mel", counter())
    with pytest.raises(AudioError, match=r"none\.wav"):
        FeatureCache(tmp_path).get_or_compute(tmp_path / "none.wav", "mel", counter())
