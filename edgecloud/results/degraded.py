"""Sentences on samples that lost the cloud: the edge went on alone where a verdict had been asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgecloud.results.records import Loss
from edgecloud.results.result import SampleResult

__all__ = ["sentence", "warm_up_sentence"]

Json = Mapping[str, Any]
_MOST_REASONS = 3


def sentence(samples: Sequence[SampleResult]) -> str | None:
    """Number of a result's samples that lost the cloud, with reasons, in one line; ``None``: none. As

    '1 of 2 samples lost the cloud and went on with the edge alone: 1 × CloudTimeout (no answer in 2 s; first a)'
    """
    lost = [(sample.file_id, sample.degraded) for sample in samples if sample.degraded]
    if not lost:
        return None
    by_error: dict[str, list[tuple[str, Loss]]] = {}
    for file_id, loss in lost:
        by_error.setdefault(loss.error, []).append((file_id, loss))
    told = [
        f"{len(some)} × {error} ({some[0][1].reason}; first {some[0][0]})"
        for error, some in by_error.items()
    ]
    more = f" and {len(told) - _MOST_REASONS} more reasons" if len(told) > _MOST_REASONS else ""
    return (
        f"{len(lost)} of {len(samples)} samples lost the cloud and went on with the edge alone: "
        f"{', '.join(told[:_MOST_REASONS])}{more}"
    )


def warm_up_sentence(cold: Json) -> str | None:
    """One line with the number of discarded first requests that lost the cloud, and the reason; ``cold`` is
    what a run's set-up says of them. ``None``: none did."""
    lost = cold.get("degraded")
    if not lost:
        return None
    return (
        f"{len(lost)} of {len(cold['total_time_s'])} warm-up requests lost the cloud and went on with the "
        f"edge alone: {lost[0]['error']} ({lost[0]['reason']})"
    )
