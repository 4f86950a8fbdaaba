"""The messages between edge and cloud as a closed schema, written down without the code that makes them.

docs/wire.md describes the same. A message that holds anything else, in any place, is refused, and so is
one in which something of the recording itself is found: its samples, its names, its words.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ANSWERS",
    "RECORDING_REQUESTS",
    "REQUESTS",
    "Leak",
    "Secrets",
    "check_body",
    "check_head",
    "well_formed",
]

VERSIONS = (2, 3)
MEL_BINS = 128
BANDS = {"input_features": {MEL_BINS, 160}, "audio_input_features": {80}}
"""Bands of features by name; Granite Speech puts two frames of 80 together."""
LOG_MEL_RANGE = 2.0
"""Whisper's log-mel is cut off 8 below its maximum, then divided by 4."""
NATURAL_RANGE = 16.0
"""Gemma's is a natural logarithm of what is at least 0.001, its bands behind its frames."""
ENERGY_RANGE = 40.0
"""Phi-4's is a natural logarithm of energies of samples of 16 bits, cut off at 0."""
WINDOW = 24
"""Samples of a waveform in a row that no message may hold, in whatever numbers."""
NAME_WINDOW = 8


class Leak(AssertionError):
    """A message holds what it must not hold, or what nobody has foreseen."""


@dataclass(frozen=True)
class Secrets:
    """What belongs to one recording and must not leave the edge: its ``waveform`` (n,), its ``names``
    and the ``words`` that are said in it. ``read`` makes text of tokens."""

    waveform: NDArray[np.float32]
    names: tuple[str, ...]
    words: tuple[str, ...]
    read: Callable[[list[int]], str]


_NOTHING = Secrets(np.zeros(WINDOW, np.float32), (), (), lambda _: "")
Field = Callable[[Any], bool]


def _whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 31


def _number(value: Any) -> bool:
    return type(value) is float and math.isfinite(value)


def _tokens(value: Any) -> bool:
    return type(value) is list and all(_whole(token) for token in value)


def _maybe(field: Field) -> Field:
    return lambda value: value is None or field(value)


def _ids(value: Any) -> bool:
    return type(value) is bytes and len(value) > 0 and len(value) % 4 == 0


def _shape(value: Any) -> bool:
    return type(value) is list and len(value) == 2 and value[0] == MEL_BINS and _whole(value[1])


def _deflated(value: Any) -> bool:
    return type(value) is bytes


def _acceptance(value: Any) -> bool:
    return (
        type(value) is list
        and len(value) == 4
        and value[0] in ("rank", "exact", "bounded", "rejection")
        and _whole(value[1])
        and _number(value[2])
        and type(value[3]) is float
        and value[3] >= 0
    )


def _penalties(value: list[Any]) -> bool:
    """None, or those of version 3."""
    if not value:
        return True
    repetition, ngram = value
    return _number(repetition) and 0 < repetition <= 100 and _whole(ngram) and ngram <= 32


def _sampling(value: Any) -> bool:
    return (
        type(value) is list
        and len(value) in (3, 5)
        and _penalties(value[3:])
        and _number(value[0])
        and value[0] >= 0
        and _number(value[1])
        and 0 < value[1] <= 1
        and type(value[2]) is int
        and 0 <= value[2] < 1 << 63
    )


def _distributions(value: Any) -> bool:
    return type(value) is list and all(map(_distribution, value))


def _distribution(value: Any) -> bool:
    """Rising ids of four bytes, then as many weights of two, none of them 0."""
    if type(value) is not bytes or not value or len(value) % 6 or len(value) > 6 * 256:
        return False
    count = len(value) // 6
    ids = np.frombuffer(value[: 4 * count], dtype="<u4").tolist()
    weights = np.frombuffer(value[4 * count :], dtype="<u2").tolist()
    return ids == sorted(set(ids)) and ids[-1] < 1 << 31 and 0 not in weights


def _top_probs(value: Any) -> bool:
    return type(value) is bytes and len(value) % 4 == 0


def _cost(value: Any) -> bool:
    return (
        type(value) is list
        and len(value) == 5
        and all(map(_whole, value[:4]))
        and _number(value[4])
    )


