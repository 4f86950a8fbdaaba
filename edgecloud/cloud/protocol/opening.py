"""The content of an ``open`` request: the prompt, and the sampling parameters of its session."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecloud.cloud.protocol.sampling import pack_sampling, sampling_of
from edgecloud.contracts import LOG_MEL, Arrays, Prompt
from edgecloud.contracts.sampling import GREEDY, Sampling
from edgecloud.errors import WireError

__all__ = ["is_plain", "pack_open", "pack_prompt", "unpack_open", "unpack_prompt"]

_MAX_FEATURE_BYTES = 128 * 30_000 * 2
"""Five minutes of audio at 128 bands; a longer recording is refused before it is sent."""
_MAX_ARRAYS_BYTES = _MAX_FEATURE_BYTES + (1 << 20)
"""The same with masks beside it."""
_MOST_ARRAYS = 8
_MOST_DIMENSIONS = 4
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_TYPES = ("float16", "int32", "int64", "bool")
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


def is_plain(prompt: Prompt) -> bool:
    """True when version 2 can say the prompt: its features, if any, are one log-mel ``(n_mels, T)``."""
    return not prompt.arrays or (
        set(prompt.arrays) == {LOG_MEL}
        and prompt.arrays[LOG_MEL].ndim == 2
        and prompt.arrays[LOG_MEL].dtype == np.float16
    )


def pack_prompt(prompt: Prompt) -> tuple[bytes, list[Any] | None, bytes | None]:
    """``(ids, shape, features)`` of an ``open`` request; without features, where a recording takes
    their place. The shape is ``[n_mels, T]``, or in version 3 ``[name, type, shape]`` of each array."""
    ids = np.asarray(prompt.token_ids, dtype="<i4").tobytes()
    if prompt.recording is not None or not prompt.arrays:
        return ids, None, None
    arrays = dict(sorted(prompt.arrays.items()))
    packed = zlib.compress(b"".join(map(_planes, arrays.values())), 1)
    if is_plain(prompt):
        return ids, list(arrays[LOG_MEL].shape), packed
    return ids, [[name, str(a.dtype), list(a.shape)] for name, a in arrays.items()], packed


def _planes(array: NDArray[Any]) -> bytes:
    """The bytes of an array, those of equal significance together."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return little.view(np.uint8).reshape(-1, array.itemsize).T.tobytes()


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
    declared = _declared(shape)
    if declared is None or not isinstance(features, bytes):
        raise WireError(
            "open: features need bytes, and a shape [n_mels, T] or for each array its name, type and shape"
        )
    most = _MAX_FEATURE_BYTES if declared.keys() == {LOG_MEL} else _MAX_ARRAYS_BYTES
    sizes = [dtype.itemsize * math.prod(size) for dtype, size in declared.values()]
    if sum(sizes) > most:
        raise WireError(f"open: {sum(sizes)} bytes of features; at most {most}")
    inflate = zlib.decompressobj()
    try:
        raw = inflate.decompress(features, sum(sizes) + 1)
    except zlib.error as error:
        raise WireError(f"open: features do not inflate: {error}") from error
    if len(raw) != sum(sizes) or not inflate.eof or inflate.unused_data:
        raise WireError(
            f"open: features inflate to another size than their shape's {sum(sizes)} bytes"
        )
    return Prompt(token_ids, _arrays(declared, raw))


def _declared(shape: Any) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]] | None:
    """Type and shape of each array that an ``open`` request says it has; None: it is no such list."""
    if _is_shape(shape) and len(shape) == 2:
        return {LOG_MEL: (np.dtype(np.float16), tuple(shape))}
    if not (
        isinstance(shape, list)
        and 1 <= len(shape) <= _MOST_ARRAYS
        and all(isinstance(entry, list) and len(entry) == 3 for entry in shape)
        and all(isinstance(name, str) and _NAME.fullmatch(name) for name, _, _ in shape)
        and all(dtype in _TYPES and _is_shape(size) for _, dtype, size in shape)
        and [name for name, _, _ in shape] == sorted({name for name, _, _ in shape})
    ):
        return None
    return {name: (np.dtype(dtype), tuple(size)) for name, dtype, size in shape}


def _is_shape(value: Any) -> bool:
    return (
        isinstance(value, list)
        and 1 <= len(value) <= _MOST_DIMENSIONS
        and all(type(size) is int and 0 < size < 1 << 31 for size in value)
    )


def _arrays(declared: dict[str, tuple[np.dtype[Any], tuple[int, ...]]], raw: bytes) -> Arrays:
    """The arrays whose bytes are ``raw``.

    Raises:
        WireError: real numbers that are not finite, or a mask of more than zeros and ones.
    """
    found: dict[str, NDArray[Any]] = {}
    begin = 0
    for name, (dtype, shape) in declared.items():
        end = begin + dtype.itemsize * math.prod(shape)
        planes = np.frombuffer(raw[begin:end], dtype=np.uint8).reshape(dtype.itemsize, -1)
        if dtype == np.bool_ and planes.max() > 1:
            raise WireError(f"open: {name} is a mask with other values than 0 and 1")
        little = np.ascontiguousarray(planes.T).view(dtype.newbyteorder("<")).reshape(shape)
        if dtype.kind == "f" and not np.isfinite(little).all():
            raise WireError("open: features hold values that are not finite numbers")
        found[name] = little.astype(dtype)
        begin = end
    return found


def _recording(value: Any, prompt: Prompt) -> bytes:
    """The recording of an ``open`` request whose other values are ``prompt``."""
    if not (
        isinstance(value, bytes) and value.startswith(_FLAC) and len(value) <= _MAX_RECORDING_BYTES
    ):
        raise WireError(f"open: a recording is FLAC, of up to {_MAX_RECORDING_BYTES} bytes")
    if prompt.arrays:
        raise WireError("open: a recording comes in the place of features")
    return value
