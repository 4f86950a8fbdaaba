"""Settings as keywords: the declared options by their names, checked as flags are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from edgecloud.decoding.acceptance import RULES, Rule
from edgecloud.decoding.gates import GATES, Gate
from edgecloud.errors import ConfigError
from edgecloud.registry import Registry
from edgecloud.settings.config import Config, resolve
from edgecloud.settings.declaration import MODES, Mode
from edgecloud.settings.options import OPTIONS

__all__ = ["PAIR", "REQUEST", "checked_mode", "settings_of"]

_OF_MODELS = ("edge_model", "cloud_model")
_LOADING = [option.name for option in OPTIONS if option.subject == "models"]
PAIR = (*(name for name in _LOADING if name not in _OF_MODELS), "verify_weights")
"""What a pair is loaded with, besides its models."""
REQUEST = (
    *("dataset_type", "language", "prompt_type", "input_modality", "max_audio_s"),
    *(option.name for option in OPTIONS if option.group == "how"),
    *("clock", "hardware_profile", "link", "deadline"),
)
"""What one request to a loaded pair can be given."""
_PARTS: Mapping[str, Registry[Any]] = {"gate_type": GATES, "acceptance": RULES}
_ALIASES = {"gate": "gate_type"}


def checked_mode(mode: str) -> Mode:
    """``mode``, which is ``edge``, ``cloud`` or ``spec``.

    Raises:
        ConfigError: it is none of these.
    """
    if mode not in MODES:
        raise ConfigError(f"mode {mode!r} is not one of {', '.join(MODES)}")
    return mode


def settings_of(
    given: Mapping[str, Any],
    *,
    by: str,
    allowed: Collection[str],
    instead: str,
    parts: ExitStack | None = None,
    own: Mapping[str, Any] | None = None,
    preset: str | None = None,
    file: str | Path | None = None,
) -> Config:
    """The configuration of keywords ``given`` to the function called ``by``.

    ``gate`` is ``gate_type``. Of a gate or an acceptance rule given as a function the name is taken under which it is
    registered until ``parts`` closes. Of the options only those ``allowed`` count; of another one the message says what
    to do ``instead``. ``own`` are settings that are no keywords.

    Raises:
        ConfigError: a name is no option's (the nearest one is named), counts for nothing here, or its value is one
            that a flag could not have.
    """
    for short, name in _ALIASES.items():
        if short in given and name in given:
            raise ConfigError(f"{by}: {short} and {name} are one setting; give one of them")
    flags = {
        _ALIASES.get(name, name): str(value) if isinstance(value, Path) else value
        for name, value in given.items()
    }
    options = {option.name for option in OPTIONS}
    for name in flags:
        if name in options and name not in allowed:
            raise ConfigError(f"{by}: {name} counts for nothing here; {instead}")
        if name not in options:
            near = get_close_matches(name, [*allowed, *_ALIASES], n=1)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{by}: there is no setting {name!r}{meant}")
    for name, registry in _PARTS.items():
        if callable(part := flags.get(name)):
            flags[name] = _lent(registry, part, name, by=by, parts=parts)
    return resolve({**flags, **(own or {})}, preset=preset, file=file, given_by=by)


def _lent(
    registry: Registry[Any],
    part: Callable[..., Any] | Gate | Rule,
    name: str,
    *,
    by: str,
    parts: ExitStack | None,
) -> str:
    if parts is None:
        raise ConfigError(
            f"{by}: {name} is a function, and an experiment runs in processes of its own, which do not have it; "
            f"register it in a module and give plugins=['MODULE'], {name}='NAME'"
        )
    return parts.enter_context(registry.lent(part))