def _named_shapes(value: Any) -> bool:
    """``[name, type, shape]`` of each array that a family here has whose features are no waveform."""
    foreseen = {
        "input_features": "float16",
        "audio_input_features": "float16",
        "feature_attention_mask": "int32",
        "input_features_mask": "bool",
    }
    return (
        type(value) is list
        and bool(value)
        and all(type(entry) is list and len(entry) == 3 for entry in value)
        and all(foreseen.get(name) == dtype for name, dtype, _ in value)
        and all(type(shape) is list and all(map(_whole, shape)) for _, _, shape in value)
        and all(BANDS[name] & set(shape) for name, _, shape in value if name in BANDS)
    )


def _nothing(value: Any) -> bool:
    return value is None


def _recording(value: Any) -> bool:
    """FLAC, no longer than five minutes of plain samples."""
    return type(value) is bytes and value[:4] == b"fLaC" and len(value) <= 300 * 16_000 * 2


def _flag(value: Any) -> bool:
    return type(value) is bool


REQUESTS: Mapping[str, Mapping[str, Field]] = {
    "open": {
        "ids": _ids,
        "shape": _maybe(lambda value: _shape(value) or _named_shapes(value)),
        "features": _maybe(_deflated),
        "sampling": _sampling,
    },
    "verify": {
        "shared": _whole,
        "new": _tokens,
        "draft": _tokens,
        "acceptance": _acceptance,
        "continuation": _whole,
        "drawn_from": _distributions,
    },
    "generate": {
        "shared": _whole,
        "new": _tokens,
        "max_new_tokens": _whole,
        "max_sentences": _maybe(_whole),
    },
    "close": {},
}
RECORDING_REQUESTS: Mapping[str, Mapping[str, Field]] = {
    **REQUESTS,
    "open": {
        "ids": _ids,
        "shape": _nothing,
        "features": _nothing,
        "sampling": _sampling,
        "recording": _recording,
    },
}
"""What passes instead where the edge was told ``--upload-audio``, and only there."""
ANSWERS: Mapping[str, Mapping[str, Field]] = {
    "verdict": {
        "kept": _whole,
        "token": _maybe(_whole),
        "ranks": _tokens,
        "top_probs": _top_probs,
        "continuation": _tokens,
        "regret": _number,
        "cost": _cost,
    },
    "chunk": {"tokens": _tokens, "cost": _cost, "last": _flag, "at": _whole},
}

HEADERS = {
    "host": r"127\.0\.0\.1:\d+",
    "accept": r"\*/\*",
    "accept-encoding": r"[a-z, ]+",
    "connection": r"keep-alive",
    "user-agent": r"python-httpx/[\d.]+",
    "content-length": r"\d+",
}


def check_head(method: str, path: str, headers: Mapping[str, str], secrets: Secrets) -> None:
    """What HTTP says around a request.

    Raises:
        Leak: a header or a path that nobody has foreseen, or something of the recording in one.
    """
    _must((method, path) == ("POST", "/v1/messages"), f"{method} {path}")
    for name, value in headers.items():
        pattern = HEADERS.get(name.lower())
        _must(pattern is not None and re.fullmatch(pattern, value), f"header {name}: {value}")
    _search(repr(dict(headers)).encode(), [], secrets)


def check_body(
    body: bytes, schema: Mapping[str, Mapping[str, Field]], secrets: Secrets
) -> list[str]:
    """The messages of one request or answer, decompressed and decoded; returns their kinds.

    Raises:
        Leak: something in them is not of ``schema``, or of the recording.
    """
    kinds = []
    while body:
        length = int.from_bytes(body[:4], "little")
        _must(len(body) >= 4 + length, "a frame that does not end")
        kinds.append(_check_message(body[4 : 4 + length], schema, secrets))
        body = body[4 + length :]
    return kinds


def well_formed(body: bytes, schema: Mapping[str, Mapping[str, Field]]) -> bool:
    """Whether a body holds whole messages of ``schema``, at least one, whatever is in them."""
    try:
        return bool(check_body(body, schema, _NOTHING))
    except (Leak, ValueError, msgpack.UnpackException, zlib.error):
        return False


