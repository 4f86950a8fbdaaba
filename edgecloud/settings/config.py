"""One validated configuration: flag > preset > file > the hardware profile's caps > the declared default."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from edgecloud.errors import ConfigError
from edgecloud.hardware.profiles import profile
from edgecloud.registry import load_plugins
from edgecloud.settings.parts import PARTS, own_numbers
from edgecloud.settings.presets import preset_settings
from edgecloud.settings.subjects import OPTIONS, Config
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


def load_file(path: str | Path) -> dict[str, Any]:
    """The settings in a YAML file.

    Raises:
        ConfigError: no such file, not YAML, or not a mapping.
    """
    text = read_text(
        Path(path), what="configuration file", error=ConfigError, advice="check --config"
    )
    try:
        content = _parsed(text)
    except _YAML_FAILURES as error:
        raise ConfigError(
            f"configuration file {path} is not valid YAML: {' '.join(str(error).split())}"
        ) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"configuration file {path} must hold `setting: value` lines")
    return {str(key): value for key, value in content.items()}


@lru_cache(maxsize=16)
def _parsed(text: str) -> Any:
    """What a file says; the same text, which a sweep reads for each of its points, is parsed once.

    Raises:
        ValueError: it is too large, too deep, or an alias stands for a list or a mapping.
        yaml.YAMLError: it is not YAML.
    """
    _check_yaml(text)
    return yaml.safe_load(text)


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
    given_by: str = "flag",
) -> Config:
    """Put the layers together and check the result.

    ``flags`` holds what was given on the command line, or in code; ``None`` values mean "not given". ``given_by`` is
    what messages call them.

    Raises:
        ConfigError: lists every unknown key and every value of a wrong type or out of range.
    """
    chosen = {} if preset is None else preset_settings(preset)
    load_plugins()
    values: dict[str, Any] = {option.name: option.default for option in OPTIONS}
    problems: list[str] = []
    layers: list[tuple[str, Mapping[str, Any]]] = [
        (str(file), load_file(file) if file is not None else {}),
        (f"preset {preset}", chosen),
        (given_by, {key: value for key, value in (flags or {}).items() if value is not None}),
    ]
    known = {option.name: option for option in OPTIONS}
    given: set[str] = set()
    for source, layer in layers:
        for key, value in layer.items():
            name = key.replace("-", "_")
            if name not in known:
                near = get_close_matches(name, known, n=1)
                meant = f"; did you mean {near[0]}?" if near else ""
                problems.append(f"{source}: unknown setting {key!r}{meant}")
                continue
            try:
                values[name] = known[name].convert(value)
                given.add(name)
            except ValueError as error:
                problems.append(f"{source}: {name}: {error}")
    if values["temperature"] > 0 and values["acceptance"] != "rejection":
        problems.append(
            f"acceptance: {values['acceptance']} is for temperature 0; with --temperature "
            f"{values['temperature']:g} give --acceptance rejection"
        )
    if values["dataset_type"] == "text" and values["dataset_path"] is None:
        problems.append("dataset_type text needs dataset_path: the embedded corpus is recordings")
    for choice, registry in PARTS.items():
        try:
            if values[choice] in registry:
                own_numbers(choice, values)
        except ConfigError as error:
            problems.append(str(error))
    try:
        values.update(_caps(values["hardware_profile"], given))
    except ConfigError as error:
        problems.append(str(error))
    if problems:
        raise ConfigError("\n  ".join(["settings are wrong:", *problems]))
    return Config.from_flat(values, given=frozenset(given), preset=preset)


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
