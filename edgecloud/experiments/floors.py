"""Quality floors of the embedded pair: the file beside it, judged by edgecloud.results.floors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgecloud import embedded
from edgecloud.errors import ConfigError
from edgecloud.results.floors import check_floors, unusable_floors
from edgecloud.settings.options import OPTIONS
from edgecloud.textfiles import read_toml

__all__ = ["PATH", "check_floors", "load"]

PATH = Path(embedded.__file__).with_name("floors.toml")


def load(path: Path = PATH) -> dict[str, Any]:
    """The floors file as it is.

    Raises:
        ConfigError: it cannot be read, is no floors file, or names settings that there are not.
    """
    found = read_toml(path, what="quality floors", error=ConfigError)
    wrong = unusable_floors(found)
    if wrong is None:
        known = {option.name for option in OPTIONS}
        unknown = {*found["settings"], *found["settings_spec"]} - known
        wrong = f"{min(unknown)} is no setting" if unknown else None
    if wrong is not None:
        raise ConfigError(f"quality floors {path}: {wrong}")
    return found
