"""Quality floors of the embedded pair: the file beside this one, judged by edgecloud.measure.floors."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from edgecloud.measure.floors import judge

__all__ = ["PATH", "judge", "load"]

PATH = Path(__file__).with_name("floors.toml")


def load(path: Path = PATH) -> dict[str, Any]:
    """The floors file as it is."""
    return tomllib.loads(path.read_text(encoding="utf-8"))
