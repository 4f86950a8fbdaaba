"""Decoding over what a trace recorded gives what decoding over the models gives, on any clock."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecloud.contracts import Commit, Draft, Finish, Trace, Verify
from edgecloud.contracts.trace import AnyEvent
from edgecloud.decoding.gates import Thresholds
from edgecloud.decoding.recorded import differing
from edgecloud.decoding.speculation_controller import CloudBudget
from edgecloud.decoding.speculative import Speculation
from edgecloud.errors import JournalError
from edgecloud.hardware.profiles import CloudCosts, EdgeCosts, HardwareProfile, LinkCosts
from tests.properties.loop import (
    Case,
    cases,
    ideas,
    run_modelled,
    run_recorded,
    run_speculative,
)

ELSEWHERE = HardwareProfile(
    "elsewhere",
    EdgeCosts(0.3, 0.07, 0.01, ((1, 1.0), (4, 1.7))),
    CloudCosts(0.9, 0.2, 0.25, 0.02, ((1, 1.0), (3, 2.0))),
    LinkCosts(0.4, 500.0, 900.0),
    source="made up",
)
TIMELESS = {
    **{name: some for name, some in ideas.items() if name not in ("adaptive_k", "draft_ahead")},
    "hand_off": st.just(False),
    "budget": st.builds(CloudBudget, tokens=st.just(math.inf) | st.integers(0, 20)),
}
"""Ideas by which no token hangs on time."""


def written(trace: Trace) -> str:
    return json.dumps(trace.to_json())


@given(cases(**TIMELESS), st.booleans())
def test_a_trace_decoded_on_other_hardware_is_what_the_models_give_there(
    case: Case, measured: bool
) -> None:
    decode = run_speculative if measured else run_modelled
    before = Trace.from_json(json.loads(written(decode(case, case.edge(), case.cloud()).trace)))
    again = run_recorded(case, before, ELSEWHERE)
    expected = run_modelled(case, case.edge(), case.cloud(), ELSEWHERE)
    assert written(again.trace) == written(expected.trace)
    assert (again.tokens, again.stop) == (expected.tokens, expected.stop)
    assert differing(before, again.trace) is None


CASE = Case(seed=2, settings=Speculation(k=3, thresholds=Thresholds(entropy=1.0)))


@pytest.mark.parametrize(
    "kind, escalated, changes",
    [
        (Draft, False, {"tokens": (11, 11, 11)}),
        (Draft, False, {"entropies": (9.0, 9.0, 9.0)}),
        (Draft, True, {"entropies": (0.0, 0.0, 0.0)}),
        (Draft, True, {"tokens": (11,)}),
        (Verify, None, {"kept": 0}),
        (Verify, None, {"token": 11}),
        (Verify, None, {"drafted": 2}),
        (Commit, None, {"tokens": (11,)}),
        (Commit, None, {"origins": ("cloud",)}),
        (Finish, None, {"stop": "sentence_limit"}),
    ],
)
def test_a_change_that_does_not_fit_into_its_trace_is_noticed(
    kind: type[AnyEvent], escalated: bool | None, changes: dict[str, Any]
) -> None:
    trace = run_modelled(CASE, CASE.edge(), CASE.cloud()).trace
    assert differing(trace, run_recorded(CASE, trace).trace) is None
    planted = [e for e in trace.of(kind) if getattr(e, "escalated", None) is escalated]
    assert planted
    for event in planted:
        changed = replace(event, **changes)
        events = tuple(changed if one is event else one for one in trace.events)
        assert noticed(Trace(events))


def noticed(trace: Trace) -> bool:
    try:
        return differing(trace, run_recorded(CASE, trace).trace) is not None
    except (JournalError, ValueError):
        return True
