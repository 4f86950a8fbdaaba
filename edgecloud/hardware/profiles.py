"""Hardware profiles: the constants of the modelled clock, by name."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from edgecloud.errors import ConfigError

__all__ = ["PROFILES", "CloudCosts", "EdgeCosts", "HardwareProfile", "LinkCosts", "profile"]


@dataclass(frozen=True, slots=True)
class EdgeCosts:
    """Seconds on the edge: a prefill (fixed, plus so much a token), a step, and the ingestion of ``n``
    known tokens in steps, linear between the given points and flat or rising beyond the last."""

    prefill_s: float
    step_s: float
    prefill_per_token_s: float = 0.0
    ingest_steps: tuple[tuple[int, float], ...] = ((1, 1.0),)

    def prefill(self, tokens: int) -> float:
        return self.prefill_s + tokens * self.prefill_per_token_s

    def extend(self, tokens: int) -> float:
        """Seconds for one forward over ``tokens`` tokens.

        With points (1, 1.0) and (4, 2.0), three tokens cost 1 + 2/3 steps.
        """
        points = self.ingest_steps
        steps = points[-1][1]
        for (n0, s0), (n1, s1) in pairwise(points):
            if tokens <= n1:
                steps = s0 + (s1 - s0) * max(0, tokens - n0) / (n1 - n0)
                break
        return steps * self.step_s


@dataclass(frozen=True, slots=True)
class CloudCosts:
    """Seconds the cloud is busy: a prefill, a step of its own, a verification whatever its length."""

    prefill_s: float
    step_s: float
    verify_s: float


@dataclass(frozen=True, slots=True)
class LinkCosts:
    """Round trip in seconds; bytes a second in each direction, ``None`` for no limit."""

    round_trip_s: float
    up_bytes_per_s: float | None = None
    down_bytes_per_s: float | None = None

    def up(self, count: int) -> float:
        return self.round_trip_s / 2 + (count / self.up_bytes_per_s if self.up_bytes_per_s else 0.0)

    def down(self, count: int) -> float:
        rate = self.down_bytes_per_s
        return self.round_trip_s / 2 + (count / rate if rate else 0.0)


@dataclass(frozen=True, slots=True)
class HardwareProfile:
    """An edge, a cloud and a link; ``source`` says where the constants come from."""

    name: str
    edge: EdgeCosts
    cloud: CloudCosts
    link: LinkCosts
    source: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


_ONE_BY_ONE = ((1, 1.0), (64, 64.0))
_FLOAT32 = ((1, 1.0), (2, 1.84), (4, 2.07), (6, 2.61), (10, 2.83))

PROFILES: dict[str, HardwareProfile] = {
    found.name: found
    for found in (
        HardwareProfile(
            name="paper",
            edge=EdgeCosts(prefill_s=7.3, step_s=0.415),
            cloud=CloudCosts(prefill_s=0.39, step_s=0.041, verify_s=0.05),
            link=LinkCosts(round_trip_s=0.05),
            source="the original project's measurements: 3B float32 on 2 CPU cores, 7B on an A100; "
            "prefill whatever its length, ingestion of n known tokens one step",
        ),
        HardwareProfile(
            name="paper-original",
            edge=EdgeCosts(prefill_s=7.3, step_s=0.415, ingest_steps=_ONE_BY_ONE),
            cloud=CloudCosts(prefill_s=0.0, step_s=0.041, verify_s=0.44),
            link=LinkCosts(round_trip_s=0.05),
            source="paper, with the original's own handling of caches: the cloud prefills again at "
            "each verification, the edge ingests token by token. For speculation alone",
        ),
        HardwareProfile(
            name="paper-measured",
            edge=EdgeCosts(prefill_s=7.3, step_s=0.415, ingest_steps=_FLOAT32),
            cloud=CloudCosts(prefill_s=0.39, step_s=0.041, verify_s=0.05),
            link=LinkCosts(round_trip_s=0.05),
            source="paper, with ingestion as float32 was measured at the 3B text shape on 2 cores",
        ),
        HardwareProfile(
            name="paper-int8",
            edge=EdgeCosts(prefill_s=7.3 / 4, step_s=0.415 / 8),
            cloud=CloudCosts(prefill_s=0.39, step_s=0.041, verify_s=0.05),
            link=LinkCosts(round_trip_s=0.05),
            source="paper, with edge steps eight times and prefill four times faster, as measured for "
            "int8 weights at the 3B shape on 2 cores",
        ),
    )
}


def profile(name: str) -> HardwareProfile:
    """The profile of that name.

    Raises:
        ConfigError: there is none.
    """
    try:
        return PROFILES[name]
    except KeyError:
        raise ConfigError(
            f"unknown hardware profile {name!r}; choose one of {', '.join(PROFILES)}"
        ) from None
