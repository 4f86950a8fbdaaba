"""When to ask the cloud: worked examples, and what every threshold gate obeys."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecloud.contracts import TokenStats
from edgecloud.decoding.gates import GATES, TERMS, Calibration, Thresholds

probability = st.floats(0, 1)
nats = st.floats(0, 12)
stats = st.builds(TokenStats, entropy=nats, margin=probability, logprob=st.floats(-30, 0))
blocks = st.lists(stats, min_size=1, max_size=8)


def block(**readings: list[float]) -> list[TokenStats]:
    """Tokens with the given readings; the others say "sure"."""
    count = len(next(iter(readings.values())))
    sure = {"entropy": 0.0, "margin": 1.0, "logprob": 0.0}
    return [
        TokenStats(**{name: readings.get(name, [value] * count)[i] for name, value in sure.items()})
        for i in range(count)
    ]


def test_the_gates_are_those_of_the_guide_and_the_two_ends() -> None:
    assert set(GATES) == {
        "never",
        "always",
        "entropy",
        "margin",
        "logprob",
        "calibrated",
        "mean-logprob",
    }


@pytest.mark.parametrize("threshold, asks", [(0.3, True), (0.49, True), (0.5, False), (0.9, False)])
def test_calibrated_asks_when_a_rejection_is_likelier(threshold: float, asks: bool) -> None:
    model = Calibration(-2.0, weights(entropy=1.0))
    drafted = block(entropy=[0.2, 2.0, 0.4])
    thresholds = Thresholds(calibrated=threshold, calibration=model)
    assert GATES["calibrated"](drafted, thresholds) is asks


def weights(**values: float) -> tuple[float, ...]:
    return tuple(values.get(term.replace("*", "_times_"), 0.0) for term in TERMS)


def test_a_calibration_weighs_every_feature_and_every_product() -> None:
    token = TokenStats(entropy=1.0, margin=0.5, logprob=-2.0, position=4, recent_corrections=2)
    model = Calibration(
        0.1,
        weights(entropy=1.0, margin=-1.0, logprob=0.5, position=0.25, recent_corrections=0.2),
    )
    # 0.1 + 1 - 0.5 - 1 + 1 + 0.4 = 1: the logistic function of 1.
    assert model.rejection(token) == pytest.approx(1 / (1 + math.exp(-1)))
    # margin * logprob = -1, position squared = 16: 0.5 - 2 * -1 - 16 / 32 = 2.
    model = Calibration(0.5, weights(margin_times_logprob=-2.0, position_times_position=-1 / 32))
    assert model.rejection(token) == pytest.approx(1 / (1 + math.exp(-2)))


def test_extreme_features_overflow_nothing() -> None:
    model = Calibration(1e6, (1.0,) * len(TERMS))
    assert model.rejection(TokenStats(0.0, 0.0, 0.0)) == pytest.approx(1.0)


@pytest.mark.parametrize("threshold, asks", [(1.5, True), (1.69, True), (1.7, False), (4.0, False)])
def test_entropy_asks_when_the_largest_of_the_block_is_above(threshold: float, asks: bool) -> None:
    drafted = block(entropy=[0.2, 1.7, 0.4])
    assert GATES["entropy"](drafted, Thresholds(entropy=threshold)) is asks


@pytest.mark.parametrize("threshold, asks", [(0.1, True), (0.05, False), (0.0, False)])
def test_margin_asks_when_somewhere_the_top_two_are_closer(threshold: float, asks: bool) -> None:
    drafted = block(margin=[0.9, 0.05])
    assert GATES["margin"](drafted, Thresholds(margin=threshold)) is asks


@pytest.mark.parametrize("threshold, asks", [(-2.0, True), (-2.3, False), (-3.0, False)])
def test_logprob_asks_when_some_token_is_less_likely(threshold: float, asks: bool) -> None:
    drafted = block(logprob=[-0.1, -2.3])
    assert GATES["logprob"](drafted, Thresholds(logprob=threshold)) is asks


@given(blocks)
def test_never_and_always_look_at_nothing(drafted: list[TokenStats]) -> None:
    assert not GATES["never"](drafted, Thresholds())
    assert GATES["always"](drafted, Thresholds())


@given(blocks, nats, nats)
def test_a_higher_entropy_threshold_never_asks_more(
    drafted: list[TokenStats], one: float, other: float
) -> None:
    low, high = sorted((one, other))
    if GATES["entropy"](drafted, Thresholds(entropy=high)):
        assert GATES["entropy"](drafted, Thresholds(entropy=low))


@given(blocks, probability, probability)
def test_a_higher_margin_threshold_never_asks_less(
    drafted: list[TokenStats], one: float, other: float
) -> None:
    low, high = sorted((one, other))
    if GATES["margin"](drafted, Thresholds(margin=low)):
        assert GATES["margin"](drafted, Thresholds(margin=high))


@given(blocks, st.floats(-30, 0), st.floats(-30, 0))
def test_a_higher_logprob_threshold_never_asks_less(
    drafted: list[TokenStats], one: float, other: float
) -> None:
    low, high = sorted((one, other))
    if GATES["logprob"](drafted, Thresholds(logprob=low)):
        assert GATES["logprob"](drafted, Thresholds(logprob=high))


@given(st.sampled_from(sorted(GATES)), blocks, stats)
def test_a_longer_block_is_asked_about_at_least_as_often(
    name: str, drafted: list[TokenStats], more: TokenStats
) -> None:
    if GATES[name](drafted, Thresholds()):
        assert GATES[name]([*drafted, more], Thresholds())
