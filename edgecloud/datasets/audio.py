"""Recordings to waveforms, and a cache of the features computed from them."""

from __future__ import annotations

import hashlib
import io
import math
import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from edgecloud.contracts import Arrays
from edgecloud.datasets.containers import Layout, Mended, layout
from edgecloud.datasets.phone import decode, demuxer
from edgecloud.datasets.sanity import notes_on
from edgecloud.errors import AudioError, OutputError

__all__ = [
    "MIN_AUDIO_S",
    "SAMPLE_RATE_HZ",
    "FeatureCache",
    "Recording",
    "as_flac",
    "load_audio",
    "read_recording",
    "recording_of",
]

SAMPLE_RATE_HZ: Final = 16_000
MIN_AUDIO_S: Final = 0.1
"""Shortest recording accepted. The audio tower needs 3 frames of 10 ms to make one token, and says
nothing useful about so little; the feature extractor refuses the same length."""
MIN_RATE_HZ: Final = 4_000
_MOST_CHANNELS: Final = 64
_LOSSY: Final = frozenset({"MP3", "OGG"})
_BLOCK_FRAMES: Final = 1 << 20
_UNKNOWN_FRAMES: Final = 2**63 - 1
"""libsndfile's length of a FLAC file that does not tell its own."""
_AT_THE_END: Final = 39
"""The code of libsndfile's error when such a file, whole, is read to its end."""
_TRUNCATED: Final = "File seems to be truncated"
"""Text of libsndfile's log about a cut file in one of MATLAB's formats."""
_APPLE_DOUBLE: Final = "files that begin with ._ are macOS's notes on another file, no recordings"


@dataclass(frozen=True, slots=True)
class Recording:
    """A decoded recording: ``waveform (n,) float32``, mono, 16 kHz; ``notes`` say what about it cannot be
    right, by kind (:func:`edgecloud.datasets.sanity.notes_on`)."""

    waveform: NDArray[np.float32]
    notes: Mapping[str, str]


def load_audio(path: Path | str, *, max_audio_s: float) -> NDArray[np.float32]:
    """The waveform of :func:`read_recording` alone."""
    return read_recording(path, max_audio_s=max_audio_s).waveform


def read_recording(path: Path | str, *, max_audio_s: float) -> Recording:
    """A recording as a waveform ``(n,) float32``, mono (channels averaged), 16 kHz, with notes on it.

    Whatever libsndfile reads: WAV of any depth, FLAC, MP3, OGG; with the extra ``phone`` m4a, aac, amr,
    webm and wma as well. Silence is a recording like any other. At other rates it is resampled by librosa
    (soxr_hq).

    Raises:
        AudioError: the file is missing, empty, not audio, cut off, shorter than 0.1 s, longer than
            ``max_audio_s``, or holds samples that are not finite numbers.
    """
    path = Path(path)
    try:
        if not path.is_file():
            what = "is not a file" if path.exists() else "does not exist"
            raise AudioError(f"recording {path} {what}")
        if path.stat().st_size == 0:
            raise AudioError(f"recording {path} is empty (0 bytes)")
        container = demuxer(path)
        if container is None:
            channels, rate = _decode(path, layout(path), max_audio_s)
        else:
            channels, rate, announced_s = decode(path, container, max_audio_s=max_audio_s)
            _check_length(path, len(channels), rate, max_audio_s, announced_s)
    except (soundfile.SoundFileError, OSError) as error:
        aside = f"; {_APPLE_DOUBLE}" if path.name.startswith("._") else ""
        raise AudioError(
            f"recording {path} cannot be decoded ({_last_words(error)}); it must be WAV, FLAC, MP3 "
            f"or OGG, or with the extra phone m4a, aac, amr, webm or wma{aside}"
        ) from error
    except TypeError as error:  # headerless files: libsndfile asks for their rate
        raise AudioError(
            f"recording {path} has no header that tells its sample rate; convert it to WAV"
        ) from error
    return _recording(path, channels, rate)


def recording_of(
    samples: NDArray[np.generic], *, sample_rate_hz: int, max_audio_s: float
) -> Recording:
    """Samples in memory, ``(n,)`` or ``(n, channels)``, as :func:`read_recording` gives those of a file. Whole numbers
    are taken as shares of the largest of their type, as in a WAV file.

    Raises:
        AudioError: they are of another shape or no real numbers, or what :func:`read_recording` refuses.
    """
    name = "of an array"
    channels = np.asarray(samples)
    if isinstance(sample_rate_hz, bool) or not isinstance(sample_rate_hz, int | np.integer):
        raise AudioError(f"recording {name}: its rate is {sample_rate_hz!r}, no whole number of Hz")
    if channels.dtype.kind not in "fiu":
        raise AudioError(f"recording {name} holds {channels.dtype}, no real numbers")
    if channels.ndim == 1:
        channels = channels[:, np.newaxis]
    if channels.ndim != 2 or not 1 <= channels.shape[1] <= _MOST_CHANNELS:
        raise AudioError(
            f"recording {name} has the shape {np.shape(samples)}; give (n,) or (n, channels), with "
            f"{_MOST_CHANNELS} channels at most"
        )
    if channels.dtype.kind in "iu":
        largest = 1 << (8 * channels.dtype.itemsize - 1)
        centre = largest if channels.dtype.kind == "u" else 0
        channels = (channels.astype(np.float64) - centre) / largest
    rate = int(sample_rate_hz)
    _check_length(name, len(channels), rate, max_audio_s, 0.0)
    with np.errstate(over="ignore"):
        return _recording(name, channels.astype(np.float32), rate)


