"""One validated configuration: flag > preset > file > the hardware profile's caps > ``default.yaml``.

A :class:`Config` is printed into every result. Its :meth:`Config.identity` is what makes two runs
the same run: everything but the settings of group ``run`` and the number of samples.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal, cast

import yaml

from edgecloud.contracts import Language, PromptType
from edgecloud.decoding.speculation_controller import CloudBudget
from edgecloud.errors import ConfigError
from edgecloud.hardware.profiles import profile
from edgecloud.registry import Registry, broken_plugins, load_plugins
from edgecloud.settings.options import OPTIONS, Option
from edgecloud.settings.presets import PRESETS
from edgecloud.textfiles import read_text

__all__ = ["Config", "check_output_name", "load_file", "resolve"]

_LONGEST_NAME_BYTES = 180
"""Files' names have at most 255, and endings follow."""


_MAX_CHARACTERS = 100_000
_MAX_YAML_DEPTH = 20
_YAML_FAILURES = (
    yaml.YAMLError,
    # What the types of YAML (dates, numbers, tags) raise for a text that is none of them.
    AttributeError,
    LookupError,
    OverflowError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Every setting of a run; what each means is in :data:`edgecloud.settings.options.OPTIONS`."""

    dataset_type: str
    dataset_path: str | None
    caption_type: Literal["original", "audio_only"]
    language: Language
    prompt_type: PromptType
    input_modality: Literal["audio_only", "audio_text"]
    max_samples: int | None
    max_audio_s: float
    gate_type: str
    entropy_threshold: float
    margin_threshold: float
    logprob_threshold: float
    calibrated_threshold: float
    calibration: str | None
    gate_scope: Literal["block", "token"]
    k: int
    adaptive_k: bool
    verify_scope: Literal["block", "since-last-call"]
    final_check: bool
    acceptance: str
    rank_threshold: int
    probability_ratio: float
    regret_budget: float | None
    temperature: float
    top_p: float
    continuation: int
    cloud_seed_tokens: int
    parallel_prefill: bool
    draft_ahead: bool
    hand_off: bool
    expected_tokens: int
    cloud_budget: str | None
    max_new_tokens: int
    max_sentences: int | None
    seed: int
    edge_model: str | None
    cloud_model: str | None
    edge_device: str
    cloud_device: str
    edge_dtype: str
    edge_quantization: Literal["none", "bf16", "int8", "int4"]
    cloud_dtype: str
    max_cpu_cores: int
    max_memory_gb: float
    clock: Literal["wall", "modelled"]
    hardware_profile: str
    link: str | None
    bertscore_model_zh: str | None
    bertscore_model_en: str | None
    bertscore_layers: int | None
    cloud_url: str
    verify_weights: bool
    upload_audio: bool
    output_name: str | None
    output_dir: str
    warmup: int
    deadline: float
    start_deadline: float
    probe_period: float
    max_failures: int
    max_degraded: int
    keep_degraded: bool
    interleave: bool
    shard: str | None
    workers: int
    resume: bool
    given: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    """The settings that a flag, a preset or a file gave: no setting itself, and part of no result."""

    @property
    def shard_slice(self) -> slice:
        """The samples of the run that this shard takes: every ``n``-th, from the ``i``-th on."""
        if self.shard is None:
            return slice(None)
        part, count = _shard(self.shard)
        return slice(part - 1, None, count)

    def to_json(self) -> dict[str, Any]:
        """All settings as they stand in a result, flat."""
        found = asdict(self)
        del found["given"]
        return found

    def identity(self) -> dict[str, Any]:
        """The settings that decide a sample's result, for journals and comparisons."""
        return {
            option.name: getattr(self, option.name)
            for option in OPTIONS
            if option.group != "run" and option.name != "max_samples"
        }


def check_output_name(name: str | None) -> None:
    """An output name is the beginning of files' names, in the folders that ``--output-dir`` names.

    Raises:
        ConfigError: it is more than that: a path, several lines, or too long for a file's name.
    """
    if name is None:
        return
    why = None
    if "/" in name or "\\" in name or Path(name).is_absolute():
        why = "holds a separator of folders; the folder is --output-dir's"
    elif not name.isprintable():
        why = "holds a line break or another character that cannot be shown"
    elif name.startswith("."):
        why = "begins with a dot, as hidden files do"
    elif len(name.encode()) > _LONGEST_NAME_BYTES:
        why = f"has more than {_LONGEST_NAME_BYTES} bytes"
    if why is not None:
        raise ConfigError(
            f"--output-name {name[:80]!r} {why}; give a plain name, such as nightly-1"
        )


def _default_layer() -> dict[str, Any]:
    text = resources.files("edgecloud").joinpath("default.yaml").read_text(encoding="utf-8")
    return cast("dict[str, Any]", yaml.safe_load(text))


def load_file(path: str | Path) -> dict[str, Any]:
    """The settings in a YAML file.

    Raises:
        ConfigError: no such file, not YAML, or not a mapping.
    """
    text = read_text(
        Path(path), what="configuration file", error=ConfigError, advice="check --config"
    )
    try:
        _check_yaml(text)
        content = yaml.safe_load(text)
    except _YAML_FAILURES as error:
        raise ConfigError(
            f"configuration file {path} is not valid YAML: {' '.join(str(error).split())}"
        ) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"configuration file {path} must hold `setting: value` lines")
    return {str(key): value for key, value in content.items()}


