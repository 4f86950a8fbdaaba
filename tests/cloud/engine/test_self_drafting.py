"""A cloud with a draft of its own writes what it writes without, in as many chunks as drafts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecloud.cloud.engine.self_drafting import OwnDraft, SelfDraftingCloud
from edgecloud.contracts import Generate
from edgecloud.contracts.sampling import Sampling
from edgecloud.decoding.autoregressive import cloud_only
from edgecloud.decoding.recorder import Recorder
from edgecloud.errors import ModelError
from edgecloud.hardware.clock import ModelledClock, TimedCloud
from edgecloud.hardware.costs import CloudCosts, EdgeCosts, HardwareProfile, LinkCosts
from tests.properties.loop import PROMPT, Case, Run, _follow, cases, run_cloud

HARDWARE = HardwareProfile(
    "drafted",
    EdgeCosts(2.0, 0.4),
    CloudCosts(0.5, 0.05, 0.06, draft_prefill_s=0.2, draft_step_s=0.01),
    LinkCosts(0.1),
    source="made up",
)


def self_drafted(case: Case, tokens: int) -> Run:
    clock = ModelledClock()
    recorder = Recorder(clock)
    plain = case.cloud()
    cloud = SelfDraftingCloud(plain.model, case.stopping, OwnDraft(case.edge(), tokens))
    commits = cloud_only(
        PROMPT,
        cloud=TimedCloud(cloud, clock, HARDWARE),
        stopping=case.stopping,
        recorder=recorder,
    )
    return _follow(commits, recorder, None)


@given(cases(), st.integers(1, 6))
def test_it_writes_the_clouds_own_tokens(case: Case, tokens: int) -> None:
    case = Case(case.seed, case.every, limits=case.limits)
    found, alone = self_drafted(case, tokens), run_cloud(case)
    assert (found.tokens, found.stop) == (alone.tokens, alone.stop)


def test_a_draft_model_that_is_the_cloud_is_kept_whole_and_paid_for_as_drafted() -> None:
    """Five of 40 tokens a forward: four drafted and one of the cloud's own."""
    # The edge of this case never disagrees with itself: the cloud is made its copy.
    case = next(c for c in (Case(seed=seed) for seed in range(99)) if len(run_cloud(c).tokens) > 20)
    model = case.cloud().model
    clock = ModelledClock()
    recorder = Recorder(clock)
    cloud = SelfDraftingCloud(model, case.stopping, OwnDraft(model.new_sequence(), 4))
    commits = cloud_only(
        PROMPT, cloud=TimedCloud(cloud, clock, HARDWARE), stopping=case.stopping, recorder=recorder
    )
    found = _follow(commits, recorder, None)
    chunks = found.trace.of(Generate)
    assert found.tokens == run_cloud(case).tokens
    for chunk in chunks[:-1]:
        assert len(chunk.tokens) == 5
    first, *others = (chunk.cost for chunk in chunks if chunk.cost.verified_tokens == 4)
    assert first.busy_s == pytest.approx(0.5 + 0.2 + 4 * 0.01 + 0.06)
    assert [cost.busy_s for cost in others] == pytest.approx([4 * 0.01 + 0.06] * len(others))


def test_it_draws_nothing_at_random() -> None:
    case = Case()
    cloud = SelfDraftingCloud(case.cloud().model, case.stopping, OwnDraft(case.edge(), 4))
    with pytest.raises(ModelError, match="--temperature 0"):
        cloud.open(PROMPT, Sampling(0.8))
