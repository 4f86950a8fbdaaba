"""A baseline: the part of a benchmark that the regression check needs, small enough to keep in git."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgecloud.errors import DataError
from edgecloud.regression.fields import Fields
from edgecloud.regression.model import Benchmark, Scores, Series, Summary

__all__ = ["BASELINE_SCHEMA", "from_baseline", "to_baseline"]

BASELINE_SCHEMA = "edgecloud-baseline/1"
_DIGITS = 10
"""Significant digits kept; the tightest tolerance is a million times coarser."""


def to_baseline(benchmark: Benchmark, accepted: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON of a benchmark; ``accepted`` says when and why it was."""
    return {
        "schema": BASELINE_SCHEMA,
        "name": benchmark.name,
        "kind": benchmark.kind,
        "modelled": benchmark.modelled,
        "accepted": dict(accepted),
        "provenance": dict(benchmark.provenance),
        "identity": {aspect: dict(values) for aspect, values in benchmark.identity.items()},
        "environment": dict(benchmark.environment),
        "samples": list(benchmark.samples),
        **({"degraded": list(benchmark.degraded)} if benchmark.degraded else {}),
        "texts": [benchmark.texts.get(name) for name in benchmark.samples],
        "times": {name: _pack(value, benchmark) for name, value in benchmark.times.items()},
        "scores": {
            name: {
                "corpus": None if value.corpus is None else _round(value.corpus),
                "samples": None if value.samples is None else _pack(value.samples, benchmark),
            }
            for name, value in benchmark.scores.items()
        },
    }


def from_baseline(content: Mapping[str, Any], path: Path) -> Benchmark:
    """The benchmark of a baseline file.

    Raises:
        DataError: an older schema, or a field that is missing or of the wrong type.
    """
    whole = Fields(content, str(path))
    if whole.text("schema") != BASELINE_SCHEMA:
        raise DataError(
            f"{path} has schema {content['schema']}, this version reads {BASELINE_SCHEMA}; "
            "make it again: edgecloud baseline accept"
        )
    samples = whole.texts("samples")
    kind = whole.text("kind")
    if kind not in ("result", "pytest-benchmark"):
        raise DataError(f"{path}: kind {kind!r} is unknown; the file is broken")
    texts = content.get("texts")
    if not isinstance(texts, list) or len(texts) != len(samples):
        raise DataError(f"{path}: texts do not fit samples; the file is broken")
    times, scores, identity = (whole.mapping(key) for key in ("times", "scores", "identity"))
    return Benchmark(
        name=whole.text("name"),
        kind="result" if kind == "result" else "pytest-benchmark",
        source=path,
        modelled=content.get("modelled") is True,
        times={name: _unpack(times.mapping(name), samples) for name in times.content},
        scores={name: _unpack_scores(scores.mapping(name), samples) for name in scores.content},
        samples=samples,
        degraded=whole.texts("degraded") if "degraded" in content else (),
        identity={aspect: identity.mapping(aspect).content for aspect in identity.content},
        environment=whole.mapping("environment").content,
        texts={name: str(text) for name, text in zip(samples, texts, strict=True) if text},
        provenance=whole.optional("provenance").content,
    )


def _pack(value: Series | Summary, benchmark: Benchmark) -> dict[str, Any]:
    """A series in the order of the benchmark's samples, null where a sample has no value."""
    if isinstance(value, Summary):
        return {"median": _round(value.median), "iqr": _round(value.iqr), "n": value.n}
    if value.ids is None:
        return {"unpaired": [_round(number) for number in value.values]}
    known = value.by_id()
    row = (known.get(name) for name in benchmark.samples)
    return {"values": [None if number is None else _round(number) for number in row]}


def _unpack(packed: Fields, samples: tuple[str, ...]) -> Series | Summary:
    if "median" in packed.content:
        return Summary(packed.number("median"), packed.number("iqr"), int(packed.number("n")))
    if "unpaired" in packed.content:
        return Series(packed.numbers("unpaired"))
    return _paired(packed, samples)


def _paired(packed: Fields, samples: tuple[str, ...]) -> Series:
    row = packed.content.get("values")
    if not isinstance(row, list) or len(row) != len(samples):
        raise DataError(f"{packed.where}: values do not fit samples; the file is broken")
    by_sample = Fields(dict(zip(samples, row, strict=True)), packed.where)
    known = [(name, by_sample.maybe_number(name)) for name in samples]
    kept = [(name, value) for name, value in known if value is not None]
    return Series(tuple(value for _, value in kept), tuple(name for name, _ in kept))


def _unpack_scores(packed: Fields, samples: tuple[str, ...]) -> Scores:
    rows = None
    if packed.content.get("samples") is not None:
        rows = _paired(packed.mapping("samples"), samples)
    return Scores(packed.maybe_number("corpus"), rows)


def _round(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