def _check_message(
    message: bytes, schema: Mapping[str, Mapping[str, Field]], secrets: Secrets
) -> str:
    content = msgpack.unpackb(message)
    _must(type(content) is list and len(content) >= 4, "not a list of four at least")
    version, seq, kind, session, *values = content
    _must(version in VERSIONS and _whole(seq), "version and number")
    _must(type(kind) is str and kind in schema, f"{kind!r} is no kind of message")
    _must(type(session) is bytes and len(session) == 16, "a session of 16 bytes")
    fields = schema[kind]
    _must(len(values) == len(fields), f"{kind}: {len(values)} values, {len(fields)} foreseen")
    for (name, fits), value in zip(fields.items(), values, strict=True):
        _must(fits(value), f"{kind}: {name} is {value!r:.60}")
    found = dict(zip(fields, values, strict=True))
    spelled = [tokens for tokens in found.values() if tokens and _tokens(tokens)]
    views = [message]
    if kind == "open":
        spelled.append(np.frombuffer(found["ids"], dtype="<i4").tolist())
        _must((found["shape"] is None) == (found["features"] is None), "features without a shape")
    if found.get("features") is not None:
        shape = found["shape"]
        named = shape if _named_shapes(shape) else [["input_features", "float16", shape]]
        _must(version == 3 or named is not shape, "arrays by name in version 2")
        planes, arrays = _features(found["features"], named)
        views.append(planes)
        for (name, *_), features in zip(named, arrays, strict=True):
            if features.dtype == np.float16:
                _must(np.isfinite(features).all(), "features that are not finite")
                natural = features.ndim == 3 and features.shape[-1] == MEL_BINS
                most = NATURAL_RANGE if natural else LOG_MEL_RANGE
                most = ENERGY_RANGE if name == "audio_input_features" else most
                _must(float(np.ptp(features)) <= most + 0.01, "features are no log-mel")
            else:
                _must(np.isin(features, (0, 1)).all(), "a mask of more than zeros and ones")
            views += [features.tobytes(), features.T.tobytes()]
    for view in views:
        _search(view, spelled, secrets)
    return kind


def _features(deflated: bytes, named: list[Any]) -> tuple[bytes, list[NDArray[Any]]]:
    """The bytes as they were deflated, and the arrays that they hold, of ``[name, type, shape]``."""
    inflate = zlib.decompressobj()
    planes = inflate.decompress(deflated)
    _must(inflate.eof and not inflate.unused_data, "bytes behind the features")
    arrays: list[NDArray[Any]] = []
    begin = 0
    for _, dtype, shape in named:
        size = np.dtype(dtype).itemsize
        part = np.frombuffer(planes[begin : begin + size * math.prod(shape)], dtype=np.uint8)
        begin += size * math.prod(shape)
        _must(begin <= len(planes), "features of another size than their shape")
        arrays.append(np.ascontiguousarray(part.reshape(size, -1).T).view(dtype).reshape(shape))
    _must(begin == len(planes), "features of another size than their shape")
    return planes, arrays


def _search(view: bytes, spelled: list[list[int]], secrets: Secrets) -> None:
    """Look for the recording's samples, names and words."""
    for what, needle in _needles(secrets):
        _must(needle not in view, f"{what} in a message")
    for tokens in spelled:
        text = secrets.read(tokens)
        for hidden in (*secrets.names, *secrets.words):
            _must(hidden not in text, f"{hidden!r} spelled in tokens")


def _needles(secrets: Secrets) -> Iterator[tuple[str, bytes]]:
    """``(what, bytes)`` that no message may hold."""
    loudest = int(np.abs(secrets.waveform).argmax())
    places = [loudest, len(secrets.waveform) // 3, len(secrets.waveform) // 2]
    for place in places:
        begin = max(0, min(place, len(secrets.waveform) - WINDOW))
        samples = secrets.waveform[begin : begin + WINDOW]
        if not samples.any():
            continue
        for kind in ("<f2", "<f4", "<f8", ">f4"):
            yield "samples", samples.astype(kind).tobytes()
        for kind in ("<i2", ">i2"):
            yield "samples", (samples * 32767).round().astype(kind).tobytes()
    for name in secrets.names:
        raw = name.encode()
        for begin in range(len(raw) - min(len(raw), NAME_WINDOW) + 1):
            yield "a name", raw[begin : begin + NAME_WINDOW]
    for words in secrets.words:
        for code in ("utf-8", "utf-16-le", "gb18030"):
            yield "words", words.encode(code)


def _must(holds: Any, what: str) -> None:
    if not holds:
        raise Leak(what)
