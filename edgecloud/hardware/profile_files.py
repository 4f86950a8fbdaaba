"""Hardware profiles as JSON files, schema ``edgecloud-profile/1``.

::

    {"schema": "edgecloud-profile/1", "name": "my-laptop", "source": "one sentence",
     "caps": {"cpu_cores": 2, "memory_gb": 16.0},
     "default_edge": "float32",
     "edges": {"float32": {"prefill_s": 1.2, "prefill_per_token_s": 0.03, "step_s": 0.5,
                           "ingest_steps": [[1, 1.0], [4, 1.9], [16, 3.0]]},
               "int8": {...}},
     "cloud": {"prefill_s": 0.39, "step_s": 0.041, "verify_s": 0.05,
               "batch": {"source": "measured", "step": [[1, 1.0], [64, 1.6]], ...}},
     "link": {"round_trip_s": 0.05},
     "provenance": {...}}

``edges`` holds one edge for each precision that was measured. ``caps``, ``cloud``, ``link`` and
``provenance`` may be left out; a file may also have a cloud and no edges. Without ``cloud.batch`` a step costs the
same for up to 32 sessions and prefills share nothing (:data:`edgecloud.hardware.costs.ASSUMED`), and a fleet says
that this is assumed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from edgecloud.errors import ConfigError, OutputError
from edgecloud.hardware.costs import ASSUMED, BatchCosts, Caps, CloudCosts, EdgeCosts, LinkCosts
from edgecloud.textfiles import read_json

__all__ = ["SCHEMA", "ProfileFile", "read_profile", "write_profile"]

SCHEMA = "edgecloud-profile/1"
_KEYS = {
    "schema", "name", "source", "caps", "default_edge", "edges", "cloud", "link", "provenance"
}  # fmt: skip
Costs = TypeVar("Costs", EdgeCosts, CloudCosts, LinkCosts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileFile:
    """The content of a profile file; ``default_edge`` is the key of the edge meant by no other word."""

    name: str
    source: str
    edges: Mapping[str, EdgeCosts] = field(default_factory=dict)
    default_edge: str | None = None
    cloud: CloudCosts | None = None
    link: LinkCosts | None = None
    caps: Caps | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The content of the file; fields that are None are left out."""
        found = {"schema": SCHEMA, **asdict(self)}
        if self.cloud is not None and self.cloud.batch == ASSUMED:
            del found["cloud"]["batch"]
        return {key: value for key, value in found.items() if value is not None}


def read_profile(path: str | Path) -> ProfileFile:
    """Read and check a profile file.

    Raises:
        ConfigError: it cannot be read, is not JSON, or a value is unknown, missing or out of range;
            the message names every one.
    """
    content = read_json(Path(path), what="hardware profile", error=ConfigError)
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise ConfigError(
            f"hardware profile {path} is not of schema {SCHEMA!r}; "
            "make one with `edgecloud profile measure`"
        )
    problems: list[str] = []
    found = _checked(content, problems)
    if problems:
        raise ConfigError("\n  ".join([f"hardware profile {path} is wrong:", *problems]))
    return found


def write_profile(path: str | Path, profile: ProfileFile) -> None:
    """Write ``profile``; :func:`read_profile` gives it back.

    Raises:
        OutputError: the file cannot be written.
    """
    target = Path(path)
    text = json.dumps(profile.to_json(), ensure_ascii=False, indent=1, allow_nan=False)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text + "\n", encoding="utf-8", newline="\n")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def _checked(content: Mapping[str, Any], problems: list[str]) -> ProfileFile:
    """The content as a profile; what is wrong with it is added to ``problems``."""
    problems += [f"unknown key {key!r}" for key in content if key not in _KEYS]
    texts = {key: content.get(key) for key in ("name", "source")}
    problems += [f"{key}: text was expected" for key, text in texts.items() if not _is_text(text)]
    edges = _mapping(content, "edges", problems)
    costs = {key: _costs(EdgeCosts, f"edges.{key}", edge, problems) for key, edge in edges.items()}
    default = content.get("default_edge")
    if (edges and default not in edges) or (not edges and default is not None):
        problems.append(f"default_edge: {default!r} is none of the edges {', '.join(edges)}")
    parts: dict[str, Any] = {}
    for key, kind in (("cloud", CloudCosts), ("link", LinkCosts)):
        if content.get(key) is not None:
            parts[key] = _costs(kind, key, content[key], problems)
    if not edges and "cloud" not in parts:
        problems.append("edges, cloud: one of them is needed")
    caps = None
    if content.get("caps") is not None:
        caps = _caps(_mapping(content, "caps", problems), problems)
    return ProfileFile(
        name=str(texts["name"]),
        source=str(texts["source"]),
        edges={key: edge for key, edge in costs.items() if edge is not None},
        default_edge=default,
        caps=caps,
        provenance=_mapping(content, "provenance", problems),
        **parts,
    )


