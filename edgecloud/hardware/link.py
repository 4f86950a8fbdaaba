"""The link between edge and cloud: when does a message arrive that is sent now?

The same answer serves the modelled clock and, in :mod:`edgecloud.hardware.shaping`, real traffic. It
is drawn from a seed and depends on what was sent before: a direction carries one message after the
other, and none overtakes another (as over TCP).
"""

from __future__ import annotations

import csv
import math
from bisect import bisect_right
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

from edgecloud.errors import ConfigError
from edgecloud.hardware.profiles import LinkCosts

__all__ = ["LINKS", "Direction", "Link", "LinkTimes", "Point", "link"]

Direction = Literal["up", "down"]
_PACKET_BYTES = 1460
_LEAST_RETRY_S = 0.2
"""TCP's least retransmission timeout in common systems."""


@dataclass(frozen=True, slots=True)
class Point:
    """From ``at_s`` on, a trace gives ``bytes_per_s`` and ``delay_s`` one way."""

    at_s: float
    bytes_per_s: float
    delay_s: float


@dataclass(frozen=True, slots=True)
class Link:
    """``costs`` without disturbances; ``jitter_s``, the mean of an exponential extra delay one way;
    ``loss``, the share of packets lost and sent again after a timeout; ``outages``, ``(from, to)`` in
    seconds during which nothing passes; ``trace``, in place of delay and bandwidth, starting over
    after its last point's time."""

    name: str
    costs: LinkCosts
    jitter_s: float = 0.0
    loss: float = 0.0
    outages: tuple[tuple[float, float], ...] = ()
    trace: tuple[Point, ...] = ()
    source: str = ""

    @property
    def by_chance(self) -> bool:
        """True when arrivals are drawn at random."""
        return bool(self.jitter_s or self.loss)

    def to_json(self) -> dict[str, Any]:
        """The link as in a result, times in seconds."""
        return asdict(self)


def _megabits(count: float) -> float:
    return count * 1e6 / 8


_TYPICAL = "round figures, typical of the kind; no measurement of one network"

LINKS: dict[str, Link] = {
    found.name: found
    for found in (
        Link("100ms", LinkCosts(0.1), source="a round trip and nothing else, to see what it costs"),
        Link("lan", LinkCosts(0.001, _megabits(1000), _megabits(1000)), source=_TYPICAL),
        Link("wifi", LinkCosts(0.01, _megabits(50), _megabits(100)), 0.002, 0.001, source=_TYPICAL),
        Link("lte", LinkCosts(0.05, _megabits(10), _megabits(40)), 0.01, 0.005, source=_TYPICAL),
        Link("3g", LinkCosts(0.15, _megabits(1), _megabits(4)), 0.03, 0.01, source=_TYPICAL),
        Link("satellite", LinkCosts(0.6, _megabits(3), _megabits(20)), 0.02, 0.01, source=_TYPICAL),
    )
}


def link(name: str) -> Link:
    """The link of that name, or the one that a trace file describes.

    A trace is a CSV file with the columns ``time_s``, ``bytes_per_s`` and ``delay_s`` (one way).

    Raises:
        ConfigError: neither, or the file is not such a trace.
    """
    if name in LINKS:
        return LINKS[name]
    path = Path(name)
    if not path.is_file():
        raise ConfigError(
            f"unknown link {name!r}; choose one of {', '.join(LINKS)}, or a trace file"
        )
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            points = tuple(
                Point(float(row["time_s"]), float(row["bytes_per_s"]), float(row["delay_s"]))
                for row in csv.DictReader(handle)
            )
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"link trace {path}: columns time_s, bytes_per_s, delay_s of numbers were expected "
            f"({type(error).__name__}: {error})"
        ) from error
    times = [point.at_s for point in points]
    sound = all(
        0 <= point.at_s < math.inf
        and 0 < point.bytes_per_s < math.inf
        and 0 <= point.delay_s < math.inf
        for point in points
    )
    if len(points) < 2 or times[0] != 0 or times != sorted(set(times)) or not sound:
        raise ConfigError(
            f"link trace {path}: two points at least, times rising from 0, bandwidths above 0, "
            "delays from 0 on were expected"
        )
    first = points[0]
    costs = LinkCosts(2 * first.delay_s, first.bytes_per_s, first.bytes_per_s)
    return Link(path.name, costs, trace=points, source=f"trace file {path.name}")


class LinkTimes:
    """One connection over a link, from second 0 on. The same ``seed`` gives the same times."""

    def __init__(self, over: Link, seed: int | str) -> None:
        self._link = over
        self._random = {side: Random(f"{seed}/{side}") for side in ("up", "down")}
        self._last_s: dict[Direction, float] = {"up": 0.0, "down": 0.0}
        self._starts = [point.at_s for point in over.trace]

    def arrival(self, direction: Direction, sent_s: float, size: int) -> float:
        """The arrival of a message of ``size`` bytes, seconds after second 0."""
        found = self._link
        began_s = self._after_outage(sent_s)
        if found.trace:
            point = self._point(began_s)
            passed_s = began_s + point.delay_s + size / point.bytes_per_s
        else:
            costs = found.costs.up(size) if direction == "up" else found.costs.down(size)
            passed_s = began_s + costs
        if found.by_chance:
            passed_s += self._disturbance(direction, size)
        self._last_s[direction] = max(self._last_s[direction], passed_s)
        return self._last_s[direction]

    def _disturbance(self, direction: Direction, size: int) -> float:
        """Extra seconds: jitter, and a timeout for every round in which a packet was lost again."""
        random, found = self._random[direction], self._link
        extra_s = random.expovariate(1 / found.jitter_s) if found.jitter_s else 0.0
        retry_s = max(_LEAST_RETRY_S, 2 * found.costs.round_trip_s)
        packets = max(1, math.ceil(size / _PACKET_BYTES)) if found.loss else 0
        while packets := sum(random.random() < found.loss for _ in range(packets)):
            extra_s += retry_s
        return extra_s

    def _after_outage(self, at_s: float) -> float:
        for begins_s, ends_s in self._link.outages:
            if begins_s <= at_s < ends_s:
                return ends_s
        return at_s

    def _point(self, at_s: float) -> Point:
        return self._link.trace[bisect_right(self._starts, at_s % self._starts[-1]) - 1]