def _check_yaml(text: str) -> None:
    """Check the text's events before anything is built of them.

    PyYAML calls itself at every level, and an alias is as large as what it stands for: nine lines of
    aliases to aliases are a billion items to whoever shows the value.

    Raises:
        ValueError: it is too large, too deep, or an alias stands for a list or a mapping.
        yaml.YAMLError: it is not YAML.
    """
    if len(text) > _MAX_CHARACTERS:
        raise ValueError(f"{len(text)} characters; settings take at most {_MAX_CHARACTERS}")
    depth, collections = 0, set()
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            collections.add(event.anchor)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.AliasEvent) and event.anchor in collections:
            raise ValueError(f"the alias *{event.anchor} of a list or mapping; write it out")
        if depth > _MAX_YAML_DEPTH:
            raise ValueError(f"nested more than {_MAX_YAML_DEPTH} deep")


def resolve(
    flags: Mapping[str, Any] | None = None,
    *,
    preset: str | None = None,
    file: str | Path | None = None,
) -> Config:
    """Put the layers together and check the result.

    ``flags`` holds what was given on the command line; ``None`` values mean "not given".

    Raises:
        ConfigError: lists every unknown key and every value of a wrong type or out of range.
    """
    if preset is not None and preset not in PRESETS:
        raise ConfigError(f"unknown preset {preset!r}; choose one of {', '.join(PRESETS)}")
    load_plugins()
    values = _default_layer()
    problems: list[str] = []
    layers: list[tuple[str, Mapping[str, Any]]] = [
        (str(file), load_file(file) if file is not None else {}),
        (f"preset {preset}", PRESETS[preset] if preset is not None else {}),
        ("flag", {key: value for key, value in (flags or {}).items() if value is not None}),
    ]
    known = {option.name: option for option in OPTIONS}
    given: set[str] = set()
    for source, layer in layers:
        for key, value in layer.items():
            name = key.replace("-", "_")
            if name not in known:
                problems.append(f"{source}: unknown setting {key!r}")
                continue
            try:
                values[name] = _convert(known[name], value)
                given.add(name)
            except ValueError as error:
                problems.append(f"{source}: {name}: {error}")
    for name, checked in (("shard", _shard), ("cloud_budget", CloudBudget.parse)):
        try:
            if values[name] is not None:
                checked(values[name])
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if values["temperature"] > 0 and values["acceptance"] != "rejection":
        problems.append(
            f"acceptance: {values['acceptance']} is for temperature 0; with --temperature "
            f"{values['temperature']:g} give --acceptance rejection"
        )
    if values["dataset_type"] == "text" and values["dataset_path"] is None:
        problems.append("dataset_type text needs dataset_path: the embedded corpus is recordings")
    try:
        values.update(_caps(values["hardware_profile"], given))
    except ConfigError as error:
        problems.append(str(error))
    if problems:
        raise ConfigError("\n  ".join(["settings are wrong:", *problems]))
    return Config(**{name: values[name] for name in known}, given=frozenset(given))


def _caps(hardware_profile: str, given: set[str]) -> dict[str, Any]:
    """The caps that the profile carries and no other layer gives.

    A profile is looked at only when one may count: a run is read back from its own settings when its
    profile's file is long gone.

    Raises:
        ConfigError: there is no such profile.
    """
    if {"max_cpu_cores", "max_memory_gb"} <= given:
        return {}
    caps = profile(hardware_profile).caps
    found = caps and {"max_cpu_cores": caps.cpu_cores, "max_memory_gb": caps.memory_gb}
    return {
        key: value for key, value in (found or {}).items() if value is not None and key not in given
    }


def _shard(text: str) -> tuple[int, int]:
    """``(i, n)`` of ``i/n``, counted from 1. Raises ValueError for anything else."""
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise ValueError(f"{text!r} is not i/n with i from 1 to n, such as 1/4")
    return int(found[1]), int(found[2])


def _elsewhere(option: Option) -> str:
    """Where a part may be that is not registered here: with a plug-in that is broken, or is none here."""
    if not isinstance(option.choices, Registry):
        return ""
    broken = broken_plugins(option.choices.group)
    if broken:
        return "; " + "; ".join(map(str, broken))
    return f"; for a {option.choices.kind} of your own give --plugin MODULE, or install its package"


def _convert(option: Option, value: Any) -> Any:
    """``value`` as the option's type, in its range. Text is read as the type; booleans are no numbers.

    Raises:
        ValueError: says what was expected.
    """
    if value is None or (option.nullable and value == "null"):
        if option.nullable:
            return None
        raise ValueError("needs a value")
    if option.kind is str:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(f"{value!r} is not text")
        result: Any = str(value)
        if option.choices and result not in option.choices:
            raise ValueError(
                f"{result!r} is not one of {', '.join(option.choices)}{_elsewhere(option)}"
            )
        if not result:
            raise ValueError("must not be empty")
        return result
    if option.kind is bool:
        if not isinstance(value, bool):
            raise ValueError(f"{value!r} is not true or false")
        return value
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is not a number")
    try:
        result = option.kind(value)
    except (OverflowError, TypeError, ValueError):
        expected = "whole number" if option.kind is int else "number"
        raise ValueError(f"{value!r} is not a {expected}") from None
    if option.kind is int and isinstance(value, float) and value != result:
        raise ValueError(f"{value!r} is not a whole number")
    if option.kind is float and not math.isfinite(result):
        raise ValueError(f"{value!r} is not a finite number")
    if option.minimum is not None and result < option.minimum:
        raise ValueError(f"{result} is below {option.minimum:g}")
    if option.maximum is not None and result > option.maximum:
        raise ValueError(f"{result} is above {option.maximum:g}")
    return result
