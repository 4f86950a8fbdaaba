"""Every idea of speculation in any combination with the others, in modelled time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgecloud.contracts import (
    Acceptance,
    Degrade,
    Draft,
    Event,
    Generate,
    Prefill,
    StopLimits,
    Verify,
)
from edgecloud.decoding.speculation_controller import CloudBudget
from edgecloud.decoding.speculative import Speculation
from edgecloud.hardware.profiles import LinkCosts
from tests.properties.loop import (
    MODELLED,
    PROMPT,
    VOCAB,
    Case,
    Run,
    assert_every_origin_is_true,
    cases,
    ideas,
    run_cloud,
    run_edge,
    run_modelled,
    run_speculative,
    samplings,
)

EXACT = Acceptance("exact")
unbounded = {**ideas, "budget": st.just(CloudBudget())}
verified = {
    **unbounded,
    "verify_scope": st.just("since-last-call"),
    "final_check": st.just(True),
}

unhurried = {
    **unbounded,
    "adaptive_k": st.just(False),
    "hand_off": st.just(False),
    "draft_ahead": st.just(False),
}


def calls_of(run: Run) -> list[Verify | Generate]:
    return run.trace.calls


@given(cases(acceptance=st.just(EXACT), **verified))
def test_exact_and_all_verified_is_the_cloud_alone_token_for_token(case: Case) -> None:
    run, expected = run_modelled(case, case.edge(), case.cloud()), run_cloud(case)
    assert (run.tokens, run.stop) == (expected.tokens, expected.stop)


@given(cases(gate=st.just("always"), acceptance=st.just(EXACT), **unbounded))
def test_exact_and_always_is_the_cloud_alone_token_for_token(case: Case) -> None:
    run, expected = run_modelled(case, case.edge(), case.cloud()), run_cloud(case)
    assert (run.tokens, run.stop) == (expected.tokens, expected.stop)


@given(cases(**ideas))
def test_every_token_is_allowed_by_whom_its_origin_names(case: Case) -> None:
    assert_every_origin_is_true(case, run_modelled(case, case.edge(), case.cloud()))


@given(cases(**ideas))
def test_the_output_keeps_to_its_limits_and_stops_for_the_reason_given(case: Case) -> None:
    run = run_modelled(case, case.edge(), case.cloud())
    assert 1 <= len(run.tokens) <= case.limits.max_new_tokens
    left, reason = case.stopping.cut([], run.tokens)
    assert (list(left), reason) == (run.tokens, run.stop)
    assert all(commit.tokens for commit in run.commits)


@given(cases(**ideas))
def test_after_every_commit_the_caches_hold_what_is_committed(case: Case) -> None:
    cloud = case.cloud()
    run = run_modelled(case, case.edge(), cloud)
    output = list(PROMPT.token_ids)
    for commit, cache in zip(run.commits, run.edge_caches, strict=True):
        output += commit.tokens
        shared = min(len(output), len(cache))
        assert list(cache[:shared]) == output[:shared]
        if not case.settings.draft_ahead:
            assert len(cache) <= len(output)
    # And at the end also the cloud's, but for its own last token.
    for committed, draft, verdict in cloud.calls:
        whole = [*committed, *verdict.output(draft)]
        assert run.tokens[: len(whole)] == whole[: len(run.tokens)]


def in_order(events: Sequence[Event]) -> bool:
    """Whether one resource did these one after the other."""
    return all(one.end_s <= other.start_s + 1e-9 for one, other in pairwise(events))


@given(cases(**ideas))
def test_timelines_never_run_backwards(case: Case) -> None:
    run = run_modelled(case, case.edge(), case.cloud())
    events = run.trace.events
    assert all(0 <= event.start_s <= event.end_s for event in events)
    times = [commit.at_s for commit in run.commits]
    assert times == sorted(times)
    # The edge computes one thing at a time, and the cloud is asked one thing at a time.
    assert in_order(run.trace.of(Prefill, Draft))
    assert in_order(run.trace.of(Verify))
    # Nobody waits for less time than the cloud was busy and the message was under way.
    for call in run.trace.of(Verify):
        least_s = call.cost.busy_s + MODELLED.link.round_trip_s
        assert call.end_s - call.start_s >= least_s - 1e-9


@given(cases(**ideas))
def test_the_account_of_tokens_adds_up(case: Case) -> None:
    cloud = case.cloud()
    run = run_modelled(case, case.edge(), cloud)
    calls = calls_of(run)
    assert len(cloud.opened) <= 1
    if not calls:
        return
    prefilled = sum(call.cost.prefill_tokens for call in calls)
    assert prefilled == PROMPT.length
    verdicts = run.trace.of(Verify)
    # A call's own tokens are its correction or bonus and what it went on with: the rest are forwards.
    own = sum(call.cost.generated_tokens for call in verdicts)
    assert own == sum((v.token is not None) + len(v.continuation) for v in verdicts)
    verified = sum(call.cost.verified_tokens for call in verdicts)
    assert verified == sum(len(draft) for _, draft, _ in cloud.calls)
    cloud_tokens = sum(origin in ("corrected", "bonus", "cloud") for origin in run.origins)
    # Only the last answer may hold more than the caption takes.
    most = case.settings.continuation + 1 if not case.settings.hand_off else VOCAB * 40
    generated = sum(call.cost.generated_tokens for call in calls)
    assert cloud_tokens <= generated <= cloud_tokens + most


@given(cases(**{**ideas, "budget": st.builds(CloudBudget, tokens=st.integers(0, 20))}))
def test_a_budget_of_tokens_is_kept(case: Case) -> None:
    run = run_modelled(case, case.edge(), case.cloud())
    spent = sum(call.cost.generated_tokens for call in calls_of(run))
    assert spent <= max(case.settings.budget.tokens, case.settings.seed_tokens)


@given(cases(**ideas))
def test_modelled_runs_are_the_same_to_the_last_bit(case: Case) -> None:
    first, second = (run_modelled(case, case.edge(), case.cloud()) for _ in range(2))
    assert first.trace.to_json() == second.trace.to_json()


@given(cases(**unhurried))
def test_the_clock_changes_no_token(case: Case) -> None:
    modelled = run_modelled(case, case.edge(), case.cloud())
    measured = run_speculative(case, case.edge(), case.cloud())
    assert (modelled.tokens, modelled.origins) == (measured.tokens, measured.origins)


@given(cases(acceptance=st.just(EXACT), **{**verified, "hand_off": st.just(False)}))
def test_drafting_ahead_changes_no_token_and_costs_no_forward_where_it_was_right(
    case: Case,
) -> None:
    settings = replace(case.settings, adaptive_k=False)
    ahead = replace(case, settings=replace(settings, draft_ahead=True))
    plain = replace(case, settings=replace(settings, draft_ahead=False))
    assert (
        run_modelled(ahead, case.edge(), case.cloud()).tokens
        == run_modelled(plain, case.edge(), case.cloud()).tokens
    )


def far(case: Case, round_trip_s: float, **settings: object) -> Run:
    changed = replace(case, settings=replace(case.settings, **settings))  # type: ignore[arg-type]
    hardware = replace(MODELLED, link=LinkCosts(round_trip_s))
    return run_modelled(changed, changed.edge(), changed.cloud(), hardware)


def total_s(run: Run) -> float:
    return run.commits[-1].at_s


def test_drafting_ahead_hides_a_long_round_trip_from_a_drafter_that_is_right() -> None:
    case = Case(
        every=40, settings=Speculation(k=4, gate="always", acceptance=EXACT), limits=StopLimits(40)
    )
    plain, ahead = far(case, 2.0), far(case, 2.0, draft_ahead=True)
    assert plain.tokens == ahead.tokens
    assert total_s(ahead) < 0.9 * total_s(plain)


def test_a_seed_is_there_long_before_the_edge_has_its_prompt() -> None:
    case = Case(settings=Speculation(gate="never", seed_tokens=3))
    run = run_modelled(case, case.edge(), case.cloud())
    assert run.origins[:3] == ["cloud"] * 3
    assert run.tokens[:3] == run_cloud(case).tokens[:3]
    # Half a round trip up, the prefill with its first token, two steps, half a round trip down.
    assert run.commits[0].at_s == pytest.approx(0.1 + 0.5 + 2 * 0.05)
    (prefill,) = run.trace.of(Prefill)
    assert (prefill.start_s, prefill.end_s) == (0.0, 2.0)


def test_a_parallel_prefill_costs_the_caption_nothing() -> None:
    case = Case(settings=Speculation(gate="always", acceptance=EXACT))
    alone, beside = far(case, 0.1), far(case, 0.1, parallel_prefill=True)
    assert alone.tokens == beside.tokens
    assert total_s(beside) == pytest.approx(total_s(alone) - 0.5)


def test_a_continuation_replaces_edge_steps_by_cloud_steps() -> None:
    case = Case(every=2, settings=Speculation(gate="always", acceptance=EXACT))
    short, long = far(case, 0.1), far(case, 0.1, continuation=4)
    assert short.tokens == long.tokens
    assert total_s(long) < total_s(short)
    assert len(long.trace.of(Verify)) < len(short.trace.of(Verify))


def test_a_hand_off_lets_the_cloud_finish() -> None:
    case = Case(every=2, settings=Speculation(gate="always", acceptance=EXACT))
    run = far(case, 0.1, hand_off=True, expected_tokens=20, parallel_prefill=True)
    assert run.tokens == run_cloud(case).tokens
    # One call to see what the cloud takes, one to hand off.
    assert len(run.trace.of(Verify)) <= 2


def test_when_the_budget_is_spent_the_edge_finishes() -> None:
    case = Case(every=2, settings=Speculation(gate="always", acceptance=EXACT))
    run = far(case, 0.1, budget=CloudBudget(busy_s=0.8))
    assert run.origins[-1] == "edge"
    assert sum(call.cost.busy_s for call in calls_of(run)) <= 0.8
    assert not run.trace.of(Degrade)


@given(cases(**{**ideas, "parallel_prefill": st.just(False), "seed_tokens": st.just(0)}))
@example(Case(settings=Speculation(gate="never", verify_scope="since-last-call")))
def test_what_nobody_was_asked_about_is_the_edges_own(case: Case) -> None:
    run = run_modelled(case, case.edge(), case.cloud())
    if not run.trace.of(Verify):
        assert run.tokens == run_edge(case).tokens
        assert set(run.origins) == {"edge"}


@given(cases(sampling=samplings, **unhurried))
def test_drafting_ahead_changes_no_drawn_token(case: Case) -> None:
    ahead = replace(case, settings=replace(case.settings, draft_ahead=True))
    one, other = (run_modelled(each, each.edge(), each.cloud()) for each in (case, ahead))
    assert (one.tokens, one.origins, one.stop) == (other.tokens, other.origins, other.stop)


@given(cases(sampling=samplings.map(lambda drawn: replace(drawn, temperature=0.0)), **ideas))
def test_at_temperature_0_rejection_is_exact(case: Case) -> None:
    exact = replace(case, settings=replace(case.settings, acceptance=EXACT))
    one, other = (run_modelled(each, each.edge(), each.cloud()) for each in (case, exact))
    assert one.trace.to_json() == other.trace.to_json()
