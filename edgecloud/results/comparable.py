"""Comparability of runs: the traits that a run must share with the run alone it is measured against.

A reference run shares data, prompt, clock and link with what is compared with it, and of the rest what
the reference itself uses: the edge alone the edge's model, precision, device, limits and costs, the cloud
alone those of the cloud. The rule is the section "Comparing" of ``reports/README.md``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from edgecloud.results.weights import former_alike

__all__ = ["CROSSINGS", "TIMING", "Side", "described", "mismatches", "of_journal"]

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


def mismatches(run: Json, reference: Json, side: Side) -> dict[str, tuple[str, str]]:
    """The traits that keep ``run`` from being compared with ``reference``, a run of ``side`` alone; or, of
    two speculative runs, those that differ between them on ``side``.

    Both are results, or have a result's keys ``experiment_config`` (``mode`` inside), ``data``,
    ``models``, ``limits``, ``hardware_profile``, ``environment`` and ``setup``. Returns the values of both, in
    words, by what differs; empty where the two compare. What one of them does not record, or does not
    have (a cloud alone has no edge model), is no difference.
    """
    found: dict[str, tuple[str, str]] = {}
    alone = reference["experiment_config"]["mode"] != "spec"
    other = _traits(reference, side, alone=alone)
    for name, own in _traits(run, side, alone=alone).items():
        its = other[name]
        if own is None or its is None or own.key == its.key:
            continue
        if name == "model" and former_alike(run["models"][side], reference["models"][side]):
            continue  # as far as a former identity tells; the report's notices say so
        one = own.words != its.words
        found[name] = (own.words, its.words) if one else (_worded(own.key), _worded(its.key))
    return found


def of_journal(header: Json) -> dict[str, Any]:
    """What :func:`mismatches` reads of a run, from the first line of its journal.

    Raises:
        KeyError: the journal does not say what it ran on.
    """
    facts = header["facts"]
    return {
        **facts["setup"],
        "setup": facts["setup"],
        "experiment_config": {"mode": header["mode"], **facts["config"]},
        "environment": facts["environment"],
    }


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
    """A trait that must be equal, and its name in a sentence."""

    key: Any
    words: str


def _trait(key: Any, words: Any = None) -> _Trait | None:
    """``None`` where a run does not have or does not record it."""
    return None if key is None else _Trait(key, _worded(key if words is None else words))


def _traits(run: Json, side: Side, *, alone: bool) -> dict[str, _Trait | None]:
    config, data = run["experiment_config"], run["data"]
    modelled = config["clock"] == "modelled"
    own = {
        "data": _trait(data.get("sha256") or data.get("manifest"), data.get("manifest")),
        "prompt": _trait(_listed(config, _PROMPT)),
        "decoding": _trait(_listed(config, _DECODING)),
        "clock": _trait(config["clock"]),
        "machine": None if modelled else _trait(_machine(run, side)),
        "link": _link(run, side),
        "profile": _costs(run, side, alone=alone) if modelled else None,
    }
    if config["mode"] not in (side, "spec"):
        return own | dict.fromkeys(("model", "precision", "device", "limits"))
    model = run["models"].get(side) or {}
    return own | {
        "model": _trait(model.get("sha256") or model.get("name"), model.get("name")),
        "precision": _trait(_precision(config, model, side)),
        "device": _trait(model.get("device")),
        "limits": _limits(run) if side == "edge" else None,
    }


def _listed(config: Json, names: Iterable[str]) -> str:
    return ", ".join(f"{name} {config[name]}" for name in names if config.get(name) is not None)


def _machine(run: Json, side: Side) -> str | None:
    """The processor that a measured time is of; for a cloud on a GPU that GPU is a part of it."""
    model = run["models"].get(side) or {}
    if side == "cloud" and model.get("transport"):
        return None  # a service elsewhere: its device is all that is known
    environment = run.get("environment") or {}
    cpu = environment.get("cpu") or {}
    gpus = (environment.get("devices") or {}).get("gpus") or ()
    on_gpu = str(model.get("device") or "").startswith("cuda")
    cores = cpu.get("logical_cores")
    words = [cpu.get("model"), cores and f"{cores} cores", *(gpus if on_gpu else ())]
    return ", ".join(str(word) for word in words if word) or None


def _link(run: Json, side: Side) -> _Trait:
    """The link to the cloud: by name, with its content where a run records it."""
    config = run["experiment_config"]
    if config.get("link") is not None:
        recorded = (run.get("setup") or {}).get("link")
        return _Trait((config["link"], _flat(recorded)), _worded(config["link"]))
    if config["clock"] == "modelled":
        costs = (run.get("hardware_profile") or {}).get("link")
        return _Trait(("of the profile", _flat(costs)), "the profile's own")
    transport = (run["models"].get("cloud") or {}).get("transport") if side == "cloud" else None
    return _Trait(("real", transport), f"the real one{f', {transport}' if transport else ''}")


def _precision(config: Json, model: Json, side: Side) -> str:
    """As the model runs; in the settings' words where a run does not record that."""
    if model.get("dtype"):
        return str(model["dtype"])
    quantized = config.get("edge_quantization") if side == "edge" else None
    return str(config.get(f"{side}_dtype") if quantized in (None, "none") else quantized)


def _limits(run: Json) -> _Trait:
    """The caps of the edge: as asked for, and in measured time what is in force of them."""
    config = run["experiment_config"]
    cores, memory_gb = config.get("max_cpu_cores"), config.get("max_memory_gb")
    asked = f"{cores or 'all'} cores, {f'{memory_gb:g}' if memory_gb else 'all'} GB"
    in_force = run["limits"].get("summary") if config["clock"] == "wall" else None
    return _Trait((asked, in_force), _worded(in_force or asked))


def _costs(run: Json, side: Side, *, alone: bool) -> _Trait:
    """The costs under its hardware profile, of a run ``alone`` those that it incurs, called by the
    profile's name."""
    name = run["experiment_config"].get("hardware_profile")
    costs = (run.get("hardware_profile") or {}).get(side)
    if not isinstance(costs, Mapping):
        return _Trait(name, _worded(name))
    kept = {key: costs.get(key) or 0.0 for key in _ALONE_COSTS} if alone else costs
    return _Trait(_flat(kept), _worded(name))


def _flat(value: Any) -> str:
    if not isinstance(value, Mapping):
        return "" if value is None else str(value)
    return ", ".join(f"{key} {item}" for key, item in value.items())


def _worded(value: Any) -> str:
    """Short enough for a sentence."""
    text = str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
