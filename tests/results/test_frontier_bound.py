"""The least a caption can take, by hand."""

from __future__ import annotations

import pytest

from edgecloud.results.frontier import Measures, bound_of

FOUND = Measures(
    total_s=(9.0, 9.0),
    ttft_s=(1.0, 1.0),
    busy_s=(1.0, 1.0),
    tokens=(10, 12),
    cloud_tokens=(4, 6),
    calls=(2, 2),
    verified=(6, 6),
    prefilled=(True, True),
    seeded=(False, False),
    quality=(1.0, 1.0),
    input_tokens=(100, 200),
)
EDGE = {"prefill_s": 1.0, "step_s": 0.5}
CLOUD = {"prefill_s": 0.4, "step_s": 0.1, "verify_s": 0.2}


def test_prefill_and_the_edges_own_steps_are_the_least_time() -> None:
    found = bound_of(FOUND, {"edge": EDGE, "cloud": CLOUD})
    assert found.time_s == pytest.approx(1.0 + 6 * 0.5)
    assert found.busy_s == pytest.approx(0.4 + 2 * 0.2 + 3 * 0.1)


def test_a_prefill_that_costs_by_the_token_counts_the_prompt() -> None:
    costs = {
        "edge": {**EDGE, "prefill_per_token_s": 0.01},
        "cloud": {**CLOUD, "prefill_per_token_s": 0.001},
    }
    found = bound_of(FOUND, costs)
    assert found.time_s == pytest.approx(1.0 + 150 * 0.01 + 6 * 0.5)
    assert found.busy_s == pytest.approx(0.4 + 0.15 + 2 * 0.2 + 3 * 0.1)
