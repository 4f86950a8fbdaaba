"""Check that a result holds what tables and pages read of it, each field with its type and range."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from edgecloud.errors import DataError
from edgecloud.quality.metric import values
from edgecloud.regression.fields import Fields, unique
from edgecloud.report.comparison import blocks
from edgecloud.settings.declaration import MODES
from edgecloud.settings.options import OPTIONS

__all__ = ["check_shape"]

_LARGEST: Final = 1e12
"""No count, time or score of a run is larger; charts could not hold it."""
_CHOICES: Final = {
    "mode": MODES,
    **{
        option.name: option.choices
        for option in OPTIONS
        if option.name in ("language", "prompt_type", "clock")
    },
}
_COUNTS: Final = ("num_samples", "num_completed", "num_failed")
_METRICS: Final = ("latency_metrics", "speculative_decoding_metrics", "cost_metrics")
_TIMES: Final = ("ttft", "tpot", "total_time", "cloud_busy_time", "bytes_up")


def check_shape(content: dict[str, Any], path: Path) -> None:
    """Compare a result with what reports read of it.

    Raises:
        DataError: a field is missing, of another type, or out of range; names file and field.
    """
    whole = Fields(content, str(path))
    _check_config(whole.mapping("experiment_config"))
    _check_metrics(whole.mapping("metrics"))
    _check_circumstances(whole)
    rows = whole.rows("detailed_results")
    for row in rows:
        _check_row(row)
    unique((row.text("file_id") for row in rows), str(path))


def _check_config(config: Fields) -> None:
    for name, choices in _CHOICES.items():
        value = config.text(name)
        if value not in choices:
            raise DataError(
                f"{config.where}: {name} {value!r:.40} is not one of {', '.join(choices)}"
            )
    for name in ("acceptance", "hardware_profile"):
        config.text(name)
    for option in OPTIONS:
        if option.kind is str:
            _maybe_text(config, option.name)
        elif option.kind in (int, float):
            _number(config, option.name)


def _check_metrics(metrics: Fields) -> None:
    for name in (*_COUNTS, "num_degraded"):
        if name in _COUNTS or name in metrics.content:
            _count(metrics, name)
    _check_texts(metrics.mapping("notes"))
    for name in _METRICS:
        metrics.mapping(name)
    metrics.optional("defects")
    _number(metrics.mapping("latency_metrics"), "delivered_late_total")
    for _, lines in blocks():
        for _, name, form in lines:
            block, _, last = name.rpartition(".")
            holder = metrics.optional(block) if block else metrics
            if form == "d" and holder.content.get(last) is not None:
                _count(holder, last)
            _number(holder, last)


def _check_circumstances(whole: Fields) -> None:
    """Data, models, limits, machine and run."""
    for name in ("manifest", "sha256"):
        _maybe_text(whole.mapping("data"), name)
    models = whole.mapping("models")
    for side in models.content:
        model = models.optional(side)
        for name in ("name", "sha256", "headers_sha256", "dtype", "device", "transport"):
            _maybe_text(model, name)
    _maybe_text(whole.mapping("limits"), "summary")
    whole.mapping("quality_floors").text("status")
    profile = whole.optional("hardware_profile")
    if "hardware_profile" not in whole.content:
        raise DataError(f"{whole.where}: hardware_profile is missing")
    for side in ("edge", "cloud", "link"):
        profile.optional(side)
    environment = whole.mapping("environment")
    _number(environment.optional("cpu"), "logical_cores")
    gpus = environment.optional("devices").content.get("gpus")
    if gpus is not None and not isinstance(gpus, list):
        raise DataError(f"{environment.where}: devices.gpus is not a list")
    whole.optional("setup")
    run = whole.mapping("run")
    _maybe_text(run.optional("settings"), "output_name")
    _number(run.optional("drift"), "second_half_over_first")
    if run.content.get("load_average") is not None:
        run.numbers("load_average")


def _check_row(row: Fields) -> None:
    row.text("file_id")
    done = row.text("status") == "ok"
    row.optional("error")
    row.optional("audio_notes")
    for name in _METRICS:
        if name not in row.content:
            raise DataError(f"{row.where}: {name} is missing")
        block = row.mapping(name) if done else row.optional(name)
        for time in _TIMES:
            value = _number(block, time)
            if value is not None and value < 0:
                raise DataError(f"{block.where}: {time} is negative")
    for name in (*values(), "audio_s"):
        _number(row, name)
    _maybe_text(row, "generated_text")
    _check_list(row, "reference_captions", str)
    _check_list(row, "tokens", int)
    _check_list(row, "origins", str)
    if len(row.content["tokens"]) != len(row.content["origins"]):
        raise DataError(f"{row.where}: tokens and origins differ in number")


def _check_texts(block: Fields) -> None:
    for name in block.content:
        block.text(name)


def _number(block: Fields, name: str) -> float | None:
    value = block.maybe_number(name)
    if value is not None and not abs(value) <= _LARGEST:
        raise DataError(f"{block.where}: {name} is out of range")
    return value


def _count(block: Fields, name: str) -> None:
    value = block.content.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST:
        raise DataError(f"{block.where}: {name} is not a count")


def _maybe_text(block: Fields, name: str) -> None:
    if block.content.get(name) is not None:
        block.text(name)


def _check_list(block: Fields, name: str, kind: type) -> None:
    value = block.content.get(name)
    if not isinstance(value, list) or not _all(value, kind):
        raise DataError(f"{block.where}: {name} is not a list of {kind.__name__} values")


def _all(values: Sequence[Any], kind: type) -> bool:
    if kind is int:  # a token's number, which the tokenizers library takes
        return all(type(value) is int and 0 <= value < 1 << 31 for value in values)
    return all(isinstance(value, kind) for value in values)
