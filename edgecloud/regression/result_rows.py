"""Our own result files as benchmarks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgecloud.quality.metric import values
from edgecloud.regression.fields import flatten
from edgecloud.regression.model import COSTS, TIMES, Benchmark, Scores, Series
from edgecloud.regression.tolerances import default_tolerances
from edgecloud.results.result import Environment, Experiment, Result, SampleResult, of_content
from edgecloud.settings.naming import row
from edgecloud.settings.options import OPTIONS
from edgecloud.settings.parts import unused_settings

__all__ = [
    "by_content",
    "experiment_name",
    "experiment_settings",
    "from_result",
    "machine",
    "scores_of",
]

_ELSEWHERE = ("edge_device", "cloud_device", "hardware_profile")
"""Settings whose effect is compared as hardware: the device in use, the constants of the profile."""
_KERNEL_PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "edgecloud", "python")


def from_result(content: Mapping[str, Any], path: Path) -> Benchmark:
    """The benchmark in a result file.

    Raises:
        DataError: an older schema, or a field that is missing or of the wrong type.
    """
    found = of_content(content, path)
    own, done = found.experiment_config, found.completed
    models = flatten({side: model and model.facts for side, model in found.models.items()})
    scores = scores_of(found.metrics.value, found.per_sample)
    return Benchmark(
        name=experiment_name(own),
        kind="result",
        source=path,
        modelled=own.modelled,
        times=_times(found),
        scores=scores,
        samples=tuple(sample.file_id for sample in found.samples),
        failed=tuple(sample.file_id for sample in found.samples if not sample.ok),
        degraded=tuple(s.file_id for s in found.samples if s.degraded is not None),
        problem="; ".join(found.quality_floors.missed) or None,
        identity={
            "data": flatten(_data(found)),
            "models": by_content(models),
            "settings": experiment_settings(own.settings),
            "scorers": _scorers(found.quality_info, scores),
            "hardware": _profile(found) if own.modelled else _hardware(found, models),
        },
        environment=machine(found.environment, models),
        texts={sample.file_id: _digest(sample) for sample in done},
        provenance={
            key: found.run.facts.get(key)
            for key in ("started_at", "commit", "dirty", "load_average")
        },
    )


def experiment_name(own: Experiment) -> str:
    """The key of comparison: ``spec[chinese-default-rank]``, as in the suites' ids."""
    its = row(
        own.mode, language=own.language, prompt_type=own.prompt_type, acceptance=own.acceptance
    )
    return f"{own.mode}[{its}]"


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


def machine(environment: Environment, models: Mapping[str, Any]) -> dict[str, Any]:
    """Causes of other tokens though code, data and models are the same: processors and libraries.
    ``models`` are flat."""
    versions = environment.versions or {}
    return {
        **_processor(environment),
        **_devices(models),
        **{f"versions.{name}": versions.get(name) for name in _KERNEL_PACKAGES},
    }


def _processor(environment: Environment) -> dict[str, Any]:
    return {
        **flatten(environment.cpu.facts if environment.cpu else {}, "cpu"),
        "platform.machine": (environment.platform or {}).get("machine"),
    }


def _times(found: Result) -> dict[str, Series]:
    series = {name: _series(found.per_sample(name)) for name in (*TIMES, *COSTS)}
    return {name: its for name, its in series.items() if its is not None}


def scores_of(
    corpus: Callable[[str], float | None], per_sample: Callable[[str], Mapping[str, float]]
) -> dict[str, Scores]:
    """The scores that are compared: ``corpus`` gives one by its name in ``metrics``, ``per_sample`` those of
    the completed samples."""
    known = values()
    found: dict[str, Scores] = {}
    for name in default_tolerances():
        value, series = corpus(known[name].key), _series(per_sample(name))
        if value is not None or series is not None:
            found[name] = Scores(value, series)
    return found


def _series(found: Mapping[str, float]) -> Series | None:
    return Series(tuple(found.values()), tuple(found)) if found else None


def _data(found: Result) -> dict[str, Any]:
    data = found.data
    if data.sha256 is not None:
        return {"sha256": data.sha256, "samples": data.samples}
    return {**data.facts, "dataset_path": found.experiment_config.dataset_path}


def by_content(models: Mapping[str, Any]) -> dict[str, Any]:
    """Flat facts about models. Name and device are left out: a hash says what a name may not, and a device
    is hardware."""
    return {
        key: value
        for key, value in models.items()
        if not key.endswith((".name", ".device", ".path"))
    }


def _devices(models: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in models.items() if key.endswith(".device")}


def _scorers(info: Mapping[str, Any], scores: Mapping[str, Scores]) -> dict[str, Any]:
    """Causes of other scores of the same captions: tokeniser, library, model."""
    return {
        f"{name}.{key}": value
        for name, entry in info.items()
        if isinstance(entry, dict) and name.rpartition(".")[2] in scores
        for key, value in entry.items()
        if key in ("tokeniser", "library", "model", "layer")
    }


def _profile(found: Result) -> dict[str, Any]:
    flat = flatten(found.hardware_profile.facts if found.hardware_profile else {})
    told = ("source", "provenance.", "caps.")  # words, and what is in force is compared elsewhere
    return {key: value for key, value in flat.items() if not key.startswith(told)}


def _hardware(found: Result, models: Mapping[str, Any]) -> dict[str, Any]:
    """Processor, memory, devices and the caps in force; which cores they are does not matter."""
    environment, run = found.environment, found.run
    memory = environment.memory_total_gb
    in_force = flatten(found.limits.in_force or {}, "limits")
    counted = {"affinity": run.facts.get("affinity"), **in_force}
    return {
        **_processor(environment),
        "memory_gb": None if memory is None else round(memory),
        **flatten(environment.devices.facts if environment.devices else {}, "devices"),
        **_devices(models),
        "cpu_governor": run.cpu_governor,
        **{
            key: f"{len(value)} cores" if isinstance(value, list) else value
            for key, value in counted.items()
        },
    }


def _digest(sample: SampleResult) -> str:
    """Of a sample's tokens and their origins: an accepted token took longer than an unverified one."""
    content = json.dumps([sample.tokens, sample.origins])
    return hashlib.sha256(content.encode()).hexdigest()[:12]
