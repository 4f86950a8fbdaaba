"""Sessions of the verifier in this process, above all what they know of a request already."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgecloud.cloud.engine.local import LocalCloud, LocalSession
from edgecloud.contracts import Acceptance, CloudSession, Prompt, StopLimits
from edgecloud.decoding.stopping import Stopping
from edgecloud.errors import OutOfMemoryError, WireError
from edgecloud.models.audio_lm import AudioLM
from edgecloud.models.scripted import ScriptedModel, follows, hashed

VOCAB = 12
PROMPT = Prompt((7, 8, 9))
STOPPING = Stopping(StopLimits(40), frozenset({0}), frozenset({1}))
EXACT = Acceptance("exact")


def model() -> ScriptedModel:
    return ScriptedModel(hashed(3, vocab_size=VOCAB, end_id=0), vocab_size=VOCAB)


def session(on: ScriptedModel | None = None) -> LocalSession:
    return LocalSession(on or model(), PROMPT, STOPPING)


def writer(text: list[int]) -> ScriptedModel:
    script = follows(text, prompt_length=PROMPT.length, vocab_size=VOCAB)
    return ScriptedModel(script, vocab_size=VOCAB)


def generated(of: CloudSession, committed: list[int], limits: StopLimits) -> list[int]:
    return [token for chunk in of.generate(committed, limits) for token in chunk.tokens]


def test_the_first_call_prefills_and_later_ones_compute_the_suffix_alone() -> None:
    on = writer([2, 3, 4, 5, 6, 7])
    ours = session(on)
    first = ours.verify([], [2, 3], EXACT)
    assert (first.kept, first.token) == (2, 4)
    assert (first.cost.prefill_tokens, first.cost.ingested_tokens) == (3, 0)
    second = ours.verify([2, 3, 4], [5, 9], EXACT)
    assert (second.kept, second.token) == (1, 6)
    assert (second.cost.prefill_tokens, second.cost.ingested_tokens) == (0, 1)
    assert (second.cost.verified_tokens, second.cost.generated_tokens) == (2, 1)
    assert on.forwards == 3
    assert on.ingested == 2 + 3
    # What was rejected is gone from the cache.
    assert on.sequence == (7, 8, 9, 2, 3, 4, 5)


tokens = st.lists(st.integers(1, VOCAB - 1), max_size=6)
calls = st.lists(
    st.tuples(
        tokens,
        st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=4),
        st.integers(1, VOCAB),
    ),
    min_size=1,
    max_size=5,
)


@given(calls)
def test_whatever_was_committed_before_the_verdict_is_that_of_a_new_session(
    requests: list[tuple[list[int], list[int], int]],
) -> None:
    on = model()
    ours = session(on)
    for committed, draft, threshold in requests:
        acceptance = Acceptance("rank", threshold)
        verdict = ours.verify(committed, draft, acceptance)
        alone = session().verify(committed, draft, acceptance)
        assert (verdict.kept, verdict.token) == (alone.kept, alone.token)
        assert verdict.ranks == alone.ranks
        assert verdict.top_probs == alone.top_probs
        assert on.sequence == (*PROMPT.token_ids, *committed, *draft[: verdict.kept])


def test_taking_back_committed_tokens_rewinds_on_a_real_architecture(tiny_model: AudioLM) -> None:
    prompt = Prompt((10, 20, 30))
    ours = LocalSession(tiny_model.new_sequence(), prompt, STOPPING)
    wide = Acceptance("rank", tiny_model.vocab_size)
    ours.verify([5, 6, 7], [8, 9, 10], wide)
    for committed in ([5, 6, 7, 8], [5, 6], [5, 40], [], [41]):
        alone = LocalSession(tiny_model.new_sequence(), prompt, STOPPING)
        verdict, expected = (s.verify(committed, [11, 12], wide) for s in (ours, alone))
        assert (verdict.kept, verdict.token) == (expected.kept, expected.token)
        assert verdict.ranks == expected.ranks
        torch.testing.assert_close(
            torch.tensor(verdict.top_probs), torch.tensor(expected.top_probs), rtol=1e-3, atol=1e-5
        )
        assert verdict.cost.prefill_tokens == 0


def test_generation_is_greedy_and_ends_with_the_text() -> None:
    ours = session(writer([2, 3, 4, 0, 5]))
    chunks = list(ours.generate([], StopLimits(40)))
    assert [chunk.tokens for chunk in chunks] == [(2,), (3,), (4,), (0,)]
    assert [chunk.last for chunk in chunks] == [False, False, False, True]
    assert [chunk.cost.prefill_tokens for chunk in chunks] == [3, 0, 0, 0]
    assert [chunk.cost.ingested_tokens for chunk in chunks] == [0] * 4
    assert [chunk.cost.generated_tokens for chunk in chunks] == [1] * 4


def test_generation_goes_on_after_what_is_committed() -> None:
    on = writer([2, 3, 4, 5, 6, 0])
    ours = session(on)
    ours.verify([], [2, 9], EXACT)
    chunks = list(ours.generate([2, 3], StopLimits(5)))
    assert [token for chunk in chunks for token in chunk.tokens] == [4, 5, 6]
    assert [chunk.cost.ingested_tokens for chunk in chunks] == [1, 0, 0]
    assert chunks[0].cost.prefill_tokens == 0


def test_a_verification_may_follow_a_generation_that_was_cut() -> None:
    ours = session(writer([2, 3, 4, 5, 6, 0]))
    stream = ours.generate([], StopLimits(40))
    assert [next(stream).tokens for _ in range(4)] == [(2,), (3,), (4,), (5,)]
    verdict = ours.verify([2, 3], [4, 5], EXACT)
    assert (verdict.kept, verdict.token) == (2, 6)


@pytest.mark.parametrize(
    "limits, expected",
    [(StopLimits(2), [2, 1]), (StopLimits(40, 1), [2, 1]), (StopLimits(40, 2), [2, 1, 3, 1])],
)
def test_generation_keeps_to_its_requests_limits(limits: StopLimits, expected: list[int]) -> None:
    assert generated(session(writer([2, 1, 3, 1, 4, 0])), [], limits) == expected


def test_a_token_limit_that_is_reached_already_is_refused() -> None:
    with pytest.raises(WireError, match="no room"):
        next(session().generate([2, 3], StopLimits(2)))


@pytest.mark.parametrize("bad", [VOCAB, 10**9, -1])
def test_tokens_outside_the_vocabulary_are_refused_before_they_reach_the_model(bad: int) -> None:
    on = model()
    ours = session(on)
    with pytest.raises(WireError, match="vocabulary"):
        ours.verify([], [bad], EXACT)
    with pytest.raises(WireError, match="vocabulary"):
        ours.verify([bad], [1], EXACT)
    with pytest.raises(WireError, match="vocabulary"):
        LocalSession(model(), Prompt((1, bad)), STOPPING).verify([], [1], EXACT)
    assert on.forwards == 0
    assert ours.verify([], [1], EXACT).ranks


def test_an_empty_draft_is_refused() -> None:
    with pytest.raises(WireError, match="at least one"):
        session().verify([], [], EXACT)


def test_sessions_of_one_cloud_do_not_disturb_each_other() -> None:
    cloud = LocalCloud(model(), STOPPING)
    one, other = cloud.open(PROMPT), cloud.open(Prompt((4, 5)))
    expected = session().verify([2], [3, 4], EXACT)
    one.verify([2], [3], EXACT)
    other.verify([6, 6, 6], [1], EXACT)
    again = one.verify([2], [3, 4], EXACT)
    assert (again.kept, again.token, again.ranks) == (
        expected.kept,
        expected.token,
        expected.ranks,
    )


def test_closing_twice_is_safe_and_drops_the_state() -> None:
    on = model()
    ours = session(on)
    ours.verify([], [1], EXACT)
    ours.close()
    ours.close()
    assert ours._model is not on
    assert ours._model.length == 0


class Failing(ScriptedModel):
    """Fails its next ``fail`` forwards, as a device that ran out of memory."""

    fail = 0

    def extend(self, tokens: Sequence[int]) -> torch.Tensor:
        if self.fail:
            self.fail -= 1
            raise OutOfMemoryError("cuda is out of memory")
        return super().extend(tokens)


@given(calls, st.integers(0, 5))
def test_a_session_is_right_again_after_a_forward_that_failed(
    requests: list[tuple[list[int], list[int], int]], at: int
) -> None:
    on = Failing(hashed(3, vocab_size=VOCAB, end_id=0), vocab_size=VOCAB)
    tried = LocalSession(on, PROMPT, STOPPING)
    for number, (committed, draft, _) in enumerate(requests):
        if number == at and number:
            on.fail = 1
            with suppress(OutOfMemoryError):
                tried.verify(committed, draft, EXACT)
            on.fail = 0
        found = tried.verify(committed, draft, EXACT)
        expected = session().verify(committed, draft, EXACT)
        assert (found.kept, found.token, found.ranks) == (
            expected.kept,
            expected.token,
            expected.ranks,
        )
