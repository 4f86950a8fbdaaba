"""Costs of the hardware profiles, by hand."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecloud.errors import ConfigError
from edgecloud.hardware.profiles import PROFILES, EdgeCosts, LinkCosts, profile


def test_paper_holds_the_originals_constants() -> None:
    paper = profile("paper")
    assert [paper.edge.prefill(n) for n in (1, 100, 1000)] == [7.3] * 3
    assert [paper.edge.extend(n) for n in (1, 2, 8)] == [0.415] * 3
    assert (paper.cloud.prefill_s, paper.cloud.step_s, paper.cloud.verify_s) == (0.39, 0.041, 0.05)
    assert paper.link.up(10_000) + paper.link.down(10_000) == pytest.approx(0.05)


def test_an_unknown_profile_is_named_with_those_that_exist() -> None:
    with pytest.raises(ConfigError, match=r"'abacus'; choose one of .*paper"):
        profile("abacus")


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_profiles_know_their_name_and_source_and_are_json(name: str) -> None:
    found = profile(name)
    assert found.name == name
    assert found.source
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize("tokens, steps", [(1, 1.0), (2, 4 / 3), (3, 5 / 3), (4, 2.0), (9, 2.0)])
def test_ingestion_is_linear_between_the_points_and_flat_beyond(tokens: int, steps: float) -> None:
    costs = EdgeCosts(prefill_s=1.0, step_s=0.5, ingest_steps=((1, 1.0), (4, 2.0)))
    assert costs.extend(tokens) == pytest.approx(steps * 0.5)


def test_a_prefill_may_cost_by_the_token() -> None:
    assert EdgeCosts(prefill_s=1.0, step_s=0.5, prefill_per_token_s=0.01).prefill(
        50
    ) == pytest.approx(1.5)


def test_a_message_takes_half_the_round_trip_and_its_bytes() -> None:
    link = LinkCosts(round_trip_s=0.2, up_bytes_per_s=1000, down_bytes_per_s=4000)
    assert link.up(500) == pytest.approx(0.6)
    assert link.down(500) == pytest.approx(0.225)
    assert LinkCosts(round_trip_s=0.2).up(10**9) == pytest.approx(0.1)


@given(st.integers(1, 40), st.integers(1, 40))
def test_more_tokens_never_cost_less(one: int, other: int) -> None:
    costs = EdgeCosts(
        prefill_s=1.0, step_s=0.5, ingest_steps=((1, 1.0), (2, 1.0), (8, 1.5), (32, 4.0))
    )
    fewer, more = sorted((one, other))
    assert costs.extend(fewer) <= costs.extend(more) + 1e-12


def test_a_cloud_that_speculates_itself_differs_in_that_alone() -> None:
    for plain in ("paper", "galaxy-s24@int8+h100"):
        cloud, fast = profile(plain).cloud, profile(f"{plain}-eagle3").cloud
        assert fast.step_s == pytest.approx(cloud.step_s / 1.65)
        assert (fast.prefill_s, fast.verify_s) == (cloud.prefill_s, cloud.verify_s)
        drafted = profile(f"{plain}-drafted")
        assert drafted.cloud.draft_step_s == pytest.approx(cloud.step_s * 3.09 / 7.07)
        assert (drafted.edge, drafted.cloud.step_s) == (profile(plain).edge, cloud.step_s)
    with pytest.raises(ConfigError, match="h100-medusa"):
        profile("h100-medusa")
