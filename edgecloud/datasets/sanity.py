"""Signs that a recording cannot be right, although it can be decoded."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["notes_on"]

_FAR_BEYOND: Final = 2.0
"""Twice full scale: 6 dB more than any fixed-point recording can hold."""
_SILENT_PEAK: Final = 1e-3
"""-60 dB of full scale."""
_CANCELLED: Final = 0.1
"""A mix 20 dB below its channels: they are opposites. Unrelated channels lose 3 dB."""
_CONSTANT: Final = 0.01
_RUN: Final = 3
_MIN_CLIPPED: Final = 10
_MIN_CLIPPED_SHARE: Final = 2e-3
_PILED_UP: Final = 5.0


def notes_on(channels: NDArray[np.float32], mono: NDArray[np.float32]) -> dict[str, str]:
    """Sentences on what cannot be right, by kind (``beyond_full_scale``, ``clipped``, ``silent``,
    ``constant``); empty for a sound recording.

    ``channels (n, channels)`` as decoded, full scale 1; ``mono (n,)`` their mean. Samples are finite.
    """
    found: dict[str, str] = {}
    peak = float(np.abs(channels).max(initial=0.0))
    if peak > _FAR_BEYOND:
        found["beyond_full_scale"] = (
            f"samples reach {peak:.6g} times full scale; float recordings hold values from -1 to 1"
        )
    level = float(mono.mean(dtype=np.float64))
    swing = mono - np.float32(level)
    swing_peak = float(np.abs(swing).max(initial=0.0))
    swing_rms, rms = _rms(swing), float(np.max(_rms_of_each(channels), initial=0.0))
    if rms >= _SILENT_PEAK and swing_rms < _CANCELLED * rms:
        found["silent"] = (
            f"its channels cancel each other: mixed down, {_db(swing_rms)} are left of {_db(rms)}; one of "
            "them has its polarity reversed"
        )
    elif abs(level) >= _SILENT_PEAK and (
        swing_peak < _SILENT_PEAK or swing_rms < _CONSTANT * abs(level)
    ):
        found["constant"] = f"every sample is about {level:.3g}: a constant, no sound"
    elif swing_peak < _SILENT_PEAK:
        what = "nothing but silence" if swing_peak == 0 else f"a peak of {_db(swing_peak)}"
        found["silent"] = f"{what}: there is nothing to hear"
    share = max((_clipped(channel) for channel in channels.T), default=0.0)
    if share > 0:
        found["clipped"] = f"{share:.2%} of its samples lie flat at the loudest value"
    return found


def _rms(samples: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if samples.size else 0.0


def _rms_of_each(channels: NDArray[np.float32]) -> NDArray[np.float64]:
    """Root mean square of each channel around its own mean."""
    if not channels.size:
        return np.zeros(0)
    return np.asarray(channels.std(axis=0, dtype=np.float64))


def _db(value: float) -> str:
    return f"{20 * math.log10(max(value, 1e-9)):.0f} dB"


def _clipped(channel: NDArray[np.float32]) -> float:
    """The share of samples that lie flat at the channel's highest or lowest value; 0 where few do.

    Flat are three and more equal samples in a row. A coarse but sound recording (8 bits, mu-law) has such
    runs as well, at every value: only a pile at the extreme, much higher than at the values next to it,
    is clipping.
    """
    total = 0
    if float(np.std(channel, dtype=np.float64)) < _CONSTANT * float(
        np.abs(channel).max(initial=0.0)
    ):
        return 0.0  # a constant lies flat all over
    for side in (channel, -channel):
        top = side.max(initial=0.0)
        if top <= _SILENT_PEAK:
            continue
        flat = side == top
        edges = np.flatnonzero(np.diff(np.concatenate(([False], flat, [False])).astype(np.int8)))
        runs = edges[1::2] - edges[::2]
        count = int(runs[runs >= _RUN].sum())
        if count < _MIN_CLIPPED:
            continue
        # Beside the extreme: as many samples as lie within a twentieth below it, per step of the scale.
        near = side[(side > 0.9 * top) & ~flat]
        levels = max(1, len(np.unique(near)))
        if count > _PILED_UP * len(near) / levels:
            total += count
    return total / len(channel) if total >= _MIN_CLIPPED_SHARE * len(channel) else 0.0
