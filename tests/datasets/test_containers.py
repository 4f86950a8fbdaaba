"""Containers that declare how much audio they hold are held to it, whatever their layout."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from edgecloud.datasets.audio import load_audio
from edgecloud.errors import AudioError

RATE = 16_000
COUNT = 32_000
NOISE: NDArray[np.float32] = 0.3 * np.random.default_rng(0).uniform(-1, 1, COUNT).astype(np.float32)


def made(form: str, subtype: str = "PCM_16", channels: int = 1, **how: Any) -> bytes:
    content = io.BytesIO()
    samples = np.repeat(NOISE[:, None], channels, axis=1)
    soundfile.write(content, samples, RATE, format=form, subtype=subtype, **how)
    return content.getvalue()


def patched(content: bytes, *patches: tuple[int, bytes]) -> bytes:
    out = bytearray(content)
    for place, patch in patches:
        out[place : place + len(patch)] = patch
    return bytes(out)


def loaded(folder: Path, content: bytes, name: str = "a.audio") -> NDArray[np.float32]:
    path = folder / name
    path.write_bytes(content)
    return load_audio(path, max_audio_s=30)


def refused(folder: Path, content: bytes) -> str:
    with pytest.raises(AudioError) as caught:
        loaded(folder, content)
    assert "\n" not in str(caught.value)
    return str(caught.value)


FORMS = [
    ("WAV", "PCM_16", {}),
    ("WAV", "PCM_U8", {}),
    ("WAV", "PCM_24", {}),
    ("WAV", "FLOAT", {}),
    ("WAV", "DOUBLE", {}),
    ("WAV", "ULAW", {}),
    ("WAV", "IMA_ADPCM", {}),
    ("WAV", "PCM_16", {"endian": "BIG"}),
    ("WAVEX", "PCM_16", {}),
    ("WAVEX", "PCM_24", {}),
    ("RF64", "PCM_16", {}),
    ("W64", "PCM_16", {}),
    ("W64", "FLOAT", {}),
    ("AIFF", "PCM_16", {}),
    ("AIFF", "PCM_24", {}),
    ("AIFF", "PCM_16", {"endian": "LITTLE"}),
    ("AIFF", "FLOAT", {}),
    ("AIFF", "ULAW", {}),
    ("CAF", "PCM_16", {}),
    ("CAF", "ALAC_16", {}),
    ("AU", "PCM_16", {}),
    ("AU", "FLOAT", {}),
    ("AU", "PCM_16", {"endian": "LITTLE"}),
    ("FLAC", "PCM_16", {}),
    ("FLAC", "PCM_24", {}),
    ("NIST", "PCM_16", {}),
    ("SVX", "PCM_16", {}),
    ("MAT4", "PCM_16", {}),
    ("VOC", "PCM_16", {}),
    ("AVR", "PCM_16", {}),
    ("AVR", "PCM_S8", {}),
    ("MPC2K", "PCM_16", {}),
    ("WVE", "ALAW", {}),
]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("form, subtype, how", FORMS)
def test_a_recording_cut_anywhere_is_refused_and_a_whole_one_read(
    tmp_path: Path, form: str, subtype: str, how: dict[str, Any], channels: int
) -> None:
    if form in ("SVX", "WVE") and channels == 2:
        pytest.skip(f"{form} has one channel")
    content = made(form, subtype, channels, **how)
    assert len(loaded(tmp_path, content)) >= COUNT
    for end in (len(content) // 5, len(content) // 2, len(content) - 700, 60):
        found = refused(tmp_path, content[:end])
        if form != "MAT4" or end > 60:
            assert "cut off" in found, end


@pytest.mark.parametrize("form", ["WAV", "WAVEX", "AIFF", "CAF", "AU", "RF64"])
def test_a_single_missing_byte_is_noticed(tmp_path: Path, form: str) -> None:
    content = made(form)
    end = content.index(b"SSND" if form == "AIFF" else b"data") + 8 if form != "AU" else 24
    cut = content[: min(len(content), end + 2 * COUNT)][:-1]
    assert "cut off" in refused(tmp_path, cut)


def _size_at(form: str, content: bytes) -> tuple[int, str]:
    """Where the size of the audio stands, and how it is written."""
    places: dict[str, Callable[[], tuple[int, str]]] = {
        "WAV": lambda: (content.index(b"data") + 4, "<I"),
        "WAVEX": lambda: (content.index(b"data") + 4, "<I"),
        "RF64": lambda: (content.index(b"ds64") + 16, "<Q"),
        "W64": lambda: (content.index(b"data\xf3") + 16, "<Q"),
        "AIFF": lambda: (content.index(b"SSND") + 4, ">I"),
        "CAF": lambda: (content.index(b"data") + 4, ">Q"),
        "AU": lambda: (8, ">I"),
    }
    return places[form]()


@pytest.mark.parametrize("form", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "CAF", "AU"])
@pytest.mark.parametrize("size", ["all ones", "none"])
def test_a_size_that_says_nothing_is_read_to_the_end(tmp_path: Path, form: str, size: str) -> None:
    content = made(form)
    place, how = _size_at(form, content)
    value = 2 ** (8 * struct.calcsize(how)) - 1 if size == "all ones" else 0
    found = loaded(tmp_path, patched(content, (place, struct.pack(how, value))))
    # AIFF and CAF may have chunks after the audio, which then count as audio.
    assert len(found) == pytest.approx(COUNT, abs=300)
    np.testing.assert_allclose(found[:COUNT], NOISE, atol=1e-4)


@pytest.mark.parametrize("form", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "CAF", "AU"])
def test_a_size_of_0_with_nothing_after_it_is_an_empty_recording(tmp_path: Path, form: str) -> None:
    content = made(form)
    place, how = _size_at(form, content)
    head = {"W64": 8, "AIFF": 12, "CAF": 12, "AU": 16}.get(form, 4)
    end = content.index(b"data") + 8 if form == "RF64" else place + head
    cut = patched(content, (place, struct.pack(how, 0)))[:end]
    if form == "AIFF":
        cut = patched(cut, (cut.index(b"COMM") + 10, struct.pack(">I", 0)))
    assert "lasts 0 ms" in refused(tmp_path, cut)


def test_a_size_of_0_before_other_chunks_is_an_empty_recording(tmp_path: Path) -> None:
    whole = made("WAV")
    place = whole.index(b"data") + 4
    extra = b"LIST" + struct.pack("<I", 60_000) + b"INFO" + b"x" * 59_996
    content = patched(whole[: place + 4], (place, bytes(4))) + extra
    assert "lasts 0 ms" in refused(tmp_path, content)


def test_sox_s_size_for_a_pipe_is_read_to_the_end(tmp_path: Path) -> None:
    content = made("WAV")
    for size in (0x7FFFF000, 0x7FFFEFFA):
        sized = patched(content, (content.index(b"data") + 4, struct.pack("<I", size)))
        assert len(loaded(tmp_path, sized)) == COUNT


_OF_PIPES = (
    *(0x7F000000, 0x7EFFFFFC, 0x7F000024, 0x7FFFFF00, 0x7FFFFFFF, 0x80000000),
    *(0xFFFFFFFE, 0xFFFFFFFF - 36, 0xFFFFFFFF),
)


@pytest.mark.parametrize("size", _OF_PIPES, ids=hex)
@pytest.mark.parametrize("form", ["WAV", "WAVEX", "AIFF", "AU"])
def test_sizes_that_programs_write_into_a_pipe_are_read_to_the_end(
    tmp_path: Path, form: str, size: int
) -> None:
    content = made(form)
    place, how = _size_at(form, content)
    sized = patched(content, (place, struct.pack(how, size)))
    assert len(loaded(tmp_path, sized)) == pytest.approx(COUNT, abs=300)
    if form == "AIFF":
        at = content.index(b"COMM") + 10
        for frames in (size, size // 2, 0xFFFFFFFF, COUNT):
            both = patched(sized, (at, struct.pack(">I", frames)))
            assert len(loaded(tmp_path, both)) == pytest.approx(COUNT, abs=300)
        counted = patched(content, (at, struct.pack(">I", size)))
        assert len(loaded(tmp_path, counted)) == COUNT
        assert "cut off" in refused(tmp_path, counted[:20_000])


@pytest.mark.parametrize("size", [0x7F000000, 0x80000000, 0xFFFFFFFF - 36], ids=hex)
def test_a_large_recording_that_is_cut_is_refused(tmp_path: Path, size: int) -> None:
    # A WAV of more than a GB, and containers whose sizes have 64 bits, mean what they say.
    path = tmp_path / "large.wav"
    path.write_bytes(wav(FMT, b"data" + struct.pack("<I", size)))
    with path.open("ab") as file:
        file.truncate(1_000_000_100)
    with pytest.raises(AudioError, match="cut off"):
        load_audio(path, max_audio_s=30)
    path.unlink()
    for form in ("RF64", "W64", "CAF"):
        content = made(form)
        place, how = _size_at(form, content)
        assert "cut off" in refused(tmp_path, patched(content, (place, struct.pack(how, size))))
    content = made("WAV")
    sized = patched(content, (content.index(b"data") + 4, struct.pack("<I", 0x7E000000)))
    assert "cut off" in refused(tmp_path, sized)


@pytest.mark.parametrize("frames", [0x7F000000, 0x7FFFFFFF, 0xFFFFFFFF], ids=hex)
def test_frames_that_a_head_does_not_know_are_read_to_the_end(tmp_path: Path, frames: int) -> None:
    for form, place, how in (("AVR", 26, ">I"), ("MPC2K", 30, "<I")):
        content = patched(made(form), (place, struct.pack(how, frames)))
        assert len(loaded(tmp_path, content)) == COUNT


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def wav(*chunks: bytes, riff: int | None = None) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) if riff is None else riff) + body


FMT = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16))
AUDIO = (NOISE * 32767).astype("<i2").tobytes()


@pytest.mark.parametrize(
    "content",
    [
        wav(FMT, chunk(b"data", AUDIO), chunk(b"LIST", b"INFOICMT\x04\0\0\0abc\0")),
        wav(chunk(b"LIST", b"INFOx"), FMT, chunk(b"data", AUDIO)),
        wav(chunk(b"JUNK", bytes(28)), FMT, chunk(b"fact", bytes(4)), chunk(b"data", AUDIO)),
        # What comes after the audio is cut; the audio is whole.
        wav(FMT, chunk(b"data", AUDIO), b"LIST" + struct.pack("<I", 5000) + b"INFO"),
        wav(FMT, chunk(b"data", AUDIO), riff=10**9),
        wav(FMT, chunk(b"data", AUDIO), riff=0),
        wav(FMT, chunk(b"data", AUDIO), b"garbage"),
    ],
    ids=range(7),
)
def test_other_chunks_before_and_after_whole_audio_do_no_harm(
    tmp_path: Path, content: bytes
) -> None:
    assert len(loaded(tmp_path, content)) == COUNT
    assert "cut off" in refused(tmp_path, content[: content.index(b"data") + 20_000])


def test_a_wav_cut_inside_its_head_says_so(tmp_path: Path) -> None:
    content = wav(chunk(b"LIST", b"INFO" + bytes(1000)), FMT, chunk(b"data", AUDIO))
    for end in (14, 40, 500, content.index(b"fmt ") + 10, content.index(b"data") + 4):
        found = refused(tmp_path, content[:end])
        assert "cut off inside its WAV header" in found


def test_bw64_is_read_like_rf64(tmp_path: Path) -> None:
    content = made("RF64")
    assert len(loaded(tmp_path, b"BW64" + content[4:])) == COUNT
    assert "cut off" in refused(tmp_path, b"BW64" + content[4:20_000])


def test_frames_that_aiff_counts_beyond_its_audio_are_missed(tmp_path: Path) -> None:
    content = made("AIFF")
    place = content.index(b"COMM") + 10
    more = patched(content, (place, struct.pack(">I", 2 * COUNT)))
    assert "cut off" in refused(tmp_path, more)


def _flac(total: int) -> bytes:
    content = made("FLAC")
    return patched(content, (21, bytes([content[21] & 0xF0])), (22, struct.pack(">I", total)))


def test_flac_is_held_to_the_samples_it_announces(tmp_path: Path) -> None:
    assert len(loaded(tmp_path, _flac(COUNT))) == COUNT
    assert f"{COUNT} of {2 * COUNT} samples" in refused(tmp_path, _flac(2 * COUNT))
    content = _flac(COUNT)
    assert "cut off" in refused(tmp_path, content[:-1])
    # An ID3 tag in front, as some programs put there.
    tag = b"ID3\x04\0\0\0\0\0\x0a" + bytes(10)
    assert "cut off" in refused(tmp_path, tag + content[:10_000])


def test_flac_that_announces_nothing_is_read_to_its_end(tmp_path: Path) -> None:
    found = loaded(tmp_path, _flac(0))
    np.testing.assert_allclose(found, NOISE, atol=1e-4)
    assert "cut off" in refused(tmp_path, _flac(0)[:-1])
    path = tmp_path / "long.flac"
    path.write_bytes(_flac(0))
    with pytest.raises(AudioError, match=r"longer than the 1 s accepted"):
        load_audio(path, max_audio_s=1)


def test_a_recording_of_upper_case_ending_or_behind_a_link_is_read(tmp_path: Path) -> None:
    content = made("WAV")
    assert len(loaded(tmp_path, content, "A.WAV")) == COUNT
    (tmp_path / "link.flac").symlink_to(tmp_path / "A.WAV")
    assert len(load_audio(tmp_path / "link.flac", max_audio_s=30)) == COUNT
    (tmp_path / "broken.wav").symlink_to(tmp_path / "none")
    with pytest.raises(AudioError, match="does not exist"):
        load_audio(tmp_path / "broken.wav", max_audio_s=30)
