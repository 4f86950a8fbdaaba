"""What speculative decoding gives, whatever the models, the gate and the limits."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecloud.contracts import Acceptance, Commit, Draft, StopLimits, Verify
from edgecloud.decoding.local_edge import LocalEdge
from edgecloud.decoding.recorder import Recorder
from edgecloud.decoding.speculative import Speculation, speculative
from edgecloud.hardware.clock import WallClock
from edgecloud.models.scripted import ScriptedModel, follows
from tests.properties.loop import (
    PROMPT,
    VOCAB,
    Case,
    CountingCloud,
    assert_every_origin_is_true,
    cases,
    run_cloud,
    run_edge,
    run_speculative,
)

EXACT = Acceptance("exact")


def events_in_order(spans: Sequence[tuple[float, float]]) -> bool:
    starts = [start for start, _ in spans]
    return starts == sorted(starts) and all(0 <= start <= end for start, end in spans)


@given(cases(gate=st.just("always"), acceptance=st.just(EXACT)))
def test_exact_and_always_is_the_cloud_alone_token_for_token(case: Case) -> None:
    run, expected = run_speculative(case, case.edge(), case.cloud()), run_cloud(case)
    assert run.tokens == expected.tokens
    assert run.stop == expected.stop


@given(cases(gate=st.just("always"), acceptance=st.just(Acceptance("rank", 1))))
def test_rank_one_and_always_is_the_cloud_alone_too(case: Case) -> None:
    assert run_speculative(case, case.edge(), case.cloud()).tokens == run_cloud(case).tokens


@given(cases(gate=st.just("never")))
def test_never_is_the_edge_alone_and_opens_no_cloud(case: Case) -> None:
    cloud = case.cloud()
    run, expected = run_speculative(case, case.edge(), cloud), run_edge(case)
    assert run.tokens == expected.tokens
    assert run.stop == expected.stop
    assert set(run.origins) == {"edge"}
    assert not cloud.opened


@given(cases(gate=st.just("always"), acceptance=st.just(Acceptance("rank", VOCAB))))
def test_a_rank_as_wide_as_the_vocabulary_rejects_nothing(case: Case) -> None:
    run = run_speculative(case, case.edge(), case.cloud())
    assert "corrected" not in run.origins


@given(cases())
def test_every_token_is_allowed_by_whom_its_origin_names(case: Case) -> None:
    assert_every_origin_is_true(case, run_speculative(case, case.edge(), case.cloud()))


@given(cases())
def test_after_every_commit_the_edges_cache_is_a_prefix_of_prompt_and_output(case: Case) -> None:
    run = run_speculative(case, case.edge(), case.cloud())
    output = list(PROMPT.token_ids)
    for commit, cache in zip(run.commits, run.edge_caches, strict=True):
        drafted = [o in ("edge", "verified") for o in commit.origins]
        output += commit.tokens
        assert cache == tuple(output[: len(cache)])
        # All but the last drafted token is in the cache, so nothing is computed twice.
        unseen = len(output) - len(cache)
        assert unseen <= 1 + (not all(drafted))


@given(cases())
def test_the_output_keeps_to_its_limits_and_stops_for_the_reason_given(case: Case) -> None:
    run = run_speculative(case, case.edge(), case.cloud())
    assert 1 <= len(run.tokens) <= case.limits.max_new_tokens
    left, reason = case.stopping.cut([], run.tokens)
    assert (list(left), reason) == (run.tokens, run.stop)
    assert all(commit.tokens for commit in run.commits)


@given(cases())
def test_a_request_prefills_the_edge_once_and_ingests_in_one_forward_a_round(case: Case) -> None:
    edge = case.edge()
    run = run_speculative(case, edge, case.cloud())
    drafts = run.trace.of(Draft)
    drafted = sum(len(draft.tokens) for draft in drafts)
    # The first round drafts from the prefill's logits; every other begins with one ingestion.
    assert edge.forwards == 1 + (drafted - len(drafts)) + (len(drafts) - 1)


@given(cases())
def test_the_cloud_prefills_once_and_computes_only_what_is_new(case: Case) -> None:
    cloud = case.cloud()
    run = run_speculative(case, case.edge(), cloud)
    if not cloud.calls:
        assert not cloud.opened
        return
    (model,) = cloud.opened
    assert model.forwards == 1 + len(cloud.calls)
    drafted = sum(len(draft) for _, draft, _ in cloud.calls)
    ingested = sum(verdict.cost.ingested_tokens for _, _, verdict in cloud.calls)
    assert model.ingested == drafted + ingested
    # No token of the output is computed twice: neither as a kept draft nor as a committed token.
    kept = sum(verdict.kept for _, _, verdict in cloud.calls)
    assert ingested + kept <= len(run.tokens) + case.settings.k
    assert [v.cost.prefill_tokens for _, _, v in cloud.calls] == [
        PROMPT.length,
        *[0] * (len(cloud.calls) - 1),
    ]
    assert all(v.cost.verified_tokens == len(draft) for _, draft, v in cloud.calls)


@given(cases(gate=st.just("always")))
def test_a_verification_after_another_ingests_exactly_the_clouds_own_last_token(
    case: Case,
) -> None:
    cloud = case.cloud()
    run_speculative(case, case.edge(), cloud)
    ingested = [verdict.cost.ingested_tokens for _, _, verdict in cloud.calls]
    assert ingested == [0, *[1] * (len(cloud.calls) - 1)]


@given(cases())
def test_the_trace_accounts_for_every_token(case: Case) -> None:
    cloud = case.cloud()
    run = run_speculative(case, case.edge(), cloud)
    trace = run.trace
    drafts, verdicts, commits = trace.of(Draft), trace.of(Verify), trace.of(Commit)
    assert len(drafts) == len(commits) == len(run.commits)
    assert sum(draft.escalated for draft in drafts) == len(verdicts) == len(cloud.calls)
    assert [t for commit in commits for t in commit.tokens] == run.tokens
    asked = iter(verdicts)
    for draft, commit in zip(drafts, commits, strict=True):
        tokens, origins = list(commit.tokens), list(commit.origins)
        assert len(tokens) == len(origins)
        if not draft.escalated:
            expected = list(draft.tokens)
            assert set(origins) == {"edge"}
        else:
            verdict = next(asked)
            assert verdict.drafted == len(draft.tokens) == len(verdict.ranks)
            own = [] if verdict.token is None else [verdict.token]
            expected = [*draft.tokens[: verdict.kept], *own]
            chosen = "bonus" if verdict.kept == verdict.drafted else "corrected"
            whole = ["verified"] * verdict.kept + [chosen] * len(own)
            assert origins == whole[: len(origins)]
        # Only the last commit may be cut short.
        assert tokens == expected[: len(tokens)]
        assert len(tokens) == len(expected) or commit is commits[-1]


@given(cases())
def test_times_never_run_backwards(case: Case) -> None:
    run = run_speculative(case, case.edge(), case.cloud())
    assert events_in_order([(event.start_s, event.end_s) for event in run.trace.events])
    times = [commit.at_s for commit in run.commits]
    assert times == sorted(times)
    assert run.trace.events[0].kind == "prefill"
    assert run.trace.events[-1].kind in ("commit", "finish")


@given(cases())
def test_the_session_is_closed_once(case: Case) -> None:
    cloud = case.cloud()
    run_speculative(case, case.edge(), cloud)
    assert cloud.closed == len(cloud.opened) <= 1


def twin(text: Sequence[int], k: int, limit: int = 40) -> tuple[Case, ScriptedModel, CountingCloud]:
    """A drafter that is its own target and writes ``text``."""
    case = Case(settings=Speculation(k=k, gate="always"), limits=StopLimits(limit))
    script = follows(text, prompt_length=PROMPT.length, vocab_size=VOCAB)
    cloud = CountingCloud(ScriptedModel(script, vocab_size=VOCAB), case.stopping)
    return case, ScriptedModel(script, vocab_size=VOCAB), cloud


def test_a_drafter_that_is_its_target_gives_k_verified_and_a_bonus_each_round() -> None:
    case, edge, cloud = twin([2, 3, 4, 5, 6, 7, 8, 0], k=3)
    run = run_speculative(case, edge, cloud)
    assert run.tokens == [2, 3, 4, 5, 6, 7, 8, 0]
    assert run.origins == ["verified", "verified", "verified", "bonus"] * 2
    assert [len(commit.tokens) for commit in run.commits] == [4, 4]
    assert run.stop == "end_of_text"


def test_a_drafted_end_of_text_ends_the_caption_without_a_bonus() -> None:
    case, edge, cloud = twin([2, 3, 4, 5, 6, 0], k=3)
    run = run_speculative(case, edge, cloud)
    assert run.origins == ["verified"] * 3 + ["bonus"] + ["verified"] * 2
    assert [v.token for _, _, v in cloud.calls] == [5, None]


def test_the_last_block_is_no_longer_than_the_room_left() -> None:
    case, edge, cloud = twin([2, 3, 4, 5, 6, 7, 8], k=3, limit=6)
    run = run_speculative(case, edge, cloud)
    assert run.tokens == [2, 3, 4, 5, 6, 7]
    assert [len(draft) for _, draft, _ in cloud.calls] == [3, 2]
    assert run.stop == "token_limit"


def test_a_target_that_always_disagrees_corrects_every_first_token() -> None:
    case = Case(settings=Speculation(k=4, gate="always", acceptance=EXACT), limits=StopLimits(6))
    edge = ScriptedModel(
        follows([5], prompt_length=PROMPT.length, vocab_size=VOCAB), vocab_size=VOCAB
    )
    target = follows([2, 3, 4, 6, 7, 8], prompt_length=PROMPT.length, vocab_size=VOCAB)
    cloud = CountingCloud(ScriptedModel(target, vocab_size=VOCAB), case.stopping)
    run = run_speculative(case, edge, cloud)
    assert run.tokens == [2, 3, 4, 6, 7, 8]
    assert run.origins == ["corrected"] * 6
    assert [verdict.kept for _, _, verdict in cloud.calls] == [0] * 6


def test_a_caller_who_stops_listening_closes_the_session() -> None:
    case = Case(settings=Speculation(gate="always"))
    cloud = case.cloud()
    commits = speculative(
        PROMPT,
        edge=LocalEdge(case.edge()),
        cloud=cloud,
        settings=case.settings,
        stopping=case.stopping,
        recorder=Recorder(WallClock()),
    )
    next(commits)
    assert (len(cloud.opened), cloud.closed) == (1, 0)
    commits.close()
    assert cloud.closed == 1


def test_an_error_of_the_cloud_passes_through_and_closes_the_session() -> None:
    case = Case(settings=Speculation(gate="always", k=1))
    cloud = case.cloud()
    cloud.fail_at = 1
    with pytest.raises(RuntimeError, match="the cloud is gone"):
        run_speculative(case, case.edge(), cloud)
    assert cloud.closed == 1
