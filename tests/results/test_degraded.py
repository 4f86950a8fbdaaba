"""A sample is degraded when the cloud failed it, never when its own settings let it do without the cloud."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edgecloud.contracts import Acceptance
from edgecloud.contracts.sampling import GREEDY, Sampling
from edgecloud.decoding.speculation_controller import CloudBudget
from edgecloud.decoding.speculative import Speculation
from edgecloud.errors import CloudTimeout
from edgecloud.results.degraded import warm_up_sentence
from edgecloud.results.records import Loss
from edgecloud.results.result_file import build_result
from tests.properties.loop import Case, run_modelled, run_speculative
from tests.results.synthetic import FakeOutcome, FakeScores

ALWAYS = Speculation(gate="always", acceptance=Acceptance("exact"))


@pytest.mark.parametrize(
    "choice, last",
    [
        ({"budget": CloudBudget(busy_s=0.8)}, "edge"),
        ({"budget": CloudBudget(tokens=3)}, "edge"),
        ({"budget": CloudBudget(tokens=0)}, "edge"),
        ({"hand_off": True, "expected_tokens": 20, "parallel_prefill": True}, "cloud"),
    ],
    ids=["a spent budget of time", "a spent budget of tokens", "no budget at all", "a hand-off"],
)
def test_doing_without_the_cloud_or_the_edge_by_choice_is_not_degraded(
    choice: dict[str, Any], last: str
) -> None:
    case = Case(every=2, settings=replace(ALWAYS, **choice))
    run = run_modelled(case, case.edge(), case.cloud())
    assert run.origins[-1] == last  # it did stop asking, or handed off
    assert Loss.of(run.trace) is None
    outcome = FakeOutcome("spec", 1)
    outcome.records = (replace(outcome.records[0], trace=run.trace),)
    found = build_result(outcome, FakeScores(outcome), environment={}, run_block={})
    assert found.metrics.num_degraded == 0
    assert found.samples[0].degraded is None


def test_a_cloud_that_failed_within_its_budget_is() -> None:
    class Lost:
        def open(self, prompt: Any, sampling: Sampling = GREEDY) -> Any:
            raise CloudTimeout("no answer in 2 s")

    case = Case(every=2, settings=replace(ALWAYS, budget=CloudBudget(tokens=3)))
    run = run_speculative(case, case.edge(), Lost())
    found = Loss.of(run.trace)
    assert found is not None
    assert (found.error, found.reason) == ("CloudTimeout", "no answer in 2 s")


def test_warm_up_requests_that_lost_the_cloud_are_one_sentence() -> None:
    why = {"request": 1, "at_s": 1.0, "error": "CloudTimeout", "reason": "no answer in 2 s"}
    told = warm_up_sentence({"total_time_s": [0.2, 2.1], "reason": None, "degraded": [why]})
    assert told == (
        "1 of 2 warm-up requests lost the cloud and went on with the edge alone: CloudTimeout "
        "(no answer in 2 s)"
    )
    assert warm_up_sentence({"total_time_s": [0.2], "reason": None}) is None
