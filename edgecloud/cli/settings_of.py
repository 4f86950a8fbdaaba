"""What commands that decode make of their arguments."""

from __future__ import annotations

import argparse
import sys

from edgecloud.errors import ConfigError
from edgecloud.settings.config import Config, resolve
from edgecloud.settings.options import OPTIONS

__all__ = ["print_progress", "settings_of", "settings_over"]


def settings_of(parsed: argparse.Namespace) -> Config:
    """The settings that a command with every option was given.

    Raises:
        ConfigError: they are wrong.
    """
    flags = {option.name: getattr(parsed, option.name) for option in OPTIONS}
    return resolve(flags, preset=parsed.preset, file=parsed.config)


def settings_over(parsed: argparse.Namespace, command: str) -> Config:
    """Those of a ``command`` that takes its manifest as an argument, and writes one file.

    Raises:
        ConfigError: they are wrong, the manifest is given twice, or the file has no suffix.
    """
    if not parsed.output.suffix:
        raise ConfigError(f"-o {parsed.output}: give a file, such as {parsed.output}.json")
    if parsed.dataset_path is not None:
        raise ConfigError(f"{command} takes the manifest as its argument; leave out --dataset-path")
    parsed.dataset_path = parsed.manifest
    return settings_of(parsed)


def print_progress(what: str, done: int, total: int) -> None:
    """How far a command is, beside what it prints."""
    print(f"edgecloud: {done}/{total} {what}", file=sys.stderr, flush=True)
