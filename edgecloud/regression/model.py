"""Data of a regression check: the quantities compared, from whatever file, and the findings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

__all__ = [
    "ASPECTS",
    "COSTS",
    "FAILING",
    "TIMES",
    "Benchmark",
    "Check",
    "Report",
    "Scores",
    "Series",
    "Summary",
    "Verdict",
]

ASPECTS = ("data", "models", "settings", "scorers", "hardware")
"""Aspects that must be equal on both sides before times and scores compare."""

TIMES = ("ttft", "tpot", "total_time")
COSTS = ("cloud_busy_time",)
"""Cost of a sample that is a time too, and regresses like one."""

Verdict = Literal[
    "same",
    "better",
    "regression",
    "missing",
    "failed",
    "different",
    "undecided",
    "note",
]
FAILING: frozenset[str] = frozenset({"regression", "missing", "failed", "different"})
"""``undecided``, where neither a regression nor its absence is shown, fails where the policy says so."""


@dataclass(frozen=True, slots=True)
class Series:
    """Values of one quantity, one a sample. ``ids`` names the samples; without it they do not pair."""

    values: tuple[float, ...]
    ids: tuple[str, ...] | None = None

    def by_id(self) -> dict[str, float]:
        """Value by sample; empty without ids."""
        return dict(zip(self.ids or (), self.values, strict=False)) if self.ids else {}


@dataclass(frozen=True, slots=True)
class Summary:
    """Summary of a quantity whose file keeps no raw values: seconds, and how many there were."""

    median: float
    iqr: float
    n: int


@dataclass(frozen=True, slots=True)
class Scores:
    """One quality score: of the corpus, and of each sample where the file has them."""

    corpus: float | None
    samples: Series | None = None


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark: an experiment in one language, or one row of a pytest-benchmark file.

    ``identity`` holds, by aspect (:data:`ASPECTS`), what must not differ; ``environment`` what may, and
    may explain a difference. ``texts`` is a digest of the tokens of each sample and of who chose them.
    """

    name: str
    kind: Literal["result", "pytest-benchmark"]
    source: Path
    modelled: bool
    times: Mapping[str, Series | Summary]
    scores: Mapping[str, Scores] = field(default_factory=dict)
    samples: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    degraded: tuple[str, ...] = ()
    """Samples that lost the cloud: their times and texts are the edge's."""
    problem: str | None = None
    identity: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the regression check's table. ``change`` and its interval are in words, times relative.

    ``more`` is how many more rounds on each side would decide an undecided row; ``None`` where that
    cannot be told. ``load`` and ``drift`` are those of both sides, in words, beside a measured time.
    ``fatal`` marks an undecided row that fails by the policy.
    """

    benchmark: str
    what: str
    verdict: Verdict
    message: str = ""
    baseline: float | None = None
    new: float | None = None
    change: str = ""
    interval: str = ""
    n: int | None = None
    source: Path | None = None
    more: int | None = None
    load: str = ""
    drift: str = ""
    fatal: bool = False

    @property
    def fails(self) -> bool:
        """True when this line alone makes the comparison fail."""
        return self.fatal or self.verdict in FAILING


@dataclass(frozen=True, slots=True)
class Report:
    """All lines of a regression check."""

    checks: tuple[Check, ...]
    baseline: str
    new: str
    policy: str

    @property
    def failures(self) -> tuple[Check, ...]:
        """Lines that fail."""
        return tuple(check for check in self.checks if check.fails)

    @property
    def undecided(self) -> tuple[Check, ...]:
        """Lines that show neither a regression nor its absence."""
        return tuple(check for check in self.checks if check.verdict == "undecided")

    @property
    def passed(self) -> bool:
        """True when no line fails."""
        return not self.failures
