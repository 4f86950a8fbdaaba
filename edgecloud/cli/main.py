"""The command line. ``edgecloud --help`` lists the commands."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from edgecloud import __version__
from edgecloud.cli import MODULES
from edgecloud.errors import EdgeCloudError
from edgecloud.registry import broken_plugins, load_plugins
from edgecloud.settings.options import add_plugin_option

__all__ = ["command_line", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0, 1 when a part failed, 2 when nothing could run."""
    try:
        # Before the parser is made: what plug-ins bring are choices of it.
        load_plugins(_plugins(arguments))
        parsed = command_line().parse_args(arguments)
        command: Callable[[argparse.Namespace], int] = parsed.command
        for broken in broken_plugins() if not parsed.lists_plugins else ():
            print(f"edgecloud: warning: {broken}", file=sys.stderr)
        return command(parsed)
    except EdgeCloudError as error:
        print(f"edgecloud: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("edgecloud: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output is gone (`edgecloud table | head`); nothing is left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _plugins(arguments: Sequence[str] | None) -> list[str]:
    """The modules given as ``--plugin``, wherever that stands."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    add_plugin_option(parser.add_argument)
    try:
        found: list[str] = parser.parse_known_args(arguments)[0].plugin
    except argparse.ArgumentError:
        return []  # the parser of the command says it
    return found


def command_line() -> argparse.ArgumentParser:
    """The parser of every command, with what plug-ins have brought so far."""
    parser = argparse.ArgumentParser(
        prog="edgecloud",
        description="Edge-cloud speculative decoding of audio language models, measured.",
    )
    parser.add_argument("--version", action="version", version=f"edgecloud {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in MODULES:
        import_module(f"edgecloud.cli.{name}").add(commands)
    for command in commands.choices.values():
        add_plugin_option(command.add_argument)
        command.set_defaults(lists_plugins=False)
    commands.choices["plugins"].set_defaults(lists_plugins=True)
    return parser
