"""Phones' recordings: decoded where PyAV is installed, and the extra named where it is not."""

from __future__ import annotations

import io
import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from edgecloud.datasets.audio import load_audio
from edgecloud.datasets.phone import demuxer
from edgecloud.errors import AudioError

av = pytest.importorskip("av")

RATE = 16_000
FORMS = [
    ("a.m4a", "mp4", "aac"),
    ("A.M4A", "mp4", "aac"),
    ("a.aac", "adts", "aac"),
    ("a.webm", "webm", "libopus"),
    ("a.wma", "asf", "wmav2"),
    ("a.mka", "matroska", "pcm_s16le"),
]


def recorded(form: str, codec: str, *, seconds: float = 2.0, rate: int = 48_000) -> bytes:
    """A 440 Hz tone in a container of a phone."""
    target = io.BytesIO()
    samples = (0.4 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype("f4")
    with av.open(target, "w", format=form) as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        stream.bit_rate = 64_000
        resampler = av.AudioResampler(
            format=stream.codec_context.format, layout="mono", rate=rate, frame_size=960
        )
        frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
        frame.sample_rate = rate
        for piece in [*resampler.resample(frame), None]:
            for packet in stream.encode(piece):
                container.mux(packet)
    return target.getvalue()


@pytest.mark.parametrize("name, form, codec", FORMS)
def test_phones_recordings_become_16_khz_mono(
    tmp_path: Path, name: str, form: str, codec: str
) -> None:
    path = tmp_path / name
    path.write_bytes(recorded(form, codec))
    waveform = load_audio(path, max_audio_s=30)
    assert len(waveform) == pytest.approx(2 * RATE, abs=RATE // 5)
    middle = waveform[8000:24_000]
    assert np.argmax(np.abs(np.fft.rfft(middle))) == 440
    with pytest.raises(AudioError, match=r"longer than the 1 s accepted"):
        load_audio(path, max_audio_s=1)


@pytest.mark.parametrize("name, form, codec", FORMS)
@pytest.mark.parametrize("share", [0.05, 0.5, 0.8])
def test_phones_recordings_cut_short_are_refused(
    tmp_path: Path, name: str, form: str, codec: str, share: float
) -> None:
    content = recorded(form, codec)
    path = tmp_path / name
    path.write_bytes(content[: round(share * len(content))])
    with pytest.raises(AudioError, match=r"cut off|lasts \d+ ms") as caught:
        load_audio(path, max_audio_s=30)
    assert "\n" not in str(caught.value)


def test_a_caf_of_aac_is_held_to_the_bytes_it_announces(tmp_path: Path) -> None:
    def chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
        return name + (len(content) if size is None else size).to_bytes(8, "big") + content

    described = struct.pack(">d4s5I", 44_100, b"aac ", 0, 0, 1024, 1, 0)
    path = tmp_path / "memo.caf"
    content = b"caff\0\1\0\0" + chunk(b"desc", described)
    path.write_bytes(content + chunk(b"data", bytes(5004), 9004))
    with pytest.raises(AudioError, match="its CAF header announces 9000 bytes of audio, 5000"):
        load_audio(path, max_audio_s=30)
    assert demuxer(path) == "caf"
    path.write_bytes(content.replace(b"aac ", b"lpcm") + chunk(b"data", bytes(5004)))
    assert demuxer(path) is None


def amr(*, wide: bool = False, frames: int = 100) -> bytes:
    """Two seconds of noise in frames of the highest rate, which say their length in their first byte."""
    rng = np.random.default_rng(0)
    kind, size, begins = (8, 60, b"#!AMR-WB\n") if wide else (7, 31, b"#!AMR\n")
    return begins + b"".join(bytes([kind << 3 | 4]) + rng.bytes(size) for _ in range(frames))


@pytest.mark.parametrize("wide", [False, True])
def test_amr_cut_in_a_frame_is_refused_and_between_two_is_not_known(
    tmp_path: Path, wide: bool
) -> None:
    path = tmp_path / "a.amr"
    whole, half = amr(wide=wide), amr(wide=wide, frames=50)
    for content, seconds in ((whole, 2), (half, 1)):
        path.write_bytes(content)
        assert len(load_audio(path, max_audio_s=30)) == pytest.approx(
            seconds * RATE, abs=RATE // 20
        )
    for end in (len(whole) - 1, len(half) + 1, len(half) - 5):
        path.write_bytes(whole[:end])
        with pytest.raises(AudioError, match="cut off: its AMR frame header announces"):
            load_audio(path, max_audio_s=30)


@pytest.mark.parametrize("name, form, codec", FORMS)
def test_without_the_extra_the_error_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, form: str, codec: str
) -> None:
    path = tmp_path / name
    path.write_bytes(recorded(form, codec))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(AudioError, match=r"pip install 'edgecloud\[phone\]'"):
        load_audio(path, max_audio_s=30)


@pytest.mark.parametrize(
    "content",
    [
        b"#!AMR\n",
        b"\0\0\0\x1cftypM4A " + bytes(200),
        b"\x1a\x45\xdf\xa3" + bytes(200),
        bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + bytes(200),
        b"\xff\xf1" + bytes(200),
    ],
    ids=range(5),
)
def test_what_only_begins_like_a_phones_recording_is_one_line(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "a.m4a"
    path.write_bytes(content)
    with pytest.raises(AudioError) as caught:
        load_audio(path, max_audio_s=30)
    assert "\n" not in str(caught.value)


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "a.aac").write_bytes(recorded("adts", "aac"))
    path = tmp_path / "list.m3u8"
    path.write_text("#EXTM3U\n#EXTINF:2,\na.aac\n#EXT-X-ENDLIST\n")
    with pytest.raises(AudioError, match="cannot be decoded"):
        load_audio(path, max_audio_s=30)


def test_recordings_of_a_real_phone_and_browser() -> None:
    folder = Path(os.environ.get("EDGECLOUD_TEST_DATA") or "none", "cases", "audio")
    if not folder.is_dir():
        pytest.skip("EDGECLOUD_TEST_DATA is not set, or holds no cases/audio")
    for name in ("phone.m4a", "v.amr", "voice.webm"):
        assert len(load_audio(folder / name, max_audio_s=30)) == pytest.approx(32_156, abs=800)
