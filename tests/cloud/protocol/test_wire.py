"""Messages: what is packed is unpacked, and nothing else passes."""

from __future__ import annotations

import math
import struct
import tracemalloc
import zlib
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from edgecloud.cloud.protocol import wire
from edgecloud.contracts import (
    LOG_MEL,
    Acceptance,
    CloudChunk,
    CloudCost,
    Prompt,
    StopLimits,
    Verdict,
)
from edgecloud.contracts.sampling import GREEDY, MOST_WEIGHT, WIDEST, Distribution, Sampling
from edgecloud.errors import WireError

SESSION = bytes(8)

token = st.integers(0, 200_000)
counts = st.integers(0, 2**40)
costs = st.builds(
    CloudCost,
    prefill_tokens=counts,
    verified_tokens=counts,
    ingested_tokens=counts,
    generated_tokens=counts,
    busy_s=st.floats(0, 1e6),
    bytes_up=counts,
    bytes_down=counts,
)


LONGEST = 16


@st.composite
def verdicts(draw: st.DrawFn, longest: int = 16) -> Verdict:
    drafted = draw(st.integers(1, longest))
    kept = draw(st.integers(0, drafted))
    chosen = draw(token if kept < drafted else st.none() | token)
    return Verdict(
        kept=kept,
        token=chosen,
        ranks=tuple(draw(st.lists(token, min_size=drafted, max_size=drafted))),
        top_probs=tuple(
            draw(st.lists(st.floats(0, 1, width=32), min_size=drafted, max_size=drafted))
        ),
        continuation=()
        if chosen is None
        else tuple(draw(st.lists(token, max_size=0 if longest == 8 else LONGEST))),
        regret=draw(st.floats(0, 100)),
        cost=draw(costs),
    )


# Anything msgpack can carry.
values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=16),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(verdicts())
def test_a_verdict_arrives_as_it_was_sent(verdict: Verdict) -> None:
    seq, what, rest = wire.unpack(wire.pack_verdict(7, SESSION, verdict))
    assert (seq, what, rest.pop(0)) == (7, "verdict", SESSION)
    arrived = wire.unpack_verdict(
        rest,
        drafted=len(verdict.ranks),
        continuation=LONGEST,
        bytes_up=verdict.cost.bytes_up,
        bytes_down=verdict.cost.bytes_down,
    )
    assert arrived == verdict


@given(verdicts(longest=8))
def test_a_verdict_on_eight_tokens_is_below_200_bytes(verdict: Verdict) -> None:
    assert len(wire.pack_verdict(2**20, SESSION, verdict)) < 200


@given(st.lists(token, max_size=6), costs, st.booleans())
def test_a_chunk_arrives_as_it_was_sent(tokens: list[int], cost: CloudCost, last: bool) -> None:
    chunk = CloudChunk(tuple(tokens), cost, last)
    _, what, rest = wire.unpack(wire.pack_chunk(3, SESSION, chunk, at=7))
    assert what == "chunk"
    arrived = wire.unpack_chunk(rest[1:], bytes_up=cost.bytes_up, bytes_down=cost.bytes_down)
    assert arrived == (chunk, 7)


def some_arrays(dtype: Any, sides: int, elements: Any = None) -> Any:
    shapes = st_numpy.array_shapes(min_dims=sides, max_dims=sides, max_side=9)
    return st_numpy.arrays(dtype, shapes, elements=elements)


log_mels = some_arrays(np.float16, 2, st.floats(-4, 4, width=16))
several = st.fixed_dictionaries(
    {"input_features": some_arrays(np.float16, 3, st.floats(-4, 4, width=16))},
    optional={
        "mask": some_arrays(np.bool_, 2),
        "sizes": some_arrays(np.int64, 1),
        "input_mode": some_arrays(np.int32, 1),
    },
)


@given(
    st.lists(token, min_size=1, max_size=12),
    st.just({}) | log_mels.map(lambda found: {LOG_MEL: found}) | several,
)
def test_a_prompt_arrives_bit_for_bit(ids: list[int], given: dict[str, Any]) -> None:
    prompt = Prompt(tuple(ids), given)
    _, _, rest = wire.unpack(wire.pack(1, "open", *wire.pack_prompt(prompt)))
    arrived = wire.unpack_prompt(*rest)
    assert arrived.token_ids == tuple(ids)
    assert arrived.arrays.keys() == given.keys()
    for name, array in arrived.arrays.items():
        assert (array.dtype, array.shape) == (given[name].dtype, given[name].shape)
        assert array.tobytes() == given[name].tobytes()
    assert arrived.digest() == prompt.digest()


