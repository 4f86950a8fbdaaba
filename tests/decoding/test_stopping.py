"""When a caption ends: worked examples, and what a cut obeys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecloud.contracts import StopLimits
from edgecloud.decoding.stopping import Stopping

END, STOP = 0, 1


def stopping(tokens: int = 100, sentences: int | None = None) -> Stopping:
    return Stopping(StopLimits(tokens, sentences), frozenset({END}), frozenset({STOP}))


def test_tokens_pass_while_nothing_ends_them() -> None:
    assert stopping().cut([5], [6, 7]) == ((6, 7), None)


def test_the_end_of_text_stays_and_nothing_follows_it() -> None:
    assert stopping().cut([5], [6, END, 7]) == ((6, END), "end_of_text")


@pytest.mark.parametrize(
    "limit, left, reason",
    [(5, (7, 8), "token_limit"), (7, (7, 8, 9, 4), "token_limit"), (8, (7, 8, 9, 4), None)],
)
def test_the_token_limit_counts_what_is_there(
    limit: int, left: tuple[int, ...], reason: str | None
) -> None:
    assert stopping(limit).cut([5, 5, 5], [7, 8, 9, 4]) == (left, reason)


def test_an_end_of_text_at_the_last_place_is_the_reason() -> None:
    assert stopping(2).cut([5], [END, 6]) == ((END,), "end_of_text")


def test_an_end_of_text_beyond_the_limit_is_not_seen() -> None:
    assert stopping(2).cut([5], [6, END]) == ((6,), "token_limit")


@pytest.mark.parametrize(
    "limit, left, reason",
    [
        (1, (STOP,), "sentence_limit"),
        (2, (STOP, 6, STOP), "sentence_limit"),
        (3, (STOP, 6, STOP, 7), None),
        (None, (STOP, 6, STOP, 7), None),
    ],
)
def test_the_sentence_limit_counts_full_stops(
    limit: int | None, left: tuple[int, ...], reason: str | None
) -> None:
    assert stopping(sentences=limit).cut([5], [STOP, 6, STOP, 7]) == (left, reason)


def test_sentences_of_the_output_count() -> None:
    assert stopping(sentences=2).cut([5, STOP], [6, STOP, 7]) == ((6, STOP), "sentence_limit")


def test_room_is_what_the_limit_leaves() -> None:
    assert stopping(5).room([1, 2, 3]) == 2


tokens = st.lists(st.integers(0, 6), max_size=10)
limits = st.integers(1, 24)
sentence_limits = st.none() | st.integers(1, 4)


@st.composite
def outputs(draw: st.DrawFn) -> tuple[Stopping, list[int]]:
    """A rule, and an output it has not ended yet."""
    rule = stopping(draw(limits), draw(sentence_limits))
    text = draw(tokens)
    while rule.cut([], text)[1] is not None:
        text = text[:-1]
    return rule, text


@given(outputs(), tokens)
def test_a_cut_is_a_prefix_and_never_over_the_limit(
    case: tuple[Stopping, list[int]], new: list[int]
) -> None:
    rule, output = case
    left, reason = rule.cut(output, new)
    assert left == tuple(new[: len(left)])
    assert len(output) + len(left) <= rule.limits.max_new_tokens
    assert END not in left[:-1]
    if reason is None:
        assert len(left) == len(new)


@given(outputs(), tokens)
def test_a_block_at_once_ends_where_its_tokens_one_by_one_end(
    case: tuple[Stopping, list[int]], new: list[int]
) -> None:
    rule, output = case
    expected: list[int] = []
    why = None
    for token in new:
        left, why = rule.cut([*output, *expected], [token])
        expected += left
        if why is not None:
            break
    assert rule.cut(output, new) == (tuple(expected), why)
