"""What every gate obeys; those of a new one are found by their registration."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecloud.contracts import TokenStats
from edgecloud.decoding.gates import GATES, TERMS, Calibration, Gate, Thresholds
from edgecloud.decoding.speculative import Speculation
from edgecloud.settings.options import OPTIONS
from tests.properties.loop import Case, run_speculative

NAMES = sorted(GATES)
_WEIGHTS = {"entropy": 1.0, "margin": -1.0, "logprob": -0.5, "recent_corrections": 0.2}
THRESHOLDS = Thresholds(
    calibration=Calibration(-2.0, tuple(_WEIGHTS.get(term, 0.0) for term in TERMS))
)
"""With a calibration that finds a disagreement the likelier, the larger the doubt."""

stats = st.builds(
    TokenStats,
    entropy=st.floats(0, 12),
    margin=st.floats(0, 1),
    logprob=st.floats(-30, 0),
    position=st.integers(0, 60),
    recent_corrections=st.integers(0, 8),
)
blocks = st.lists(stats, min_size=1, max_size=6)
doubts = st.tuples(st.floats(0, 3), st.floats(0, 1), st.floats(0, 5))


def assert_pure(gate: Gate, block: list[TokenStats]) -> None:
    before = deepcopy(block)
    answers = [gate(block, THRESHOLDS) for _ in range(2)]
    assert block == before
    assert answers[0] is answers[1]
    assert isinstance(answers[0], bool)
    # A block is a sequence: no gate may count on it being a list.
    assert gate(tuple(block), THRESHOLDS) is answers[0]


def assert_doubt_never_asks_less(
    gate: Gate, block: list[TokenStats], at: int, doubt: tuple[float, float, float]
) -> None:
    token = block[at % len(block)]
    unsure = list(block)
    unsure[at % len(block)] = replace(
        token,
        entropy=token.entropy + doubt[0],
        margin=max(0.0, token.margin - doubt[1]),
        logprob=token.logprob - doubt[2],
    )
    assert not gate(block, THRESHOLDS) or gate(unsure, THRESHOLDS)


@pytest.mark.parametrize("name", NAMES)
@given(block=blocks)
def test_a_gate_is_a_pure_function_of_the_block(name: str, block: list[TokenStats]) -> None:
    assert_pure(GATES[name], block)


@pytest.mark.parametrize("name", NAMES)
@given(block=blocks, at=st.integers(0, 5), doubt=doubts)
def test_a_larger_doubt_never_asks_less(
    name: str, block: list[TokenStats], at: int, doubt: tuple[float, float, float]
) -> None:
    assert_doubt_never_asks_less(GATES[name], block, at, doubt)


@pytest.mark.parametrize("name", NAMES)
@given(block=blocks, more=stats)
def test_a_token_more_never_asks_less(name: str, block: list[TokenStats], more: TokenStats) -> None:
    gate = GATES[name]
    assert not gate(block, THRESHOLDS) or gate([*block, more], THRESHOLDS)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scope", ["block", "token"])
def test_the_loop_escalates_what_the_gate_asks_about_and_nothing_else(
    name: str, scope: str
) -> None:
    settings = Speculation(gate=name, thresholds=THRESHOLDS, gate_scope=scope)
    case = Case(settings=settings)
    cloud = case.cloud()
    run = run_speculative(case, case.edge(), cloud)
    escalated = [event for event in run.trace.of("draft") if event.data["escalated"]]
    assert len(cloud.calls) == len(escalated)
    if name in ("never", "always"):
        rounds = len(run.trace.of("draft"))
        assert len(escalated) == (rounds if name == "always" else 0)


def test_every_gate_is_a_choice_of_the_option() -> None:
    (option,) = (option for option in OPTIONS if option.name == "gate_type")
    assert sorted(option.choices) == NAMES


def test_gates_that_break_these_laws_are_caught() -> None:
    asked: list[int] = []

    def remembers(block: object, thresholds: Thresholds) -> bool:
        asked.append(1)
        return len(asked) % 2 == 0

    def contrary(block: list[TokenStats], thresholds: Thresholds) -> bool:
        return block[0].entropy < thresholds.entropy

    sure = [TokenStats(entropy=0.1, margin=0.9, logprob=-0.1)]
    with pytest.raises(AssertionError):
        assert_pure(remembers, sure)
    with pytest.raises(AssertionError):
        assert_doubt_never_asks_less(contrary, sure, 0, (3.0, 0.0, 0.0))  # type: ignore[arg-type]