def test_version_2_is_left_only_for_what_it_cannot_say() -> None:
    log_mel = np.ones((3, 4), np.float16)
    assert wire.is_plain(Prompt((1,)))
    assert wire.is_plain(Prompt((1,), {LOG_MEL: log_mel}))
    assert wire.pack_prompt(Prompt((1,), {LOG_MEL: log_mel}))[1] == [3, 4]
    for other in ({LOG_MEL: log_mel[None]}, {"audio": log_mel}, {LOG_MEL: log_mel > 0}):
        assert not wire.is_plain(Prompt((1,), other))
    assert not wire.is_plain(Prompt((1,), {LOG_MEL: log_mel, "mask": log_mel > 0}))


def test_features_that_are_not_contiguous_arrive_too() -> None:
    features = np.arange(12, dtype=np.float16).reshape(3, 4).T
    arrived = wire.unpack_prompt(*wire.pack_prompt(Prompt((1,), {LOG_MEL: features})))
    assert arrived.features is not None
    assert np.array_equal(arrived.features, features)


def test_features_are_smaller_than_they_are_raw() -> None:
    time_s = np.linspace(0, 3, 400)
    features = np.outer(np.linspace(0.5, 1, 128), np.sin(time_s)).astype(np.float16)
    _, _, packed = wire.pack_prompt(Prompt((1,), {LOG_MEL: features}))
    assert packed is not None
    assert len(packed) < features.nbytes


@given(st.binary(max_size=64))
def test_noise_is_no_message(noise: bytes) -> None:
    try:
        wire.unpack(noise)
    except WireError:
        return
    assert msgpack.unpackb(noise)[0] == wire.VERSION


@given(values)
def test_other_data_is_no_message(value: Any) -> None:
    message = msgpack.packb(value)
    try:
        seq, what, rest = wire.unpack(message)
    except WireError:
        return
    assert isinstance(seq, int)
    assert isinstance(what, str)
    assert isinstance(rest, list)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        msgpack.packb([1, 1, "verdict"]),
        msgpack.packb([2, 1]),
        msgpack.packb({"version": 1}),
        msgpack.packb([2, "1", "verdict"]),
        msgpack.packb([2, 1, 1]),
        wire.pack(1, "close") + b"\x00",
        wire.pack(1, "close")[:-1],
        b"\x91" * 4000 + b"\x01",
        b"\xdd\xff\xff\xff\xff",
        b"\x93\x02\x01\xc7\x03\xff123",  # a time stamp of a length there is none of
        b"\x93\x02\x01\xa2\xff\xff",
    ],
)
def test_what_is_not_of_this_version_is_refused(message: bytes) -> None:
    with pytest.raises(WireError):
        wire.unpack(message)


@given(st.lists(values, max_size=8), st.integers(1, 8))
def test_other_data_is_no_verdict(rest: list[Any], drafted: int) -> None:
    try:
        verdict = wire.unpack_verdict(
            rest, drafted=drafted, continuation=LONGEST, bytes_up=0, bytes_down=0
        )
    except WireError:
        return
    assert 0 <= verdict.kept <= drafted == len(verdict.ranks)


@given(verdicts(), st.integers(0, 6), values)
def test_a_verdict_with_one_value_changed_is_refused_or_fits_the_draft(
    verdict: Verdict, place: int, value: Any
) -> None:
    _, _, rest = wire.unpack(wire.pack_verdict(1, SESSION, verdict))
    rest.pop(0)
    rest[place] = value
    drafted = len(verdict.ranks)
    try:
        arrived = wire.unpack_verdict(
            rest, drafted=drafted, continuation=LONGEST, bytes_up=0, bytes_down=0
        )
    except WireError:
        return
    assert 0 <= arrived.kept <= drafted == len(arrived.ranks) == len(arrived.top_probs)
    assert arrived.token is not None or arrived.kept == drafted
    assert all(math.isfinite(prob) for prob in arrived.top_probs)
    assert math.isfinite(arrived.cost.busy_s)


@given(st.lists(values, max_size=4))
def test_other_data_is_no_chunk(rest: list[Any]) -> None:
    with pytest.raises(WireError):
        wire.unpack_chunk(rest, bytes_up=0, bytes_down=0)


def test_numbers_that_json_cannot_hold_are_refused() -> None:
    good = [1, 4, [0], struct.pack("<f", 0.5), [], 0.0, [0, 1, 0, 1, 0.1]]
    wire.unpack_verdict(good, drafted=1, continuation=0, bytes_up=0, bytes_down=0)
    for bad in (math.nan, math.inf):
        with pytest.raises(WireError):
            wire.unpack_verdict(
                [*good[:3], struct.pack("<f", bad), *good[4:]],
                drafted=1,
                continuation=0,
                bytes_up=0,
                bytes_down=0,
            )
        with pytest.raises(WireError):
            wire.unpack_verdict(
                [*good[:5], bad, good[6]], drafted=1, continuation=0, bytes_up=0, bytes_down=0
            )
        with pytest.raises(WireError):
            wire.unpack_verdict(
                [*good[:6], [0, 1, 0, 1, bad]], drafted=1, continuation=0, bytes_up=0, bytes_down=0
            )


