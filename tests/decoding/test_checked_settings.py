"""What is built in code is held to what flags are held to: nothing out of range runs as something else."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgecloud.contracts import Acceptance, StopLimits
from edgecloud.contracts.ranges import value_types
from edgecloud.contracts.sampling import Sampling
from edgecloud.decoding.gates import Thresholds
from edgecloud.decoding.speculation_controller import CloudBudget
from edgecloud.decoding.speculative import Speculation
from edgecloud.edge.speculation_policy import speculation
from edgecloud.errors import ConfigError
from edgecloud.settings.config import resolve
from edgecloud.settings.options import OPTIONS


@pytest.mark.parametrize(
    "make, why",
    [
        (lambda: Speculation(verify_scope="since_last_call"), "not one of block, since-last-call"),
        (lambda: Speculation(gate_scope="blok"), "not one of block, token"),
        (lambda: Speculation(gate="entropic"), "gate: 'entropic' is not one of always"),
        (lambda: Speculation(acceptance=Acceptance("fuzzy")), "acceptance: 'fuzzy' is not one of"),
        (lambda: Speculation(k=0), "k: 0 is below 1"),
        (lambda: Speculation(k=65), "k: 65 is above 64"),
        (lambda: Speculation(k=3.0), "k: 3.0 is not a whole number"),
        (lambda: Speculation(k=True), "k: True is not a whole number"),
        (lambda: Speculation(k=0, seed_tokens=-1), "k: 0 is below 1; seed_tokens: -1 is below 0"),
        (lambda: Speculation(draft_ahead="no"), "draft_ahead: 'no' is not true or false"),
        (lambda: Speculation(continuation=-1), "continuation: -1 is below 0"),
        (lambda: Speculation(expected_tokens=0), "expected_tokens: 0 is below 1"),
        (lambda: Acceptance(rank_threshold=0), "rank_threshold: 0 is below 1"),
        (lambda: Acceptance(probability_ratio=0.0), "probability_ratio: 0.0 is not above 0"),
        (lambda: Acceptance(regret_nats=-1.0), "regret_nats: -1.0 is below 0"),
        (lambda: Acceptance(regret_nats=math.nan), "regret_nats: nan is not a finite number"),
        (lambda: Thresholds(entropy=-0.1), "entropy: -0.1 is below 0"),
        (lambda: Thresholds(entropy=math.inf), "entropy: inf is not a finite number"),
        (lambda: Thresholds(margin=1.5), "margin: 1.5 is above 1"),
        (lambda: Thresholds(logprob=2.0), "logprob: 2.0 is above 0"),
        (lambda: Thresholds(calibrated="0.3"), "calibrated: '0.3' is not a number"),
        (lambda: CloudBudget(busy_s=-1.0), "busy_s: -1.0 is below 0"),
        (lambda: CloudBudget(tokens=math.nan), "tokens: nan"),
        (lambda: Sampling(temperature=-0.5), "temperature: -0.5 is below 0"),
        (lambda: Sampling(top_p=0.0), "top_p: 0.0 is not above 0"),
        (lambda: Sampling(seed=-1), "seed: -1 is below 0"),
        (lambda: StopLimits(-1), "max_new_tokens: -1 is below 0"),
        (lambda: StopLimits(8, 0), "max_sentences: 0 is below 1"),
    ],
)
def test_what_no_flag_could_say_is_refused(make: Callable[[], Any], why: str) -> None:
    with pytest.raises(ConfigError) as found:
        make()
    assert why in str(found.value)


def test_numbers_of_numpy_and_whole_numbers_for_fractions_are_taken() -> None:
    made = Speculation(k=np.int64(4), thresholds=Thresholds(entropy=2, margin=np.float64(0.5)))
    assert (made.k, made.thresholds.entropy, made.thresholds.margin) == (4, 2, 0.5)
    assert CloudBudget(tokens=3) == CloudBudget.parse("3t")


def test_the_loop_and_the_flags_are_declared_alike() -> None:
    """Each field of the loop that a flag sets has the flag's choices, and no narrower range."""
    flags = {option.field: option for option in OPTIONS if option.subject in ("draft", "cloud")}
    types = value_types(Speculation)
    shared = types.keys() & flags.keys()
    assert shared == flags.keys() - {"budget"}
    for name in shared:
        assert tuple(types[name].choices) == tuple(flags[name].choices), name
        bounds = types[name].range.minimum, types[name].range.maximum
        assert bounds == (flags[name].minimum, flags[name].maximum), name
    made = speculation(resolve({"regret_budget": 0, "cloud_budget": "0t", "k": 64}))
    assert (made.k, made.budget.tokens, made.acceptance.regret_nats) == (64, 0, 0)
