"""Quality floors of the embedded pair: the file beside this one, judged by edgecloud.results.floors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgecloud.errors import ConfigError
from edgecloud.results.floors import check_floors
from edgecloud.textfiles import read_toml

__all__ = ["PATH", "check_floors", "load"]

PATH = Path(__file__).with_name("floors.toml")


def load(path: Path = PATH) -> dict[str, Any]:
    """The floors file as it is."""
    return read_toml(path, what="quality floors", error=ConfigError)
