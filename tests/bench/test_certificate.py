"""The bench of certificates: how often a population's risk is exceeded, and what the choice costs beside hindsight."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from bench import certificate
from edgecloud.experiments.certificate import Floats

CALLS = np.array([4.0, 3.0, 2.0, 1.0])
drawn = partial(certificate.drawn, risk=0.1, confidence=0.95)


def population(*means: float, recordings: int = 400) -> Floats:
    """Losses of 0 and 1 by threshold, whose means are exact."""
    return np.array([np.arange(recordings) < mean * recordings for mean in means]).astype(float)


def test_a_population_that_is_easily_kept_costs_what_hindsight_costs() -> None:
    def once() -> dict[str, Any]:
        return drawn(population(0, 0.0025, 0.0025, 0.5), CALLS, size=200, draws=40)

    found = once()
    assert (found["exceeded"], found["none"], found["hindsight"]) == (0.0, 0.0, 2)
    assert found["calls_ratio"] == [1.0, 1.0, 1.0]
    assert once() == found


def test_a_threshold_just_above_the_risk_is_seldom_chosen_and_the_next_one_costs_its_calls() -> (
    None
):
    """Above the risk by a recording; what is chosen instead has three calls, hindsight has as many."""
    found = drawn(population(0, 0.02, 0.1025, 0.5), CALLS, size=250, draws=200)
    assert found["hindsight"] == 1
    assert 0 < found["exceeded"] <= 0.05 + 2 * (0.05 * 0.95 / 200) ** 0.5
    assert found["calls_ratio"][1] == 1.0
    few = drawn(population(0, 0.02, 0.05, 0.5), CALLS, size=60, draws=200)
    assert few["mean_calls_ratio"] > 1.2  # with few samples less is certified than hindsight knows


def test_where_no_threshold_keeps_the_risk_nothing_is_compared() -> None:
    found = drawn(population(0.3, 0.5), CALLS[:2], size=100, draws=20)
    assert (found["none"], found["exceeded"]) == (1.0, 0.0)
    assert (found["hindsight"], found["calls_ratio"], found["loss"]) == (None, None, None)
