"""Ranges of the numbers in results: none is larger than a chart can hold, and no NaN is among them."""

from __future__ import annotations

from typing import Annotated, Final

from edgecloud.contracts.ranges import Range

__all__ = ["Amount", "Count", "Number", "Token"]

_LARGEST: Final = 1e12
"""No count, time or score of a run is larger."""

Number = Annotated[float, Range(-_LARGEST, _LARGEST)]
Amount = Annotated[float, Range(0.0, _LARGEST)]
"""A number that cannot be negative: seconds, bytes, joules."""
Count = Annotated[int, Range(0, _LARGEST)]
Token = Annotated[int, Range(0, (1 << 31) - 1)]
"""A token's number, as the tokenizers library takes it."""
