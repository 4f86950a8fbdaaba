"""Parts of a hardware profile: seconds of an edge, a cloud and a link, and the caps of an edge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, Literal

__all__ = [
    "ASSUMED",
    "BatchCosts",
    "Caps",
    "CloudCosts",
    "EdgeCosts",
    "HardwareProfile",
    "LinkCosts",
    "Points",
]

Points = tuple[tuple[int, float], ...]
"""``(tokens, factor)``, tokens rising from 1; linear between points, flat beyond the last."""


def _factor(points: Sequence[tuple[int, float]], tokens: int) -> float:
    for (n0, f0), (n1, f1) in pairwise(points):
        if tokens <= n1:
            return f0 + (f1 - f0) * max(0, tokens - n0) / (n1 - n0)
    return points[-1][1]


@dataclass(frozen=True, slots=True)
class EdgeCosts:
    """Seconds on the edge: a prefill (fixed, plus so much a token), a step, and the ingestion of ``n``
    known tokens in steps, linear between the given points and flat or rising beyond the last."""

    prefill_s: float
    step_s: float
    prefill_per_token_s: float = 0.0
    ingest_steps: Points = ((1, 1.0),)

    def prefill(self, tokens: int) -> float:
        """Seconds of a prefill of ``tokens``."""
        return self.prefill_s + tokens * self.prefill_per_token_s

    def extend(self, tokens: int) -> float:
        """Seconds for one forward over ``tokens`` tokens.

        With points (1, 1.0) and (4, 2.0), three tokens cost 1 + 2/3 steps.
        """
        return _factor(self.ingest_steps, tokens) * self.step_s

    def slower(self, factor: float) -> EdgeCosts:
        """The costs of an edge that takes ``factor`` times as long for everything."""
        return EdgeCosts(
            prefill_s=self.prefill_s * factor,
            step_s=self.step_s * factor,
            prefill_per_token_s=self.prefill_per_token_s * factor,
            ingest_steps=self.ingest_steps,
        )


def _shared(points: Points, sessions: int) -> float:
    """The factor for so many sessions: linear between the points, beyond the last in proportion."""
    most, factor = points[-1]
    return factor * sessions / most if sessions > most else _factor(points, sessions)


@dataclass(frozen=True, slots=True)
class BatchCosts:
    """How many times as long a forward takes when so many sessions share it, ``(sessions, factor)``: a prefill,
    a step, a verification. ``request_s`` are the host's seconds for one request (reading, packing, sending),
    during which the accelerator has nothing of it, and ``token_s`` those for a token that is sent as soon as it is
    there. ``source`` says how they are known.

    >>> ASSUMED.step_factor(32), ASSUMED.step_factor(64), ASSUMED.prefill_factor(4)
    (1.0, 2.0, 4.0)
    """

    prefill: Points = ((1, 1.0),)
    step: Points = ((1, 1.0), (32, 1.0))
    verify: Points = ((1, 1.0), (32, 1.0))
    request_s: float = 0.0
    token_s: float = 0.0
    source: Literal["assumed", "modelled", "measured"] = "assumed"

    def prefill_factor(self, sessions: int) -> float:
        """Times one prefill that so many take together; as many where they share nothing."""
        return _shared(self.prefill, sessions)

    def step_factor(self, sessions: int) -> float:
        """Times one session's step that a step of so many takes."""
        return _shared(self.step, sessions)

    def verify_factor(self, sessions: int) -> float:
        """Times one session's verification that a forward verifying so many takes."""
        return _shared(self.verify, sessions)


ASSUMED = BatchCosts()
"""Where a profile says nothing: a step and a verification cost the same for up to 32 sessions and in
proportion beyond, and prefills share nothing. An assumption, which whatever uses it must say."""


@dataclass(frozen=True, slots=True)
class CloudCosts:
    """Seconds the cloud is busy: a prefill (fixed, plus so much a token), a step of its own, and a
    verification, whatever its length or, with ``verify_factors``, by the tokens of its forward. ``batch`` says
    what sessions that share a forward cost; the time of one request alone does not depend on it.
    ``draft_prefill_s`` and ``draft_step_s`` are those of a draft model beside the cloud's own, ``None`` where
    it has none."""

    prefill_s: float
    step_s: float
    verify_s: float
    prefill_per_token_s: float = 0.0
    verify_factors: Points = ((1, 1.0),)
    batch: BatchCosts = ASSUMED
    draft_prefill_s: float | None = None
    draft_step_s: float | None = None

    def prefill(self, tokens: int) -> float:
        """Seconds of a prefill of ``tokens``."""
        return self.prefill_s + tokens * self.prefill_per_token_s

    def drafted(self, tokens: int, *, prefill: bool) -> float:
        """Seconds in which the draft model beside the cloud's own drafts ``tokens``, after its ``prefill``."""
        return (self.draft_prefill_s or 0.0) * prefill + tokens * (self.draft_step_s or 0.0)

    def verify(self, tokens: int) -> float:
        """Seconds of a verification whose forward takes ``tokens``."""
        return _factor(self.verify_factors, tokens) * self.verify_s


@dataclass(frozen=True, slots=True)
class LinkCosts:
    """Round trip in seconds; bytes a second in each direction, ``None`` for no limit."""

    round_trip_s: float
    up_bytes_per_s: float | None = None
    down_bytes_per_s: float | None = None

    def up(self, count: int) -> float:
        """Seconds that ``count`` bytes take to the cloud: half a round trip, and the transfer."""
        return self.round_trip_s / 2 + (count / self.up_bytes_per_s if self.up_bytes_per_s else 0.0)

    def down(self, count: int) -> float:
        """Seconds that ``count`` bytes take to the edge: half a round trip, and the transfer."""
        rate = self.down_bytes_per_s
        return self.round_trip_s / 2 + (count / rate if rate else 0.0)


@dataclass(frozen=True, slots=True)
class Caps:
    """Caps of the edge: cores, and GB (10^9 bytes) of memory; 0 is uncapped, ``None`` says
    nothing."""

    cpu_cores: int | None = None
    memory_gb: float | None = None


@dataclass(frozen=True, slots=True)
class HardwareProfile:
    """An edge, a cloud and a link; ``source`` says where the constants come from, ``provenance`` in
    detail (machine, versions, date, what was measured and what is modelled; JSON)."""

    name: str
    edge: EdgeCosts
    cloud: CloudCosts
    link: LinkCosts
    source: str
    caps: Caps | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """JSON; what a profile says nothing about is left out, and so are costs of batches, by which no single
        request is timed."""
        found = asdict(self)
        del found["cloud"]["batch"]
        if self.caps is None:
            del found["caps"]
        if not self.provenance:
            del found["provenance"]
        if self.cloud.prefill_per_token_s == 0.0:
            del found["cloud"]["prefill_per_token_s"]
        if self.cloud.verify_factors == ((1, 1.0),):
            del found["cloud"]["verify_factors"]
        for name in ("draft_prefill_s", "draft_step_s"):
            if found["cloud"][name] is None:
                del found["cloud"][name]
        return found