def _recording(path: Path | str, channels: NDArray[np.float32], rate: int) -> Recording:
    if not np.isfinite(channels).all():
        raise AudioError(f"recording {path} holds samples that are not finite numbers")
    mono = channels.mean(axis=1, dtype=np.float64).astype(np.float32)
    waveform = mono if rate == SAMPLE_RATE_HZ else _resample(mono, rate)
    if not np.isfinite(waveform).all():
        raise AudioError(f"recording {path} is too loud to resample: its samples overflow")
    return Recording(waveform, notes_on(channels, mono))


def as_flac(waveform: NDArray[np.float32]) -> bytes:
    """A mono 16 kHz waveform ``(n,)`` as a FLAC file of 16 bits; what is beyond full scale is cut."""
    content = io.BytesIO()
    soundfile.write(content, waveform, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    return content.getvalue()


def _decode(
    path: Path, container: Layout | None, max_audio_s: float
) -> tuple[NDArray[np.float32], int]:
    """Samples ``(n, channels) float32`` and their rate in Hz, checked for length."""
    patches = container.patches if container is not None else {}
    with path.open("rb") as stream:
        source = io.BufferedReader(Mended(stream, patches)) if patches else path
        with soundfile.SoundFile(source) as sound:
            return _samples(path, sound, max_audio_s)


def _samples(
    path: Path, sound: soundfile.SoundFile, max_audio_s: float
) -> tuple[NDArray[np.float32], int]:
    rate: int = sound.samplerate
    _check_rate(path, rate)
    # One frame more than allowed tells what is too long, whatever the header says.
    limit = math.floor(min(max_audio_s, 1e6) * rate) + 1
    announced: int = sound.frames
    unknown = announced >= _UNKNOWN_FRAMES
    samples, failure = _read(sound, min(limit, announced))
    if failure is not None and (sound.format in _LOSSY or not len(samples)):
        raise failure
    short = len(samples) < min(limit, announced) and sound.format not in _LOSSY
    if short and not (unknown and (failure is None or failure.code == _AT_THE_END)):
        of = "" if unknown else f" of {announced}"
        raise AudioError(
            f"recording {path} is cut off or damaged: {len(samples)}{of} samples can be read"
        )
    if _TRUNCATED in sound.extra_info:
        raise AudioError(f"recording {path} is cut off: its header announces more than is there")
    announced_s = 0.0 if unknown else announced / rate
    _check_length(path, len(samples), rate, max_audio_s, announced_s)
    return samples, rate


def _read(
    sound: soundfile.SoundFile, wanted: int
) -> tuple[NDArray[np.float32], soundfile.LibsndfileError | None]:
    """Up to ``wanted`` frames ``(n, channels)``, and the error that ended them early, if one did.

    libsndfile gives what it could decode and an error; soundfile raises and says not how much there is.
    So the block is filled with what no decoder of whole numbers gives, and looked at.
    """
    blocks: list[NDArray[np.float32]] = []
    lossless = sound.format == "FLAC"
    while wanted > 0:
        size = min(wanted, _BLOCK_FRAMES) if lossless else wanted
        if not lossless:
            return sound.read(size, dtype="float32", always_2d=True), None
        block = np.full((size, sound.channels), np.nan, dtype=np.float32)
        try:
            sound.read(out=block)
        except soundfile.LibsndfileError as error:
            ends = np.flatnonzero(np.isnan(block[:, -1]))
            blocks.append(block[: ends[0]] if len(ends) else block)
            return np.concatenate(blocks), error
        ends = np.flatnonzero(np.isnan(block[:, -1]))
        blocks.append(block[: ends[0]] if len(ends) else block)
        if len(ends):
            break
        wanted -= size
    return np.concatenate(blocks) if blocks else np.zeros((0, sound.channels), np.float32), None


def _check_rate(path: Path | str, rate: int) -> None:
    if rate < MIN_RATE_HZ:
        raise AudioError(
            f"recording {path} has {rate} samples a second; at least {MIN_RATE_HZ} are needed"
        )


def _check_length(
    path: Path | str, count: int, rate: int, max_audio_s: float, announced_s: float
) -> None:
    """Raise when ``count`` samples are more than ``max_audio_s`` or fewer than a model can use."""
    _check_rate(path, rate)
    if count >= math.floor(min(max_audio_s, 1e6) * rate) + 1:
        length = f"lasts {max(announced_s, count / rate):.1f} s, longer than the {max_audio_s:g} s accepted"
        raise AudioError(f"recording {path} {length}; raise --max-audio-s or cut it")
    if count < MIN_AUDIO_S * rate:
        raise AudioError(
            f"recording {path} lasts {1000 * count / rate:.0f} ms; at least "
            f"{1000 * MIN_AUDIO_S:.0f} ms are needed"
        )


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
        compute: Callable[[], Arrays],
    ) -> Arrays:
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

    def _keep(self, entry: Path, features: Arrays) -> None:
        # An .npz is a zip: it carries a checksum, so that a damaged entry is noticed.
        content = io.BytesIO()
        np.savez(content, **features)  # type: ignore[arg-type]
        try:
            entry.parent.mkdir(parents=True, exist_ok=True)
            _write_atomically(entry, content.getvalue())
        except OSError as error:
            raise OutputError(
                f"cannot write to the feature cache {self._folder}: {error.strerror}; give a folder "
                "that can be written"
            ) from error


def _load(entry: Path) -> Arrays | None:
    """The features in a cache file, or ``None`` when there are none that can be trusted."""
    try:
        with entry.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            features = dict(archive)
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile):
        return None
    return features if all(isinstance(a, np.ndarray) for a in features.values()) else None


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
