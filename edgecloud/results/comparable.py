"""Comparability of runs: the traits that a run must share with the run alone it is measured against.

A reference run shares data, prompt, clock and link with what is compared with it, and of the rest what
the reference itself uses: the edge alone the edge's model, precision, device, limits and costs, the cloud
alone those of the cloud. The rule is the section "Comparing" of ``reports/README.md``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from edgecloud.jsontypes import read
from edgecloud.results.result import (
    Cpu,
    Data,
    Environment,
    Experiment,
    HardwareProfile,
    Limits,
    ModelFacts,
    Result,
)
from edgecloud.results.weights import former_alike

__all__ = [
    "CROSSINGS",
    "TIMING",
    "Circumstances",
    "Side",
    "described",
    "mismatches",
    "of_journal",
]

Side = Literal["edge", "cloud"]
Json = Mapping[str, Any]

CROSSINGS: Final = ("link", "model", "precision", "device", "limits", "profile")
"""Traits that a grid may declare to differ: data, prompt, clock and decoding settings are always shared."""
TIMING: Final = ("clock", "machine", "link", "limits", "profile")
"""Traits that decide times and no text: where only these differ, qualities and counts still compare."""

_PROMPT = ("language", "prompt_type", "input_modality", "dataset_type")
_DECODING = (
    "max_new_tokens",
    "max_sentences",
    "temperature",
    "top_p",
    "repetition_penalty",
    "no_repeat_ngram",
)
"""Settings of every way of decoding: with others of them, even a run alone writes another text."""
_ALONE_COSTS = ("prefill_s", "prefill_per_token_s", "step_s")
"""Costs of a hardware profile that a run alone incurs: it never ingests or verifies a draft."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What a run's comparability hangs on: the fields of a :class:`~edgecloud.results.result.Result` that a
    journal has, too."""

    experiment_config: Experiment
    environment: Environment
    limits: Limits
    models: Mapping[str, ModelFacts | None]
    data: Data
    hardware_profile: HardwareProfile | None = None
    setup: Json | None = None


Compared = Result | Circumstances


def mismatches(run: Compared, reference: Compared, side: Side) -> dict[str, tuple[str, str]]:
    """The traits that keep ``run`` from being compared with ``reference``, a run of ``side`` alone; or, of
    two speculative runs, those that differ between them on ``side``.

    Returns the values of both, in words, by what differs; empty where the two compare. What one of them does
    not record, or does not have (a cloud alone has no edge model), is no difference.
    """
    found: dict[str, tuple[str, str]] = {}
    alone = reference.experiment_config.mode != "spec"
    other = _traits(reference, side, alone=alone)
    for name, own in _traits(run, side, alone=alone).items():
        its = other[name]
        if own is None or its is None or own.key == its.key:
            continue
        if name == "model" and former_alike(_model(run, side), _model(reference, side)):
            continue  # as far as a former identity tells; the report's notices say so
        found[name] = (own.words, its.words) if own.words != its.words else _apart(own, its)
    return found


def of_journal(header: Json) -> Circumstances:
    """The circumstances of a run, from the first line of its journal.

    Raises:
        KeyError: the journal does not say what it ran on.
        Mismatch: it says so in another way.
    """
    facts = header["facts"]
    return read(
        Circumstances,
        {
            **facts["setup"],
            "setup": facts["setup"],
            "experiment_config": {"mode": header["mode"], **facts["config"]},
            "environment": facts["environment"],
        },
    )


def described(found: Mapping[str, tuple[str, str]]) -> str:
    """Mismatches in words: ``different clocks (wall / modelled); different links (lan / wifi)``.

    >>> described({"clock": ("wall", "modelled")})
    'different clocks (wall / modelled)'
    """
    return "; ".join(
        f"different {_PLURALS[name]} ({' / '.join(values)})" for name, values in found.items()
    )


_PLURALS: Final = {
    "data": "data",
    "prompt": "prompts",
    "decoding": "decoding settings",
    "clock": "clocks",
    "machine": "machines",
    "link": "links",
    "model": "models",
    "precision": "precisions",
    "device": "devices",
    "limits": "limits",
    "profile": "hardware profiles",
}


@dataclass(frozen=True, slots=True)
class _Trait:
    """A trait that must be equal, and its name in a sentence; ``parts`` are what it is made of, by their names, for
    two that have the same name."""

    key: Any
    words: str
    parts: Json = field(default_factory=dict)


def _trait(key: Any, words: Any = None, **parts: Any) -> _Trait | None:
    """``None`` where a run does not have or does not record it."""
    return None if key is None else _Trait(key, _worded(key if words is None else words), parts)


def _apart(own: _Trait, its: _Trait) -> tuple[str, str]:
    """Two of one name in words: by the parts that differ, without which by their keys.

    >>> _apart(_Trait(1, "lan", {"delay_s": 0.1, "loss": 0}), _Trait(2, "lan", {"delay_s": None, "loss": 0}))
    ('lan: delay 0.1 s', 'lan: delay none')
    """
    names = [
        name for name in {**own.parts, **its.parts} if own.parts.get(name) != its.parts.get(name)
    ]
    if not names:
        return _worded(own.key), _worded(its.key)
    one, other = (
        f"{trait.words}: {', '.join(_part(name, trait.parts.get(name)) for name in names)}"
        for trait in (own, its)
    )
    return one, other


def _part(name: str, value: Any) -> str:
    """A part in words, seconds with their unit."""
    seconds = name.endswith("_s") and not name.endswith("_per_s")
    shown = "none" if value is None else f"{value} s" if seconds else str(value)
    return f"{(name.removesuffix('_s') if seconds else name).replace('_', ' ')} {shown}"


def _traits(run: Compared, side: Side, *, alone: bool) -> dict[str, _Trait | None]:
    config, data = run.experiment_config, run.data
    own = {
        "data": _trait(data.identity or None, data.manifest, content=data.identity[:12]),
        "prompt": _settings(config.settings, _PROMPT),
        "decoding": _settings(config.settings, _DECODING),
        "clock": _trait(config.clock),
        "machine": None if config.modelled else _trait(_machine(run, side)),
        "link": _link(run, side),
        "profile": _costs(run, side, alone=alone) if config.modelled else None,
    }
    if config.mode not in (side, "spec"):
        return own | dict.fromkeys(("model", "precision", "device", "limits"))
    model = _model(run, side)
    return own | {
        "model": _trait(
            model.sha256 or model.name, model.name, weights=(model.sha256 or "")[:12] or None
        ),
        "precision": _trait(_precision(config, model, side)),
        "device": _trait(model.device),
        "limits": _limits(run) if side == "edge" else None,
    }


def _model(run: Compared, side: Side) -> ModelFacts:
    return run.models.get(side) or ModelFacts()


def _settings(config: Json, names: Iterable[str]) -> _Trait | None:
    """Those of ``names`` that a run records."""
    recorded = {name: config[name] for name in names if config.get(name) is not None}
    return _trait(_flat(recorded), **recorded)


def _machine(run: Compared, side: Side) -> str | None:
    """The processor that a measured time is of; for a cloud on a GPU that GPU is a part of it."""
    model, environment = _model(run, side), run.environment
    if side == "cloud" and model.transport:
        return None  # a service elsewhere: its device is all that is known
    cpu = environment.cpu or Cpu()
    gpus = (environment.devices and environment.devices.gpus) or ()
    on_gpu = (model.device or "").startswith("cuda")
    cores = cpu.logical_cores and f"{cpu.logical_cores} cores"
    words = [cpu.model, cores, *(gpus if on_gpu else ())]
    return ", ".join(str(word) for word in words if word) or None


def _link(run: Compared, side: Side) -> _Trait:
    """The link to the cloud: by name, with its content where a run records it."""
    config, profile = run.experiment_config, run.hardware_profile
    if config.link is not None:
        recorded = (run.setup or {}).get("link")
        return _Trait((config.link, _flat(recorded)), _worded(config.link), _parts(recorded))
    if config.modelled:
        own = profile and profile.link
        return _Trait(("of the profile", _flat(own)), "the profile's own", _parts(own))
    transport = _model(run, "cloud").transport if side == "cloud" else None
    return _Trait(("real", transport), f"the real one{f', {transport}' if transport else ''}")


def _precision(config: Experiment, model: ModelFacts, side: Side) -> str:
    """As the model runs; in the settings' words where a run does not record that."""
    if model.dtype:
        return model.dtype
    edge, cloud = config.edge_quantization, config.cloud_quantization
    if (quantization := edge if side == "edge" else cloud) not in (None, "none"):
        return str(quantization)
    return str(config.edge_dtype if side == "edge" else config.cloud_dtype)


