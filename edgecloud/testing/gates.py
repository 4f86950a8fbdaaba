"""The laws of gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from edgecloud.contracts import TokenStats
from edgecloud.contracts.ranges import Range, value_types
from edgecloud.decoding.gates import TERMS, Calibration, Gate, Thresholds
from edgecloud.testing.laws import Law, check, searched

__all__ = ["GATE_LAWS", "THRESHOLDS", "blocks", "check_gate", "stats", "with_numbers"]

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
"""What the edge may know of a drafted token."""
blocks = st.lists(stats, min_size=1, max_size=6)
"""What a gate may be asked about."""


def _within(bounds: Range) -> st.SearchStrategy[float]:
    low, high = bounds.minimum, bounds.maximum
    return st.floats(-30 if low is None else low, 12 if high is None else high)


_OTHERS: dict[str, dict[str, Any]] = {
    **{
        f"{name}_threshold": {name: _within(found.range)}
        for name, found in value_types(Thresholds).items()
    },
    "calibration": {"calibration": st.builds(Calibration, intercept=st.floats(-20, 20))},
}
"""Each setting that thresholds hold, as :class:`Thresholds` has it, and what it may be."""


def _answers(gate: Gate, options: Sequence[str]) -> None:
    def holds(block: list[TokenStats]) -> None:
        answer = gate(block, THRESHOLDS)
        assert isinstance(answer, bool), f"{answer!r} for {block}"

    searched(holds, block=blocks)


def _is_pure(gate: Gate, options: Sequence[str]) -> None:
    def holds(block: list[TokenStats], other: list[TokenStats]) -> None:
        before = deepcopy(block)
        answer = gate(block, THRESHOLDS)
        assert block == before, f"{before}, which it changed"
        gate(other, THRESHOLDS)
        assert gate(block, THRESHOLDS) == answer, f"{block}, asked about again"
        # A block is a sequence: no gate may count on it being a list.
        assert gate(tuple(block), THRESHOLDS) == answer, f"{block} as a tuple"

    searched(holds, simplify=False, block=blocks, other=blocks)


def _larger_doubt(gate: Gate, options: Sequence[str]) -> None:
    def holds(block: list[TokenStats], at: int, doubt: tuple[float, float, float]) -> None:
        token = block[at % len(block)]
        unsure = list(block)
        unsure[at % len(block)] = replace(
            token,
            entropy=token.entropy + doubt[0],
            margin=max(0.0, token.margin - doubt[1]),
            logprob=token.logprob - doubt[2],
        )
        if gate(block, THRESHOLDS):
            assert gate(unsure, THRESHOLDS), f"{block}, less sure as {unsure}"

    doubts = st.tuples(st.floats(0, 3), st.floats(0, 1), st.floats(0, 5))
    searched(holds, block=blocks, at=st.integers(0, 5), doubt=doubts)


def _own_settings(gate: Gate, options: Sequence[str]) -> None:
    others: dict[str, Any] = {}
    for name, values in _OTHERS.items():
        others |= {} if name in options else values

    def holds(block: list[TokenStats], changed: dict[str, Any]) -> None:
        answer = gate(block, THRESHOLDS)
        assert gate(block, replace(THRESHOLDS, **changed)) == answer, f"{block} with {changed}"

    searched(holds, block=blocks, changed=st.fixed_dictionaries(others))


GATE_LAWS: tuple[Law[Gate], ...] = (
    Law("answers", "the answer is True or False for every block of one token or more", _answers),
    Law(
        "pure", "the answer depends on block and thresholds alone, and leaves them alone", _is_pure
    ),
    Law(
        "doubt",
        "whoever asks about a block asks about it when the edge is less sure of a token: of more entropy, "
        "less margin, less log probability",
        _larger_doubt,
    ),
    Law(
        "settings",
        "a threshold that its registration does not name changes no answer: it would not count where runs "
        "are compared",
        _own_settings,
    ),
)
"""What every gate obeys."""


def with_numbers(gate: Gate, own: Mapping[str, float]) -> Gate:
    """The gate with the numbers that it alone knows."""
    numbers = dict(own)

    def numbered(block: Sequence[TokenStats], thresholds: Thresholds) -> bool:
        return gate(block, replace(thresholds, own=numbers))

    return numbered


def check_gate(
    gate: Gate, *, options: Sequence[str] = (), own: Mapping[str, float] | None = None
) -> None:
    """Hold a gate to :data:`GATE_LAWS`; ``options`` and ``own`` are those that it is registered with.

    Raises:
        AssertionError: it breaks one; the message has the law and a block that it is broken by.
    """
    check(GATE_LAWS, with_numbers(gate, own or {}), options)
