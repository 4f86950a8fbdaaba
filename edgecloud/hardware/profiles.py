"""Hardware profiles by name or file: the constants of the modelled clock, and the caps of an edge.

``NAME@PRECISION`` names one of several edges of a profile (``iphone-15-plus@int8``), ``EDGE+CLOUD``
takes cloud and link from a second one (``galaxy-s24@int8+h100``). A modelled cloud may speculate itself
(``h100-eagle3``, ``h100-drafted``). A name may be a file's path.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from edgecloud.errors import ConfigError
from edgecloud.hardware.catalogue import (
    CLOUDS,
    CONSTANTS,
    DEVICES,
    SPECULATING,
    cloud_costs,
    edge_costs,
    speculating,
)
from edgecloud.hardware.costs import Caps, CloudCosts, EdgeCosts, HardwareProfile, LinkCosts
from edgecloud.hardware.profile_files import ProfileFile, read_profile

__all__ = [
    "PROFILES",
    "Caps",
    "CloudCosts",
    "EdgeCosts",
    "HardwareProfile",
    "LinkCosts",
    "complete_file",
    "names",
    "profile",
    "profile_file",
]

_MEASURED = Path(__file__).parent / "measured"
_YARDSTICK = "epyc-2-cores"
"""The measured machine from which devices are scaled."""

_ROOFLINE = "modelled: roofline of the specified bandwidth and arithmetic, 7B float16"

PROFILES: dict[str, HardwareProfile] = CONSTANTS
"""Profiles that are constants."""


def names() -> list[str]:
    """Every name that :func:`profile` knows."""
    measured = sorted(path.stem for path in _MEASURED.glob("*.json"))
    own = [f"{cloud}-{how}" for cloud in CLOUDS for how in SPECULATING]
    return [*CONSTANTS, *DEVICES, *CLOUDS, *own, *measured]


def profile(name: str) -> HardwareProfile:
    """The profile of that name, or the one that a file describes.

    Raises:
        ConfigError: there is none, it has no such edge, or the file is not a profile.
    """
    return CONSTANTS[name] if name in CONSTANTS else _used(profile_file(name))


def profile_file(name: str) -> ProfileFile:
    """All of a profile: every precision of its edge, or the one that the name asks for.

    Raises:
        ConfigError: there is none of that name, and no such file, it has no such edge, or the file is
            not a profile.
    """
    edge_name, _, cloud_name = name.rpartition("+")
    base, _, precision = name.rpartition("@")
    if Path(name).is_file() or not (edge_name or base):
        return _named(name)
    if edge_name:
        return _joined(profile_file(edge_name), profile_file(cloud_name))
    return _only(profile_file(base), precision)


def complete_file(name: str) -> ProfileFile:
    """As :func:`profile_file`, with what it lacks from ``paper``: a file that says all that
    :func:`profile` makes of ``name``."""
    found = profile_file(name)
    used = _used(found)
    edges = found.edges or {"float32": used.edge}
    return replace(
        found,
        edges=edges,
        default_edge=found.default_edge or next(iter(edges)),
        cloud=used.cloud,
        link=used.link,
    )


def _named(name: str) -> ProfileFile:
    if name in CONSTANTS:
        found = CONSTANTS[name]
        return ProfileFile(
            name=name,
            source=found.source,
            edges={"float32": found.edge},
            default_edge="float32",
            cloud=found.cloud,
            link=found.link,
            caps=found.caps,
        )
    if name in DEVICES:
        return _device(name)
    if name in CLOUDS:
        return ProfileFile(name=name, source=_ROOFLINE, cloud=cloud_costs(CLOUDS[name]))
    cloud, _, how = name.rpartition("-")
    if cloud in CLOUDS and how in SPECULATING:
        costs = speculating(cloud_costs(CLOUDS[cloud]), how)
        return ProfileFile(name=name, source=f"{_ROOFLINE}, with {SPECULATING[how]}", cloud=costs)
    shipped = _MEASURED / f"{name}.json"
    if "/" not in name and shipped.is_file():
        return _shipped(shipped)
    if Path(name).is_file():
        return read_profile(name)
    raise ConfigError(
        f"unknown hardware profile {name!r}; choose one of {', '.join(names())}, or a file of "
        "`edgecloud profile measure`"
    )


@cache
def _shipped(path: Path) -> ProfileFile:
    return read_profile(path)


def _used(found: ProfileFile) -> HardwareProfile:
    """The default edge of a profile, with what it lacks from ``paper``."""
    paper = CONSTANTS["paper"]
    key = found.default_edge
    return HardwareProfile(
        name=found.name,
        edge=paper.edge if key is None else found.edges[key],
        cloud=found.cloud or paper.cloud,
        link=found.link or paper.link,
        source=found.source,
        caps=found.caps,
        provenance=found.provenance,
    )


def _only(found: ProfileFile, precision: str) -> ProfileFile:
    """One edge of a profile."""
    if precision not in found.edges:
        raise ConfigError(
            f"hardware profile {found.name!r} has no edge {precision!r}; "
            f"choose one of {', '.join(found.edges) or 'none'}"
        )
    return replace(
        found,
        name=f"{found.name}@{precision}",
        edges={precision: found.edges[precision]},
        default_edge=precision,
    )


def _joined(edge: ProfileFile, cloud: ProfileFile) -> ProfileFile:
    """The edges and caps of one profile, cloud and link of another."""
    used = _used(cloud)
    provenance = {"edge": edge.provenance, "cloud": cloud.provenance}
    return replace(
        edge,
        name=f"{edge.name}+{cloud.name}",
        cloud=used.cloud,
        link=used.link,
        source=f"edge: {edge.source}; cloud: {cloud.source}",
        provenance=provenance if any(provenance.values()) else {},
    )


def _device(name: str) -> ProfileFile:
    device = DEVICES[name]
    measured = _shipped(_MEASURED / f"{_YARDSTICK}.json")
    bandwidth_gb_s = float(measured.provenance["bandwidth_gb_s"])
    edges = {
        precision: edge_costs(device, costs, bandwidth_gb_s=bandwidth_gb_s)
        for precision, costs in measured.edges.items()
    }
    source = (
        f"modelled from memory bandwidth: {_YARDSTICK}'s times × {bandwidth_gb_s:.1f} / "
        f"{device.bandwidth_gb_s:g} GB/s; {device.source}"
    )
    default = "int8" if "int8" in edges else "float32"
    if name == "iphone-15-plus":
        # The simulation of the original project: its caps, and its measured times.
        edges["float32"], default = CONSTANTS["paper"].edge, "float32"
        source = f"float32: the original project's simulation and times; other precisions {source}"
    return ProfileFile(
        name=name,
        source=source,
        edges=edges,
        default_edge=default,
        caps=Caps(device.cores, device.memory_gb),
        provenance={"modelled": ["edge"], "from": _YARDSTICK} if name != "iphone-15-plus" else {},
    )