def _limits(run: Compared) -> _Trait:
    """The caps of the edge: as asked for, and in measured time what is in force of them."""
    config = run.experiment_config
    cores, memory_gb = config.max_cpu_cores, config.max_memory_gb
    asked = f"{cores or 'all'} cores, {f'{memory_gb:g}' if memory_gb else 'all'} GB"
    in_force = None if config.modelled else run.limits.summary
    parts = {"asked for": asked, "in force": in_force}
    return _Trait((asked, in_force), _worded(in_force or asked), parts)


def _costs(run: Compared, side: Side, *, alone: bool) -> _Trait:
    """The costs under its hardware profile, of a run ``alone`` those that it incurs, called by the
    profile's name."""
    name, profile = run.experiment_config.hardware_profile, run.hardware_profile
    costs = None if profile is None else profile.edge if side == "edge" else profile.cloud
    if costs is None:
        return _Trait(name, _worded(name))
    kept = {key: costs.get(key) or 0.0 for key in _ALONE_COSTS} if alone else costs
    return _Trait(_flat(kept), _worded(name), kept)


def _parts(value: Any) -> Json:
    """The parts of what a run records as an object, those of an object in it among them."""
    found: dict[str, Any] = {}
    for name, part in value.items() if isinstance(value, Mapping) else ():
        found |= _parts(part) if isinstance(part, Mapping) else {name: part}
    return found


def _flat(value: Any) -> str:
    if not isinstance(value, Mapping):
        return "" if value is None else str(value)
    return ", ".join(f"{key} {item}" for key, item in value.items())


def _worded(value: Any) -> str:
    """Short enough for a sentence."""
    text = str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
