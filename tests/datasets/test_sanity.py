"""Recordings that cannot be right leave a note; sound ones, quiet, loud or coarse, leave none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from edgecloud.datasets.audio import read_recording
from edgecloud.embedded.corpus import FOLDER
from edgecloud.results.audio_notes import KINDS, count_notes, sentence

RATE = 16_000
RNG = np.random.default_rng(0)


def speech() -> NDArray[np.float32]:
    """A spoken sentence of the embedded corpus, at most half of full scale."""
    samples, _ = soundfile.read(next(iter(sorted(FOLDER.rglob("*.flac")))), dtype="float32")
    return np.asarray(0.5 * samples / np.abs(samples).max(), np.float32)


SPEECH = speech()
NOISE = RNG.normal(0, 1, len(SPEECH)).astype(np.float32)
TONE = np.sin(2 * np.pi * 100 * np.arange(RATE) / RATE).astype(np.float32)


def stereo(left: Any, right: Any) -> NDArray[np.float32]:
    return np.stack([left, right], axis=1)


def notes(folder: Path, samples: Any, subtype: str = "FLOAT", rate: int = RATE) -> set[str]:
    path = folder / "a.wav"
    soundfile.write(path, samples, rate, subtype=subtype)
    return set(read_recording(path, max_audio_s=30).notes)


@pytest.mark.parametrize(
    "samples, subtype, kind",
    [
        (32767 * SPEECH, "FLOAT", "beyond_full_scale"),
        (2**31 * SPEECH.astype(np.float64), "DOUBLE", "beyond_full_scale"),
        (127 * SPEECH, "FLOAT", "beyond_full_scale"),
        (stereo(0.1 * SPEECH, 300 * SPEECH), "FLOAT", "beyond_full_scale"),
        (np.clip(8 * SPEECH, -1, 1), "PCM_16", "clipped"),
        (np.clip(8 * SPEECH, -1, 1), "PCM_24", "clipped"),
        (np.clip(8 * SPEECH, -1, 1), "PCM_U8", "clipped"),
        (np.clip(8 * SPEECH, -1, 1), "FLOAT", "clipped"),
        (0.4 * np.clip(8 * SPEECH, -1, 1), "PCM_16", "clipped"),
        (np.clip(8 * SPEECH, -1, 0.3), "PCM_16", "clipped"),
        (stereo(0.5 * SPEECH, np.clip(8 * SPEECH, -1, 1)), "PCM_16", "clipped"),
        (np.zeros(RATE), "PCM_16", "silent"),
        (1e-4 * NOISE, "PCM_16", "silent"),
        (1e-4 * NOISE, "FLOAT", "silent"),
        (stereo(SPEECH, -SPEECH), "PCM_16", "silent"),
        (stereo(SPEECH, -0.9 * SPEECH), "PCM_16", "silent"),
        (stereo(SPEECH, -SPEECH + 0.002 * NOISE), "PCM_16", "silent"),
        (stereo(0.2 + SPEECH, 0.2 - SPEECH), "FLOAT", "silent"),
        (stereo(np.full(RATE, 0.5), np.full(RATE, -0.5)), "FLOAT", "silent"),
        (np.full(RATE, 0.5), "PCM_16", "constant"),
        (np.full(RATE, -1.0), "PCM_16", "constant"),
        (np.full(RATE, 0.01), "FLOAT", "constant"),
        (0.5 + 1e-3 * RNG.normal(0, 1, RATE), "FLOAT", "constant"),
        (np.full((RATE, 2), 0.25), "PCM_16", "constant"),
    ],
    ids=range(24),
)
def test_what_cannot_be_right_is_noted(
    tmp_path: Path, samples: Any, subtype: str, kind: str
) -> None:
    assert notes(tmp_path, samples, subtype) == {kind}


@pytest.mark.parametrize(
    "samples, subtype",
    [
        (SPEECH, "PCM_16"),
        (SPEECH, "PCM_U8"),
        (SPEECH, "ULAW"),
        (2 * SPEECH, "FLOAT"),
        (3 * SPEECH, "FLOAT"),
        (0.01 * SPEECH, "PCM_16"),
        (0.2 + SPEECH, "FLOAT"),
        (stereo(SPEECH, np.zeros_like(SPEECH)), "PCM_16"),
        (stereo(SPEECH, 0.9 * np.roll(SPEECH, 5)), "PCM_16"),
        (stereo(0.1 * NOISE, 0.1 * np.roll(NOISE, 100)), "PCM_16"),
        (0.9 * TONE, "PCM_16"),
        (0.9 * TONE, "PCM_U8"),
        (0.9 * TONE, "ULAW"),
        (np.concatenate([np.zeros(3 * RATE), SPEECH]), "PCM_16"),
    ],
    ids=range(14),
)
def test_sound_recordings_of_every_kind_leave_no_note(
    tmp_path: Path, samples: Any, subtype: str
) -> None:
    assert notes(tmp_path, samples, subtype) == set()


def test_notes_are_found_at_other_rates_too(tmp_path: Path) -> None:
    assert notes(tmp_path, stereo(SPEECH, -SPEECH), "PCM_16", 44_100) == {"silent"}


def test_notes_are_counted_by_kind() -> None:
    records: list[dict[str, str]] = [
        {"clipped": "…", "beyond_full_scale": "…"},
        {"clipped": "…"},
        {},
        {},
    ]
    assert count_notes(records) == {"beyond_full_scale": 1, "clipped": 2}
    assert sentence(records) == (
        "2 of 4 recordings cannot be right: 1 far beyond full scale, 2 clipped"
    )
    assert sentence(records[2:]) is None
    assert set(KINDS) == {"beyond_full_scale", "clipped", "silent", "constant"}
