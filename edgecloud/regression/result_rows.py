"""Our own result files as benchmarks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgecloud.errors import DataError
from edgecloud.quality.metric import values
from edgecloud.regression.fields import Fields, flatten, unique
from edgecloud.regression.model import Benchmark, Scores, Series
from edgecloud.results.result_file import SCHEMA
from edgecloud.settings.options import OPTIONS
from edgecloud.settings.parts import unused_settings

__all__ = [
    "COSTS",
    "TIMES",
    "default_tolerances",
    "experiment_name",
    "experiment_settings",
    "from_result",
    "machine",
    "scores_of",
]

TIMES = ("ttft", "tpot", "total_time")
COSTS = ("cloud_busy_time",)
"""Cost of a sample that is a time too, and regresses like one."""

_ELSEWHERE = ("edge_device", "cloud_device", "hardware_profile")
"""Settings whose effect is compared as hardware: the device in use, the constants of the profile."""
_KERNEL_PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "edgecloud", "python")


def from_result(content: Mapping[str, Any], path: Path) -> Benchmark:
    """The benchmark in a result file.

    Raises:
        DataError: an older schema, or a field that is missing or of the wrong type.
    """
    whole = Fields(content, str(path))
    if whole.text("schema") != SCHEMA:
        raise DataError(
            f"{path} has schema {content['schema']}, this version reads {SCHEMA}; "
            "run the experiment again with this version"
        )
    config = whole.mapping("experiment_config").content
    rows = whole.rows("detailed_results")
    unique((row.text("file_id") for row in rows), str(path))
    done = [row for row in rows if row.text("status") == "ok"]
    floors = whole.optional("quality_floors")
    modelled = config.get("clock") == "modelled"
    models = whole.mapping("models").content
    scores = scores_of(whole.mapping("metrics"), done)
    return Benchmark(
        name=experiment_name(config, str(path)),
        kind="result",
        source=path,
        modelled=modelled,
        times=_times(done),
        scores=scores,
        samples=tuple(row.text("file_id") for row in rows),
        failed=tuple(row.text("file_id") for row in rows if row.text("status") != "ok"),
        degraded=tuple(row.text("file_id") for row in rows if row.content.get("degraded")),
        problem="; ".join(map(str, floors.content.get("missed") or [])) or None,
        identity={
            "data": flatten(_data(whole)),
            "models": _models(models),
            "settings": experiment_settings(config),
            "scorers": _scorers(whole.optional("quality_info"), scores),
            "hardware": _profile(whole) if modelled else _hardware(whole, models),
        },
        environment=machine(whole.optional("environment"), models),
        texts={row.text("file_id"): _digest(row) for row in done},
        provenance={
            key: whole.optional("run").content.get(key)
            for key in ("started_at", "commit", "dirty", "load_average")
        },
    )


def experiment_name(config: Mapping[str, Any], where: str) -> str:
    """The key of comparison: ``spec[chinese-default-rank]``, as in the suites' ids."""
    fields = Fields(config, f"{where}, experiment_config")
    mode = fields.text("mode")
    name = f"{fields.text('language')}-{fields.text('prompt_type')}"
    return f"{mode}[{name}{'-' + fields.text('acceptance') if mode == 'spec' else ''}]"


def experiment_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that must be equal. Folders count by what is in them, which is compared elsewhere;
    settings that the experiment does not use do not count."""
    unused = {"dataset_path", "edge_model", "cloud_model", *_ELSEWHERE}
    unused |= {option.name for option in OPTIONS if option.group == "run"}
    unused |= unused_settings(config["mode"], config)
    found = {key: value for key, value in config.items() if key not in unused}
    for key in ("bertscore_model_zh", "bertscore_model_en"):
        if isinstance(found.get(key), str):
            found[key] = Path(found[key]).name
    return found


def machine(environment: Fields, models: Mapping[str, Any]) -> dict[str, Any]:
    """Causes of other tokens though code, data and models are the same: processors and libraries."""
    versions = environment.optional("versions").content
    return {
        **flatten(environment.optional("cpu").content, "cpu"),
        "platform.machine": environment.optional("platform").content.get("machine"),
        **_devices(models),
        **{f"versions.{name}": versions.get(name) for name in _KERNEL_PACKAGES},
    }


def _times(done: list[Fields]) -> dict[str, Series]:
    found: dict[str, Series] = {}
    for block, names in (("latency_metrics", TIMES), ("cost_metrics", COSTS)):
        for name in names:
            series = _series([(row, row.mapping(block).maybe_number(name)) for row in done])
            if series is not None:
                if min(series.values) < 0:
                    raise DataError(f"{done[0].where}: {name} is negative; the file is broken")
                found[name] = series
    return found


def default_tolerances() -> dict[str, float]:
    """By name every score that is compared, with the least mean loss that counts unless a policy says
    otherwise, as its metric's registration has it."""
    return {
        name: value.tolerance for name, value in values().items() if value.tolerance is not None
    }