@given(values, values, values)
def test_other_data_is_no_prompt(ids: Any, shape: Any, features: Any) -> None:
    try:
        prompt = wire.unpack_prompt(ids, shape, features)
    except WireError:
        return
    assert prompt.token_ids


IDS = struct.pack("<i", 5)


@pytest.mark.parametrize(
    "ids, shape, features",
    [
        (b"", None, None),
        (b"123", None, None),
        (IDS, [2, 2], None),
        (IDS, None, zlib.compress(bytes(8))),
        (IDS, [2, 2], b"not deflated"),
        (IDS, [2, 2], zlib.compress(bytes(7))),
        (IDS, [2, 2], zlib.compress(bytes(9))),
        (IDS, [2, 2], zlib.compress(bytes(8))[:-6]),
        (IDS, [2, 2], zlib.compress(bytes(8)) + b"more"),
        (IDS, [2], zlib.compress(bytes(4))),
        (IDS, [0, 2], zlib.compress(b"")),
        (IDS, [-2, -2], zlib.compress(bytes(8))),
        (IDS, [2**31, 2**31], zlib.compress(bytes(8))),
        (IDS, [1, 1], zlib.compress(b"\x00\x7c")),
        # A small message that would inflate to a gigabyte.
        (IDS, [2, 2], zlib.compress(bytes(10_000_000))),
        # Arrays by name.
        (IDS, [], zlib.compress(b"")),
        (IDS, [["a", "float16", [2]]], zlib.compress(bytes(3))),
        (IDS, [["a", "float16", [2]]], None),
        (IDS, [["a", "float64", [1]]], zlib.compress(bytes(8))),
        (IDS, [["a", "object", [1]]], zlib.compress(bytes(8))),
        (IDS, [["a", ["bool"], [1]]], zlib.compress(bytes(1))),
        (IDS, [["A", "bool", [1]]], zlib.compress(bytes(1))),
        (IDS, [["__init__", "bool", [1]]], zlib.compress(bytes(1))),
        (IDS, [["a", "bool", []]], zlib.compress(bytes(1))),
        (IDS, [["a", "bool", [1] * 5]], zlib.compress(bytes(1))),
        (IDS, [["a", "bool", [1]]], zlib.compress(b"\x02")),
        (IDS, [["a", "float16", [1]]], zlib.compress(b"\x00\x7c")),
        (IDS, [["b", "bool", [1]], ["a", "bool", [1]]], zlib.compress(bytes(2))),
        (IDS, [["a", "bool", [1]], ["a", "bool", [1]]], zlib.compress(bytes(2))),
        (IDS, [[chr(97 + i), "bool", [1]] for i in range(9)], zlib.compress(bytes(9))),
        (IDS, [["a", "int64", [1 << 20]], ["b", "bool", [1 << 10]]], zlib.compress(bytes(9))),
    ],
)
def test_a_prompt_whose_sizes_do_not_fit_is_refused(ids: Any, shape: Any, features: Any) -> None:
    with pytest.raises(WireError):
        wire.unpack_prompt(ids, shape, features)


@pytest.mark.parametrize("bad", [0, -1, 1.5, "3", None, [1]])
def test_limits_and_thresholds_are_whole_numbers(bad: Any) -> None:
    if bad != 0:
        with pytest.raises(WireError):
            wire.limits_of(bad, None)
    with pytest.raises(WireError):
        wire.acceptance_of(["rank", bad, 0.3, 1.0])
    if bad is not None:
        with pytest.raises(WireError):
            wire.limits_of(5, bad)
    assert wire.limits_of(5, None) == StopLimits(5, None)
    assert wire.limits_of(0, None) == StopLimits(0, None)


@pytest.mark.parametrize("bad", [0.0, 1.1, -0.5, math.nan, 1, "0.3", None])
def test_a_probability_ratio_is_above_0_and_at_most_1(bad: Any) -> None:
    with pytest.raises(WireError):
        wire.acceptance_of(["bounded", 20, bad, 1.0])


@pytest.mark.parametrize("bad", [-0.1, math.nan, 3, None])
def test_a_budget_of_regret_is_at_least_0(bad: Any) -> None:
    with pytest.raises(WireError):
        wire.acceptance_of(["bounded", 20, 0.3, bad])