def _mapping(content: Mapping[str, Any], key: str, problems: list[str]) -> dict[str, Any]:
    found = content.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        problems.append(f"{key}: an object was expected")
        return {}
    return found


_MAY_LACK = ("up_bytes_per_s", "down_bytes_per_s", "draft_prefill_s", "draft_step_s")
"""Costs that a profile may say nothing about, or ``null``."""


def _costs(kind: type[Costs], where: str, found: Any, problems: list[str]) -> Costs | None:
    """``found`` as costs of that kind; ``None`` when something is wrong with it."""
    if not isinstance(found, dict):
        problems.append(f"{where}: an object was expected")
        return None
    names = [entry.name for entry in fields(kind)]
    wrong = [f"{where}.{key}: unknown" for key in found if key not in names]
    values: dict[str, Any] = {}
    for name in names:
        if name in ("ingest_steps", "verify_factors"):
            if name in found:
                values[name] = _points(f"{where}.{name}", found[name], wrong)
        elif name == "batch":
            if found.get(name) is not None:
                values[name] = _batch(f"{where}.{name}", found[name], wrong)
        elif name in _MAY_LACK:
            if found.get(name) is not None:
                values[name] = _number(f"{where}.{name}", found[name], wrong, above=True)
        elif name in found or name != "prefill_per_token_s":
            above = name in ("step_s", "verify_s")
            values[name] = _number(f"{where}.{name}", found.get(name), wrong, above=above)
    problems += wrong
    return None if wrong else kind(**values)


def _batch(where: str, found: Any, wrong: list[str]) -> BatchCosts:
    if not isinstance(found, dict):
        wrong.append(f"{where}: an object was expected")
        return ASSUMED
    names = [entry.name for entry in fields(BatchCosts)]
    wrong += [f"{where}.{key}: unknown" for key in found if key not in names]
    values: dict[str, Any] = {
        name: _points(f"{where}.{name}", found[name], wrong)
        for name in ("prefill", "step", "verify")
        if name in found
    }
    for name in ("request_s", "token_s"):
        if name in found:
            values[name] = _number(f"{where}.{name}", found[name], wrong)
    known = ("assumed", "modelled", "measured")
    if found.get("source") in known:
        values["source"] = found["source"]
    else:
        wrong.append(f"{where}.source: one of {', '.join(known)} was expected")
    return BatchCosts(**values)


def _points(where: str, found: Any, wrong: list[str]) -> tuple[tuple[int, float], ...]:
    """Pairs of a count, rising from 1, and a factor, 1 at first and never falling."""
    sound = isinstance(found, list) and all(
        isinstance(pair, list) and len(pair) == 2 and _is_number(pair[0]) and _is_number(pair[1])
        for pair in found
    )
    if sound and found:
        counts, factors = [pair[0] for pair in found], [pair[1] for pair in found]
        rising = all(isinstance(count, int) for count in counts) and counts == sorted(set(counts))
        if rising and (counts[0], factors[0]) == (1, 1) and factors == sorted(factors):
            return tuple((int(count), float(factor)) for count, factor in found)
    wrong.append(f"{where}: pairs [count, factor] were expected, rising from [1, 1.0]")
    return ()


def _number(where: str, found: Any, wrong: list[str], *, above: bool = False) -> float:
    if not _is_number(found) or found < 0 or (above and found == 0):
        wrong.append(f"{where}: a number {'above' if above else 'from'} 0 was expected")
        return 0.0
    return float(found)


def _caps(found: Mapping[str, Any], problems: list[str]) -> Caps:
    problems += [f"caps.{key}: unknown" for key in found if key not in ("cpu_cores", "memory_gb")]
    cores, memory = found.get("cpu_cores"), found.get("memory_gb")
    if cores is not None and (not isinstance(cores, int) or isinstance(cores, bool) or cores < 0):
        problems.append("caps.cpu_cores: a whole number from 0 was expected")
    if memory is not None:
        memory = _number("caps.memory_gb", memory, problems)
    return Caps(cores, memory)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
