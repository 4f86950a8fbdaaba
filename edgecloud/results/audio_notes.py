"""Number of a run's recordings with a note that they cannot be right."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

__all__ = ["KINDS", "count_notes", "sentence"]

KINDS: Final[Mapping[str, str]] = {
    "beyond_full_scale": "far beyond full scale",
    "clipped": "clipped",
    "silent": "silent once mixed down",
    "constant": "constant",
}
"""The kinds of notes that :func:`edgecloud.datasets.sanity.notes_on` leaves, and their names in sentences."""


def count_notes(recordings: Iterable[Mapping[str, str]]) -> dict[str, int]:
    """Number of ``recordings``, each given by its notes, with each kind of note; only kinds that occur."""
    counts = dict.fromkeys(KINDS, 0)
    for notes in recordings:
        for kind in notes:
            counts[kind] = counts.get(kind, 0) + 1
    return {kind: count for kind, count in counts.items() if count}


def sentence(recordings: Iterable[Mapping[str, str]]) -> str | None:
    """The counts in one line for the end of a run; ``None``: no recording has a note.

    >>> sentence([{"silent": "…"}, {}])
    '1 of 2 recordings cannot be right: 1 silent once mixed down'
    """
    found = list(recordings)
    noted = sum(map(bool, found))
    if not noted:
        return None
    kinds = ", ".join(f"{n} {KINDS.get(kind, kind)}" for kind, n in count_notes(found).items())
    return f"{noted} of {len(found)} recordings cannot be right: {kinds}"