@given(st.integers(1, 100), st.floats(0.01, 1), st.floats(0, math.inf))
def test_an_acceptance_arrives_as_it_was_sent(rank: int, ratio: float, regret: float) -> None:
    acceptance = Acceptance("bounded", rank, ratio, regret)
    _, _, values = wire.unpack(wire.pack(1, "verify", wire.pack_acceptance(acceptance)))
    assert wire.acceptance_of(values[0]) == acceptance


samplings = st.builds(
    Sampling,
    st.floats(0, 100),
    st.floats(0, 1, exclude_min=True),
    st.integers(0, 2**63 - 1),
)


@given(samplings)
def test_a_prompt_is_opened_with_its_way_of_choosing_tokens(sampling: Sampling) -> None:
    _, _, rest = wire.unpack(wire.pack(0, "open", *wire.pack_open(Prompt((1, 2)), sampling)))
    assert wire.unpack_open(rest) == (Prompt((1, 2)), sampling)


@pytest.mark.parametrize(
    "bad",
    [
        None,
        [],
        [0.5, 1.0],
        [0.5, 1.0, 3, 4],
        [math.nan, 1.0, 3],
        [math.inf, 1.0, 3],
        [-0.5, 1.0, 3],
        [1, 1.0, 3],
        [0.5, 0.0, 3],
        [0.5, 1.5, 3],
        [0.5, math.nan, 3],
        [0.5, 1.0, -1],
        [0.5, 1.0, True],
        [0.5, 1.0, 1 << 63],
        [0.5, 1.0, 3.0],
    ],
)
def test_another_way_of_choosing_tokens_is_refused(bad: Any) -> None:
    ids, shape, features, _ = wire.pack_open(Prompt((1, 2)), GREEDY)
    with pytest.raises(WireError):
        wire.unpack_open([ids, shape, features, bad])


def test_an_opening_that_lacks_a_value_is_refused() -> None:
    with pytest.raises(WireError, match="were expected"):
        wire.unpack_open(wire.pack_open(Prompt((1, 2)))[:3])


entries = st.dictionaries(st.integers(0, 2**31 - 1), st.integers(1, MOST_WEIGHT), min_size=1)
distributions = entries.map(
    lambda found: Distribution(tuple(sorted(found)), tuple(found[token] for token in sorted(found)))
)


@given(st.lists(distributions, max_size=5))
def test_what_a_draft_was_drawn_from_arrives_as_it_was_sent(drawn: list[Distribution]) -> None:
    _, _, rest = wire.unpack(wire.pack(1, "verify", wire.pack_drawn_from(drawn)))
    assert wire.draft_probabilities_of(rest[0]) == drawn
    assert [len(each) for each in rest[0]] == [6 * len(each.ids) for each in drawn]


@given(values)
def test_other_data_is_no_distribution(value: Any) -> None:
    try:
        found = wire.draft_probabilities_of(value)
    except WireError:
        return
    assert all(0 < each.probability_of(token) <= 1 for each in found for token in each.ids)


def entry(*pairs: tuple[int, int]) -> bytes:
    ids, weights = zip(*pairs, strict=True)
    return struct.pack(f"<{len(ids)}I{len(ids)}H", *ids, *weights)


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        entry((1, 5))[:5],
        entry((1, 0)),
        entry((1, 5), (1, 5)),
        entry((2, 5), (1, 5)),
        entry((1 << 31, 5)),
        entry(*((token, 1) for token in range(WIDEST + 1))),
        [1, 5],
        "123456",
        None,
    ],
)
def test_a_distribution_that_is_none_is_refused(bad: Any) -> None:
    wire.draft_probabilities_of([entry((1, 5), (2, 6))])
    with pytest.raises(WireError):
        wire.draft_probabilities_of([entry((1, 5)), bad])


def test_lists_that_say_to_be_longer_than_the_message_take_no_memory() -> None:
    # Each of 500 says that it holds a million values; there are as many, for the innermost of them.
    message = b"\x94\x02\x01\xa6verify" + b"\xdd\x00\x0f\xff\xff" * 500 + bytes(1 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(WireError, match="not a message"):
            wire.unpack(message)
        assert tracemalloc.get_traced_memory()[1] < 20 * len(message)
    finally:
        tracemalloc.stop()


def test_of_many_messages_no_more_than_asked_for_are_taken() -> None:
    body = wire.pack_frames([b"one", b"two", b"three"])
    assert wire.unpack_frames(body, most=2) == ([b"one", b"two"], wire.pack_frames([b"three"]))
    assert wire.unpack_frames(body, most=3) == ([b"one", b"two", b"three"], b"")
