"""What a converter is, and where converters are registered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, TypeVar

from edgecloud.registry import Registry

__all__ = ["CONVERTERS", "Converter", "Noted", "Progress", "converter"]

Progress = Callable[[int, int], None]
"""Called with the number of recordings done and of all."""
Noted = Callable[[str, Mapping[str, str]], None]
"""Called with a recording's id and its notes (:func:`edgecloud.datasets.sanity.notes_on`)."""


class Converter(Protocol):
    """From a dataset's own layout to a unified manifest."""

    def __call__(
        self, src: Path, dest: Path, *, progress: Progress | None = None, noted: Noted | None = None
    ) -> int:
        """Write ``dest/manifest.json`` and the recordings that it names, FLAC, from the folder or file
        ``src``. Returns the number of samples. ``progress`` is called after each, ``noted`` with each
        recording that cannot be right.

        Raises:
            ManifestError: the source is missing or broken; lists every problem.
            OutputError: ``dest`` cannot be written.
        """


CONVERTERS: Registry[Converter] = Registry("converter", group="datasets")
"""Every converter by the name of its dataset."""

Function = TypeVar("Function", bound=Converter)


def converter(name: str) -> Callable[[Function], Function]:
    """Register the converter of the dataset ``name``; the first line of its docstring is its help.

    Raises:
        PluginError: the name is taken or cannot be one.
    """

    def register(function: Function) -> Function:
        CONVERTERS.add(name, function)
        return function

    return register
