"""The content of an ``open`` request: the prompt, and the sampling parameters of its session."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecloud.cloud.protocol.sampling import pack_sampling, sampling_of
from edgecloud.contracts import Prompt
from edgecloud.contracts.sampling import GREEDY, Sampling
from edgecloud.errors import WireError

__all__ = ["pack_open", "pack_prompt", "unpack_open", "unpack_prompt"]

_MAX_FEATURE_BYTES = 128 * 30_000 * 2
"""Five minutes of audio at 128 bands; a longer recording is refused before it is sent."""
_MAX_RECORDING_BYTES = 300 * 16_000 * 2
"""Five minutes of 16 bits at 16 kHz, which FLAC makes shorter."""
_FLAC = b"fLaC"


def pack_open(prompt: Prompt, sampling: Sampling = GREEDY) -> tuple[Any, ...]:
    """The content of an ``open`` request: ``(ids, shape, features, sampling)``, and the recording where the
    prompt has one."""
    recording = () if prompt.recording is None else (prompt.recording,)
    return *pack_prompt(prompt), pack_sampling(sampling), *recording


def unpack_open(values: Sequence[Any]) -> tuple[Prompt, Sampling]:
    """The prompt of an ``open`` request, and how its session chooses tokens.

    Raises:
        WireError: sizes do not fit together or are over the limit, or it holds something else.
    """
    if not 4 <= len(values) <= 5:
        raise WireError("open: ids, shape, features, sampling and maybe a recording were expected")
    ids, shape, features, sampling, *recordings = values
    prompt = unpack_prompt(ids, shape, features)
    for recording in recordings:
        prompt = replace(prompt, recording=_recording(recording, prompt))
    return prompt, sampling_of(sampling)


def pack_prompt(prompt: Prompt) -> tuple[bytes, list[int] | None, bytes | None]:
    """``(ids, shape, features)`` of an ``open`` request; without features, where a recording takes
    their place."""
    ids = np.asarray(prompt.token_ids, dtype="<i4").tobytes()
    if prompt.recording is not None or prompt.features is None:
        return ids, None, None
    halves = np.ascontiguousarray(prompt.features, dtype="<f2").view(np.uint8).reshape(-1, 2)
    return ids, list(prompt.features.shape), zlib.compress(halves.T.tobytes(), 1)


def unpack_prompt(ids: Any, shape: Any, features: Any) -> Prompt:
    """The prompt of an ``open`` request, but for its recording.

    Raises:
        WireError: sizes do not fit together or are over the limit.
    """
    if not isinstance(ids, bytes) or len(ids) % 4 or not ids:
        raise WireError("open: prompt ids are not whole int32 values")
    token_ids = tuple(np.frombuffer(ids, dtype="<i4").tolist())
    if shape is None and features is None:
        return Prompt(token_ids)
    if not (
        isinstance(shape, list)
        and len(shape) == 2
        and all(type(size) is int and size > 0 for size in shape)
        and isinstance(features, bytes)
    ):
        raise WireError("open: features need a shape [n_mels, T] and bytes")
    size = shape[0] * shape[1] * 2
    if size > _MAX_FEATURE_BYTES:
        raise WireError(f"open: {size} bytes of features; at most {_MAX_FEATURE_BYTES}")
    inflate = zlib.decompressobj()
    try:
        raw = inflate.decompress(features, size + 1)
    except zlib.error as error:
        raise WireError(f"open: features do not inflate: {error}") from error
    if len(raw) != size or not inflate.eof or inflate.unused_data:
        raise WireError(f"open: features inflate to another size than their shape's {size} bytes")
    halves = np.frombuffer(raw, dtype=np.uint8).reshape(2, -1)
    values: NDArray[np.float16] = np.ascontiguousarray(halves.T).view("<f2").reshape(shape)
    if not np.isfinite(values).all():
        raise WireError("open: features hold values that are not finite numbers")
    return Prompt(token_ids, values.astype(np.float16))


def _recording(value: Any, prompt: Prompt) -> bytes:
    """The recording of an ``open`` request whose other values are ``prompt``."""
    if not (
        isinstance(value, bytes) and value.startswith(_FLAC) and len(value) <= _MAX_RECORDING_BYTES
    ):
        raise WireError(f"open: a recording is FLAC, of up to {_MAX_RECORDING_BYTES} bytes")
    if prompt.features is not None:
        raise WireError("open: a recording comes in the place of features")
    return value
