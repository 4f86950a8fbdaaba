"""Recordings as phones and browsers make them (m4a, aac, caf, amr, webm, wma), decoded by PyAV's FFmpeg."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgecloud.datasets.containers import layout
from edgecloud.errors import AudioError

__all__ = ["EXTRA", "decode", "demuxer"]

EXTRA: Final = "pip install 'edgecloud[phone]'"
_SHORTER_S: Final = 0.25
"""The share by which a whole recording may be shorter than its container announces: encoders' padding and
rounding."""
_ASF: Final = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_CAF_PLAIN: Final = frozenset({b"lpcm", b"ulaw", b"alaw", b"alac"})
"""What libsndfile reads in a CAF."""
_MP4_BOXES: Final = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"})


def demuxer(path: Path) -> str | None:
    """FFmpeg's name for the container at ``path``, by its first bytes; ``None``: none of a phone's.

    FFmpeg is told the container and given an open file, so that no file makes it open another or the
    network, as playlists do. Raises OSError when the file cannot be read.
    """
    with path.open("rb") as stream:
        head = stream.read(32)
    if head[:4] == b"caff":
        # Its first chunk describes the format.
        return "caf" if head[8:12] == b"desc" and head[28:32] not in _CAF_PLAIN else None
    if head[4:8] in _MP4_BOXES:
        return "mp4"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "matroska"
    if head[:5] == b"#!AMR":
        return "amr"
    if head.startswith(_ASF):
        return "asf"
    if head[:4] in (b"ADIF",) or (head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xF6 == 0xF0):
        return "aac"
    return None


def decode(
    path: Path, container: str, *, max_audio_s: float
) -> tuple[NDArray[np.float32], int, float]:
    """Samples ``(n, channels) float32`` of the first audio track, their rate in Hz, and the seconds that the
    container announces (0 where it announces nothing). Decoding ends once ``max_audio_s`` is passed.

    Raises:
        AudioError: PyAV is not installed, or the file cannot be decoded or is cut off.
    """
    try:
        import av
    except ImportError as error:
        raise AudioError(
            f"recording {path} needs a decoder that is not installed ({container} container, as phones "
            f"and browsers record): {EXTRA}, or convert it to WAV"
        ) from error
    if container in ("caf", "aac", "amr"):
        layout(path)
    missing = _missing_bytes(path, container)
    if missing > 0:
        raise AudioError(
            f"recording {path} is cut off: {missing} bytes that its {container} container announces are "
            "not there; copy it again"
        )
    blocks: list[NDArray[np.float32]] = []
    try:
        with path.open("rb") as stream, av.open(stream, mode="r", format=container) as opened:
            track = next(iter(opened.streams.audio), None)
            if track is None:
                raise AudioError(f"recording {path} holds no audio track")
            announced_s = _announced_s(opened, track)
            rate = int(track.rate or 0)
            if rate <= 0:
                raise AudioError(f"recording {path} does not tell its sample rate")
            limit = math.floor(min(max_audio_s, 1e6) * rate) + 1
            resampler = av.AudioResampler(format="fltp", rate=rate)
            count = 0
            for frame in opened.decode(track):
                for plain in resampler.resample(frame):
                    blocks.append(np.asarray(plain.to_ndarray(), np.float32))
                    count += blocks[-1].shape[1]
                if count >= limit:
                    break
    except (av.FFmpegError, OSError, ValueError) as error:
        words = getattr(error, "strerror", None) or str(error)
        raise AudioError(
            f"recording {path} cannot be decoded ({words}): it is cut off, damaged or of another format"
        ) from error
    if not blocks:
        raise AudioError(f"recording {path} is cut off: no audio in it can be decoded")
    channels = min(block.shape[0] for block in blocks)
    samples = np.concatenate([block[:channels] for block in blocks], axis=1)
    if samples.shape[1] < limit and samples.shape[1] / rate < announced_s - _SHORTER_S:
        raise AudioError(
            f"recording {path} is cut off: {samples.shape[1] / rate:.2f} s of {announced_s:.2f} s can "
            "be read; copy it again"
        )
    return np.ascontiguousarray(samples.T, dtype=np.float32), rate, announced_s


def _missing_bytes(path: Path, container: str) -> int:
    """Bytes that the outermost boxes of MP4, or the two objects of ASF, announce and the file lacks."""
    with path.open("rb") as stream:
        size = stream.seek(0, 2)
        if container == "asf":
            stream.seek(16)
            head = int.from_bytes(stream.read(8), "little")
            stream.seek(min(head, size) + 16)
            return head + int.from_bytes(stream.read(8), "little") - size
        place = 0
        while container == "mp4" and place < size:
            stream.seek(place)
            box = stream.read(16)
            length = int.from_bytes(box[:4], "big")
            if length == 1:
                length = int.from_bytes(box[8:16], "big")
            if length < 8:  # 0: the box goes to the end; else it is none
                return 0
            place += length
        return place - size if container == "mp4" else 0


def _announced_s(opened: object, track: object) -> float:
    """Seconds that a container announces for its audio; 0 where it announces nothing."""
    duration, base = getattr(track, "duration", None), getattr(track, "time_base", None)
    if duration and base:
        return float(duration * base)
    # AMR and raw AAC have none, and FFmpeg makes one up from the file's size.
    name = getattr(getattr(opened, "format", None), "name", "")
    total = getattr(opened, "duration", None)
    return float(total) / 1e6 if total and name not in ("amr", "aac") else 0.0
