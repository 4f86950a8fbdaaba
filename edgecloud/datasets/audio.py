"""Recordings to waveforms, and a cache of the features computed from them."""

from __future__ import annotations

import hashlib
import io
import math
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from edgecloud.errors import AudioError, OutputError

__all__ = ["MIN_AUDIO_S", "SAMPLE_RATE_HZ", "FeatureCache", "as_flac", "load_audio"]

SAMPLE_RATE_HZ: Final = 16_000
MIN_AUDIO_S: Final = 0.1
"""Shortest recording accepted. The audio tower needs 3 frames of 10 ms to make one token, and says
nothing useful about so little; the feature extractor refuses the same length."""
MIN_RATE_HZ: Final = 4_000
_LOSSY: Final = frozenset({"MP3", "OGG"})


def load_audio(path: Path | str, *, max_audio_s: float) -> NDArray[np.float32]:
    """The waveform of a recording: ``(n,) float32``, mono (channels averaged), 16 kHz.

    Whatever libsndfile reads: WAV of any depth, FLAC, MP3, OGG. Silence is a recording like any
    other. At other rates it is resampled by librosa (soxr_hq).

    Raises:
        AudioError: the file is missing, empty, not audio, cut off, shorter than 0.1 s, longer than
            ``max_audio_s``, or holds samples that are not finite numbers.
    """
    path = Path(path)
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise AudioError(f"recording {path} {what}")
    if path.stat().st_size == 0:
        raise AudioError(f"recording {path} is empty (0 bytes)")
    try:
        channels, rate = _decode(path, max_audio_s)
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioError(
            f"recording {path} cannot be decoded ({_last_words(error)}); it must be WAV, FLAC, MP3 "
            "or OGG"
        ) from error
    except TypeError as error:  # headerless files: libsndfile asks for their rate
        raise AudioError(
            f"recording {path} has no header that tells its sample rate; convert it to WAV"
        ) from error
    if not np.isfinite(channels).all():
        raise AudioError(f"recording {path} holds samples that are not finite numbers")
    mono = channels.mean(axis=1, dtype=np.float64).astype(np.float32)
    waveform = mono if rate == SAMPLE_RATE_HZ else _resample(mono, rate)
    if not np.isfinite(waveform).all():
        raise AudioError(f"recording {path} is too loud to resample: its samples overflow")
    return waveform


def as_flac(waveform: NDArray[np.float32]) -> bytes:
    """A mono 16 kHz waveform ``(n,)`` as a FLAC file of 16 bits; what is beyond full scale is cut."""
    content = io.BytesIO()
    soundfile.write(content, waveform, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    return content.getvalue()


def _decode(path: Path, max_audio_s: float) -> tuple[NDArray[np.float32], int]:
    """Samples ``(n, channels) float32`` and their rate in Hz, checked for length."""
    with soundfile.SoundFile(path) as sound:
        rate: int = sound.samplerate
        if rate < MIN_RATE_HZ:
            raise AudioError(
                f"recording {path} has {rate} samples a second; at least {MIN_RATE_HZ} are needed"
            )
        # One frame more than allowed tells what is too long, whatever the header says.
        limit = math.floor(min(max_audio_s, 1e6) * rate) + 1
        announced: int = sound.frames
        samples: NDArray[np.float32] = sound.read(
            min(limit, announced), dtype="float32", always_2d=True
        )
        cut_off = len(samples) < min(limit, announced) and sound.format not in _LOSSY
    if len(samples) >= limit:
        length = f"lasts {announced / rate:.1f} s, longer than the {max_audio_s:g} s accepted"
        raise AudioError(f"recording {path} {length}; raise --max-audio-s or cut it")
    if cut_off:
        raise AudioError(
            f"recording {path} is cut off: {len(samples)} of {announced} samples can be read"
        )
    if len(samples) < MIN_AUDIO_S * rate:
        raise AudioError(
            f"recording {path} lasts {1000 * len(samples) / rate:.0f} ms; at least "
            f"{1000 * MIN_AUDIO_S:.0f} ms are needed"
        )
    return samples, rate


def _resample(mono: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    import librosa  # seconds to import, and not needed for recordings at 16 kHz

    resampled: NDArray[np.float32] = librosa.resample(
        mono, orig_sr=rate, target_sr=SAMPLE_RATE_HZ, res_type="soxr_hq"
    )
    return resampled.astype(np.float32, copy=False)


def _last_words(error: Exception) -> str:
    """libsndfile's own message, without the path in front of it."""
    return str(getattr(error, "error_string", "") or error).strip().rstrip(".")


class FeatureCache:
    """Features by the content of a recording and the extractor's settings, in a folder.

    For training and modelled runs only: in wall time features are computed inside the request.
    A copied or renamed recording is found again; a changed one is not mistaken for the old.
    """

    def __init__(self, folder: Path | str) -> None:
        """Use ``folder``; it is made when the first features are kept."""
        self._folder = Path(folder)

    def get_or_compute(
        self,
        path: Path | str,
        settings_key: str,
        compute: Callable[[], NDArray[np.float16]],
    ) -> NDArray[np.float16]:
        """The features of the recording at ``path`` under ``settings_key``, as ``compute`` made them.

        An entry that cannot be read, or whose checksum is wrong, is computed and written again.

        Raises:
            AudioError: the recording cannot be read.
            OutputError: the cache cannot be written.
        """
        entry = self._entry(Path(path), settings_key)
        kept = _load(entry)
        if kept is not None:
            return kept
        features = compute()
        self._keep(entry, features)
        return features

    def _entry(self, path: Path, settings_key: str) -> Path:
        try:
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256")
        except OSError as error:
            raise AudioError(f"recording {path} cannot be read: {error.strerror}") from error
        digest.update(b"\0" + settings_key.encode())
        name = digest.hexdigest()
        return self._folder / name[:2] / f"{name}.npz"

    def _keep(self, entry: Path, features: NDArray[np.float16]) -> None:
        # An .npz is a zip: it carries a checksum, so that a damaged entry is noticed.
        content = io.BytesIO()
        np.savez(content, features=features)
        try:
            entry.parent.mkdir(parents=True, exist_ok=True)
            _write_atomically(entry, content.getvalue())
        except OSError as error:
            raise OutputError(
                f"cannot write to the feature cache {self._folder}: {error.strerror}; give a folder "
                "that can be written"
            ) from error


def _load(entry: Path) -> NDArray[np.float16] | None:
    """The features in a cache file, or ``None`` when there are none that can be trusted."""
    try:
        with entry.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            features: NDArray[np.float16] = archive["features"]
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile):
        return None
    return features if features.dtype == np.float16 else None


def _write_atomically(path: Path, content: bytes) -> None:
    """All of ``content`` under ``path``, or nothing; two writers at once do no harm."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
