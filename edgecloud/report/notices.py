"""Warnings for a reader: everything about the runs that weakens a conclusion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

from edgecloud.report.comparison import Group
from edgecloud.report.texts import Texts
from edgecloud.results.audio_notes import KINDS, count_notes
from edgecloud.results.certificate import FEWEST, Certificate
from edgecloud.results.result import Result
from edgecloud.results.weights import former_alike

__all__ = ["ESSENTIAL", "environment", "group_name", "notices"]

_FEW = 30
_DRIFT = 1.1

ESSENTIAL: dict[str, str] = {
    "run.started_at": "started",
    "run.host": "host",
    "environment.cpu.model": "processor",
    "environment.cpu.logical_cores": "cores",
    "environment.memory_total_gb": "memory (GB)",
    "environment.devices.gpus": "GPU",
    "run.cpu_governor": "CPU governor",
    "run.load_average": "load average",
    "limits": "limits in force",
    "setting.clock": "clock",
    "hardware_profile.name": "hardware profile",
    "data.manifest": "data",
    "data.sha256": "data, SHA-256",
    "models.edge.name": "edge model",
    "models.edge.parameters": "edge parameters",
    "models.edge.device": "edge device",
    "models.edge.sha256": "edge weights, SHA-256",
    "models.cloud.name": "cloud model",
    "models.cloud.parameters": "cloud parameters",
    "models.cloud.device": "cloud device",
    "models.cloud.sha256": "cloud weights, SHA-256",
    "run.commit": "commit",
    "run.dirty": "uncommitted changes",
    "environment.versions.edgecloud": "edgecloud",
    "environment.versions.python": "Python",
    "environment.versions.torch": "torch",
    "environment.versions.transformers": "transformers",
    "quality_floors": "quality floors",
}
"""The facts that a reader needs first, in this order, and what they are called."""
_HASH_DIGITS = 12
_HIDDEN = ("run_id", "settings", "reasons", "cold")


def group_name(group: Group, texts: Texts) -> str:
    """Language, prompt and data set."""
    parts = (
        texts(f"language_{group.language}"),
        texts(f"prompt_{group.prompt_type}"),
        texts("data_embedded") if group.data == "embedded" else group.data,
    )
    return (", " if texts.language == "en" else "，").join(parts)


def notices(group: Group, texts: Texts) -> list[str]:
    """Warnings about a group of series, as sentences; what is true of several series is said once."""
    name = group_name(group, texts)
    about: dict[tuple[str, tuple[tuple[str, Any], ...]], list[str]] = {}
    for arm, result in group.arms.items():
        for key, values in (*_samples(group, arm, texts), *_within(result, texts)):
            about.setdefault((key, tuple(values.items())), []).append(arm)
    return [
        *_between(group, name, texts),
        *(
            texts(key, group=name, arm=texts.arms(arms, of=len(group.arms)), **dict(values))
            for (key, values), arms in about.items()
        ),
    ]


def environment(group: Group) -> list[tuple[str, list[str]]]:
    """Facts about the runs, by name, one for each series: versions, machine, models, data, limits."""
    columns = [_facts(result) for result in group.arms.values()]
    names = list(dict.fromkeys(name for column in columns for name in column))
    return [(name, [column.get(name, "–") for column in columns]) for name in names]


def _between(group: Group, name: str, texts: Texts) -> Iterator[str]:
    results = list(group.arms.values())
    commits = sorted({(r.run.commit or texts("unknown"))[:10] for r in results})
    if len(commits) > 1:
        yield texts("warn_commits", group=name, commits=", ".join(commits))
    clocks = sorted(map(texts.clock, group.clocks()))
    if len(clocks) > 1:
        yield texts("warn_clocks", group=name, clocks=", ".join(clocks))
    measured = [result for result in results if not result.experiment_config.modelled]
    hosts = sorted({r.run.host or texts("unknown") for r in measured})
    if len(hosts) > 1:
        yield texts("warn_hosts", group=name, hosts=", ".join(hosts))
    if len(measured) > 1 and not all(_interleaved(result) for result in measured):
        yield texts("warn_turns", group=name)
    for side in ("edge", "cloud"):
        models = [found for result in results if (found := result.models.get(side))]
        pairs = list(combinations(models, 2))
        if any(one.sha256 != other.sha256 and not former_alike(one, other) for one, other in pairs):
            yield texts("warn_models", group=name, side=texts.label(side))
        elif any(former_alike(one, other) for one, other in pairs):
            yield texts("warn_former", group=name, side=texts.label(side))


def _samples(group: Group, arm: str, texts: Texts) -> Iterator[tuple[str, dict[str, Any]]]:
    """Few samples of a series, and samples that it does not share with what it is compared with."""
    own = _completed(group.arms[arm])
    if len(own) < _FEW:
        yield "warn_few", {"n": len(own)}
    for side in group.sides:
        name = group.reference(arm, side).name if arm in group.compared else None
        if name is not None and (other := _completed(group.arms[name])) != own:
            yield "warn_ids", {"other": texts.arm(group.named(name)), "n": len(own & other)}


def _completed(result: Result) -> set[str]:
    return {sample.file_id for sample in result.completed}


def _interleaved(result: Result) -> bool:
    return result.run.settings is not None and result.run.settings.interleave


def _within(result: Result, texts: Texts) -> Iterator[tuple[str, dict[str, Any]]]:
    metrics, samples = result.metrics, result.samples
    if metrics.num_failed:
        yield "warn_failed", {"n": metrics.num_failed, "all": metrics.num_samples}
    degraded = sum(sample.degraded is not None for sample in samples)
    if degraded:
        yield "warn_degraded", {"n": degraded}
    if result.certificate is not None:
        yield _certified(result.certificate, texts)
    if result.quality_floors.status == "failed":
        yield "warn_floors", {}
    if note := metrics.notes.get("avg_cider"):
        yield "warn_unstable", {"note": texts.note(note).rstrip(".")}
    defects = {
        texts.label(name.replace("_", " ")): n
        for name, n in (metrics.defects or {}).items()
        if name != "any" and n
    }
    if defects:
        listed = ", ".join(f"{name} {n}" for name, n in defects.items())
        yield "warn_defects", {"list": listed}
    if noted := count_notes(sample.audio_notes for sample in samples):
        kinds = ", ".join(f"{texts.label(KINDS.get(kind, kind))} {n}" for kind, n in noted.items())
        yield (
            "warn_recordings",
            {
                "n": sum(bool(sample.audio_notes) for sample in samples),
                "all": len(samples),
                "list": kinds,
            },
        )
    if over := metrics.latency_metrics.memory_over_cap_total:
        yield "warn_memory", {"n": over}
    if late := metrics.latency_metrics.delivered_late_total:
        yield "warn_late", {"n": late}
    if result.run.dirty:
        yield "warn_dirty", {}
    if not result.experiment_config.modelled:
        yield from _timing(result)


def _certified(found: Certificate, texts: Texts) -> tuple[str, dict[str, Any]]:
    """What the certificate of a run's calibration file says of it, if anything."""
    if found.differing:
        listed = texts("warn_between").join(
            texts(
                "warn_differing",
                name=texts.label(each.name),
                own=each.own,
                certified=each.certified,
            )
            for each in found.differing
        )
        return "warn_uncertified", {"list": listed}
    if not found.applies:
        return "warn_none_covered" if found.uncovered else "warn_nothing_certified", {}
    own = {
        "loss": texts(f"loss_{found.loss}"),
        "gate": texts.label(found.gate or ""),
        "threshold": f"{found.threshold:g}",
        "risk": f"{found.risk:.4g}",
        "confidence": f"{found.confidence:.4g}",
        "n": found.samples,
        "fewest": FEWEST,
        "p": "" if found.difference_p is None else f"{found.difference_p:.2g}",
        "uncovered": _uncovered(found, texts),
    }
    if found.data_differ is None:
        return "warn_certified_few", own
    return "warn_certified_other" if found.data_differ else "warn_certified", own


