from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edgecloud.models.parts import MOST_PAIRS, in_parts


@given(st.integers(0, 5000), st.integers(1, 2000), st.integers(0, 200_000))
def test_parts_are_all_of_it_and_none_looks_at_much(count: int, most: int, before: int) -> None:
    parts = list(in_parts(count, most, before=before))
    assert [place for part in parts for place in range(count)[part]] == list(range(count))
    for part in parts:
        size = part.stop - part.start
        assert 1 <= size <= most
        assert size == 1 or size * (before + part.stop) <= MOST_PAIRS
    assert all(
        part.stop - part.start >= after.stop - after.start for part, after in pairwise(parts)
    )


def test_a_short_text_is_one_part() -> None:
    assert list(in_parts(1024, 1024, before=3000)) == [slice(0, 1024)]
