"""Number of a run's recordings with a note that they cannot be right."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

__all__ = ["KINDS", "count_notes", "sentence"]

KINDS: Final[Mapping[str, str]] = {
    "beyond_full_scale": "far beyond full scale",
    "clipped": "clipped",
    "silent": "silent once mixed down",
    "constant": "constant",
}
"""The kinds of notes that :func:`edgecloud.datasets.sanity.notes_on` leaves, and their names in sentences."""


def count_notes(records: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Number of journal records, or entries of a result, with each kind of note; only kinds that occur."""
    counts = dict.fromkeys(KINDS, 0)
    for record in records:
        for kind in record.get("audio_notes") or {}:
            counts[kind] = counts.get(kind, 0) + 1
    return {kind: count for kind, count in counts.items() if count}


def sentence(records: Iterable[Mapping[str, Any]]) -> str | None:
    """The counts in one line for the end of a run; ``None``: no recording has a note.

    >>> sentence([{"audio_notes": {"silent": "…"}}, {"audio_notes": {}}])
    '1 of 2 recordings cannot be right: 1 silent once mixed down'
    """
    found = list(records)
    noted = sum(bool(record.get("audio_notes")) for record in found)
    if not noted:
        return None
    kinds = ", ".join(f"{n} {KINDS.get(kind, kind)}" for kind, n in count_notes(found).items())
    return f"{noted} of {len(found)} recordings cannot be right: {kinds}"