def _uncovered(found: Certificate, texts: Texts) -> str:
    """How many captions the statement says nothing of, and why; empty where there are none."""
    if not found.uncovered:
        return ""
    kinds = (("warn_uncovered_degraded", found.degraded), ("warn_uncovered_failed", found.failed))
    listed = texts("warn_between").join(texts(key, n=n) for key, n in kinds if n)
    return texts("warn_uncovered", n=found.uncovered, all=found.captions, list=listed)


def _timing(result: Result) -> Iterator[tuple[str, dict[str, Any]]]:
    run, cpu = result.run, result.environment.cpu
    ratio = None if run.drift is None else run.drift.second_half_over_first
    if ratio is not None and not 1 / _DRIFT <= ratio <= _DRIFT:
        yield "warn_drift", {"value": f"{ratio:.2f}"}
    load = run.load_average[0] if run.load_average else None
    cores = cpu and cpu.logical_cores
    if load is not None and cores and load > cores:
        yield "warn_load", {"load": f"{load:.1f}", "cores": cores}


def _facts(result: Result) -> dict[str, str]:
    """Flat facts in the order that a reader needs them."""
    run = {name: value for name, value in result.run.facts.items() if name not in _HIDDEN}
    own = result.experiment_config.settings
    settings = {name: value for name, value in own.items() if value is not None}
    environment = {k: v for k, v in result.environment.facts.items() if k != "reasons" and v}
    profile = result.hardware_profile
    parts: tuple[tuple[str, Any], ...] = (
        ("run", run),
        ("data", result.data.facts),
        ("models", {side: model.facts for side, model in result.models.items() if model}),
        ("limits", result.limits.summary),
        ("hardware_profile", profile and profile.facts),
        ("setting", settings),
        ("environment", environment),
        ("quality_floors", result.quality_floors.status),
    )
    found: dict[str, str] = {}
    for prefix, value in parts:
        if value is not None:
            _flatten(prefix, value, found)
    return found


def _flatten(prefix: str, value: Any, found: dict[str, str]) -> None:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _flatten(f"{prefix}.{name}", inner, found)
    elif isinstance(value, list):
        found[prefix] = ", ".join("–" if item is None else _plain(item) for item in value)
    elif value is not None:
        short = prefix.endswith(("sha256", ".commit")) and isinstance(value, str)
        found[prefix] = value[:_HASH_DIGITS] + "…" if short else _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