def scores_of(metrics: Fields, done: list[Fields]) -> dict[str, Scores]:
    """The scores that are compared, of the corpus and of each completed sample."""
    known = values()
    found: dict[str, Scores] = {}
    for name in default_tolerances():
        corpus = metrics.maybe_number(known[name].key)
        series = _series([(row, row.maybe_number(name)) for row in done])
        if corpus is not None or series is not None:
            found[name] = Scores(corpus, series)
    return found


def _series(pairs: list[tuple[Fields, float | None]]) -> Series | None:
    known = [(row.text("file_id"), value) for row, value in pairs if value is not None]
    if not known:
        return None
    return Series(tuple(value for _, value in known), tuple(name for name, _ in known))


def _data(whole: Fields) -> dict[str, Any]:
    data = whole.mapping("data").content
    if data.get("sha256") is not None:
        return {"sha256": data["sha256"], "samples": data.get("samples")}
    return {**data, "dataset_path": whole.mapping("experiment_config").content.get("dataset_path")}


def _models(models: Mapping[str, Any]) -> dict[str, Any]:
    """Name and device are left out: a hash says what a name may not, and a device is hardware."""
    flat = flatten(models)
    return {
        key: value for key, value in flat.items() if not key.endswith((".name", ".device", ".path"))
    }


def _devices(models: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in flatten(models).items() if key.endswith(".device")}


def _scorers(info: Fields, scores: Mapping[str, Scores]) -> dict[str, Any]:
    """Causes of other scores of the same captions: tokeniser, library, model."""
    return {
        f"{name}.{key}": value
        for name, entry in info.content.items()
        if isinstance(entry, dict) and name.rpartition(".")[2] in scores
        for key, value in entry.items()
        if key in ("tokeniser", "library", "model", "layer")
    }


def _profile(whole: Fields) -> dict[str, Any]:
    flat = flatten(whole.optional("hardware_profile").content)
    told = ("source", "provenance.", "caps.")  # words, and what is in force is compared elsewhere
    return {key: value for key, value in flat.items() if not key.startswith(told)}


def _hardware(whole: Fields, models: Mapping[str, Any]) -> dict[str, Any]:
    """Processor, memory, devices and the caps in force; which cores they are does not matter."""
    environment = whole.optional("environment")
    memory = environment.maybe_number("memory_total_gb")
    in_force = flatten(whole.optional("limits").optional("in_force").content, "limits")
    run = whole.optional("run").content
    counted = {"affinity": run.get("affinity"), **in_force}
    return {
        **flatten(environment.optional("cpu").content, "cpu"),
        "platform.machine": environment.optional("platform").content.get("machine"),
        "memory_gb": None if memory is None else round(memory),
        **flatten(environment.optional("devices").content, "devices"),
        **_devices(models),
        "cpu_governor": run.get("cpu_governor"),
        **{
            key: f"{len(value)} cores" if isinstance(value, list) else value
            for key, value in counted.items()
        },
    }


def _digest(row: Fields) -> str:
    """Of a sample's tokens and their origins: an accepted token took longer than an unverified one."""
    tokens, origins = row.content.get("tokens"), row.content.get("origins")
    if not isinstance(tokens, list) or not isinstance(origins, list):
        raise DataError(f"{row.where}: tokens or origins are missing; the file is broken")
    return hashlib.sha256(json.dumps([tokens, origins]).encode()).hexdigest()[:12]
