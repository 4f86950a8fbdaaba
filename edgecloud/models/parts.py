"""How long forwards over much new text are cut, so that each takes about as long as the first."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["MOST_PAIRS", "in_parts"]

MOST_PAIRS = 1 << 22
"""Most pairs of a new token and one it looks at in one part; attention takes the time of these. 1,024 tokens
keep together up to 3,000 behind them; behind 60,000 it is 68."""


def in_parts(count: int, most: int, *, before: int = 0) -> Iterator[slice]:
    """Cut ``count`` new tokens behind ``before`` others into slices of at most ``most``, and of fewer behind
    a long text, by :data:`MOST_PAIRS`.

    >>> [part.stop - part.start for part in in_parts(3000, 1024)]
    [1024, 1024, 952]
    >>> [part.stop - part.start for part in in_parts(3, 1024, before=1 << 30)]
    [1, 1, 1]
    """
    begin = 0
    while begin < count:
        size = max(1, min(most, MOST_PAIRS // (before + begin + most)))
        end = min(count, begin + size)
        yield slice(begin, end)
        begin = end
