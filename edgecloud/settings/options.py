"""The declared options as flags of pytest and of commands. Standard library only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgecloud.settings.presets import PRESETS
from edgecloud.settings.subjects import OPTIONS

__all__ = ["OPTIONS", "add_options", "add_plugin_option"]


def add_plugin_option(add: Callable[..., Any]) -> None:
    """Add ``--plugin`` through ``add``: modules that bring parts, for
    :func:`edgecloud.registry.load_plugins`. It is no setting: what a run uses of them is in its result."""
    add(
        "--plugin",
        dest="plugin",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module that brings gates, acceptance rules, … and is not installed; may come again",
    )


def add_options(add: Callable[..., Any]) -> None:
    """Add every option through ``add``, pytest's ``addoption`` or argparse's ``add_argument``.

    Values arrive as text and defaults are ``None``: :func:`edgecloud.settings.config.resolve` converts and
    checks them, so that a flag, a file and a preset are checked alike and "not given" stays visible.
    """
    add("--config", dest="config", default=None, metavar="FILE", help="YAML file of settings")
    add(
        "--preset",
        dest="preset",
        default=None,
        metavar="NAME",
        help=f"one of {', '.join(PRESETS)}, or a file of `edgecloud tune`",
    )
    for option in OPTIONS:
        extra: dict[str, Any] = {"dest": option.name, "default": None}
        if option.kind is bool:
            extra["action"] = "store_true"
        else:
            extra["metavar"] = "|".join(option.choices) or option.kind.__name__.upper()
        add(*option.flags, help=option.help, **extra)
