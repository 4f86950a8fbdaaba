"""What every gate obeys; those of a new one, and of a plug-in, are found by their registration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from edgecloud.contracts import Draft, TokenStats
from edgecloud.decoding.gates import GATES, Gate, Thresholds
from edgecloud.decoding.speculative import Speculation
from edgecloud.settings.parts import settings_of
from edgecloud.testing import GATE_LAWS, Law, check_gate
from edgecloud.testing.gates import THRESHOLDS, with_numbers
from tests.properties.loop import Case, run_speculative

NAMES = sorted(GATES)


def mean(block: Sequence[TokenStats], thresholds: Thresholds) -> bool:
    """Ask when the block's entropy is above the threshold on average."""
    return sum(token.entropy for token in block) / len(block) > thresholds.entropy


@pytest.mark.parametrize("law", GATE_LAWS, ids=lambda law: law.name)
@pytest.mark.parametrize("name", NAMES)
def test_every_gate_obeys(name: str, law: Law[Gate]) -> None:
    law.check(
        with_numbers(GATES[name], GATES.part(name).own), sorted(settings_of("gate_type", name))
    )


def remembers() -> Gate:
    asked: list[int] = []

    def gate(block: Sequence[TokenStats], thresholds: Thresholds) -> bool:
        asked.append(1)
        return len(asked) % 2 == 0

    return gate


def tidies(block: Sequence[TokenStats], thresholds: Thresholds) -> bool:
    if isinstance(block, list):
        block.sort(key=lambda token: token.entropy)
    return True


def lists_alone(block: Sequence[TokenStats], thresholds: Thresholds) -> bool:
    return isinstance(block, list)


def counts(block: Sequence[TokenStats], thresholds: Thresholds) -> bool:
    return sum(token.entropy > 5 for token in block)  # type: ignore[return-value]


def contrary(block: Sequence[TokenStats], thresholds: Thresholds) -> bool:
    return block[0].entropy < 1.5


@pytest.mark.parametrize(
    "gate, law",
    [
        (remembers(), "pure"),
        (tidies, "pure"),
        (lists_alone, "pure"),
        (counts, "answers"),
        (contrary, "doubt"),
        (lambda block, _: block[0].margin > 0.5, "doubt"),
        (lambda block, _: block[0].logprob > -2, "doubt"),
        (mean, "settings"),  # it is registered without its threshold
    ],
)
def test_a_gate_that_breaks_a_law_is_found_by_that_law(gate: Gate, law: str) -> None:
    (broken,) = (some for some in GATE_LAWS if some.name == law)
    with pytest.raises(AssertionError):
        broken.check(gate, ())
    with pytest.raises(AssertionError, match="broken by"):
        check_gate(gate)


def test_every_law_is_broken_by_a_gate_above() -> None:
    (marked,) = test_a_gate_that_breaks_a_law_is_found_by_that_law.pytestmark  # type: ignore[attr-defined]
    assert {law for _, law in marked.args[1]} == {law.name for law in GATE_LAWS}


def test_a_gate_that_looks_at_the_mean_is_a_gate() -> None:
    check_gate(mean, options=("entropy_threshold",))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scope", ["block", "token"])
def test_the_loop_escalates_what_the_gate_asks_about_and_nothing_else(
    name: str, scope: str
) -> None:
    settings = Speculation(
        gate=name, thresholds=replace(THRESHOLDS, own=GATES.part(name).own), gate_scope=scope
    )
    case = Case(settings=settings)
    cloud = case.cloud()
    run = run_speculative(case, case.edge(), cloud)
    escalated = [event for event in run.trace.of(Draft) if event.escalated]
    assert len(cloud.calls) == len(escalated)
    if name in ("never", "always"):
        rounds = len(run.trace.of(Draft))
        assert len(escalated) == (rounds if name == "always" else 0)


@pytest.mark.parametrize(
    "scope, sizes", [("block", lambda size: size == 3), ("token", lambda size: size == 1)]
)
def test_a_gate_is_asked_about_whole_blocks_or_about_each_token_alone(
    scope: str, sizes: Callable[[int], bool]
) -> None:
    asked: list[int] = []

    def listens(block: Sequence[TokenStats], thresholds: Thresholds) -> bool:
        asked.append(len(block))
        return mean(block, thresholds)

    with GATES.replaced("listens", listens):
        case = Case(settings=Speculation(gate="listens", gate_scope=scope, k=3))
        run_speculative(case, case.edge(), case.cloud())
    assert asked
    # The last block may be cut short by the end of the text.
    assert sum(map(sizes, asked)) >= len(asked) - 1
