"""Sessions that share forwards: what each gets, whoever is beside it and whatever befalls one."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from queue import Empty, SimpleQueue

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecloud.cloud.engine.engine import Engine, Outcome, extend_each
from edgecloud.cloud.engine.local import LocalCloud, LocalSession, Steps
from edgecloud.contracts import Acceptance, CloudChunk, Model, Prompt, StopLimits, Verdict
from edgecloud.contracts.sampling import GREEDY, Distribution, Sampling
from edgecloud.decoding.draft_scores import DraftScores, score_drafts
from edgecloud.decoding.stopping import Stopping
from edgecloud.errors import CloudUnavailable, OutOfMemoryError, WireError
from edgecloud.models.audio_lm import AudioLM, extend_many
from edgecloud.models.scripted import ScriptedModel, hashed

VOCAB = 12
STOPPING = Stopping(StopLimits(30), frozenset({0}), frozenset({1}))
EXACT = Acceptance("exact")
WAIT_S = 20


def cloud() -> LocalCloud:
    return LocalCloud(
        ScriptedModel(hashed(3, vocab_size=VOCAB, end_id=0), vocab_size=VOCAB), STOPPING
    )


def outcomes(engine: Engine, steps: Steps) -> list[Outcome]:
    """All that one request gives, waited for with a deadline."""
    found: SimpleQueue[Outcome] = SimpleQueue()
    engine.submit(steps, found.put)
    got: list[Outcome] = []
    while not got or (isinstance(got[-1], CloudChunk) and not got[-1].last):
        try:
            got.append(found.get(timeout=WAIT_S))
        except Empty:
            pytest.fail("the engine said nothing")
    return got


def without_times(outcome: Outcome) -> object:
    if isinstance(outcome, Verdict):
        return (outcome.kept, outcome.token, outcome.ranks, outcome.cost.verified_tokens)
    if isinstance(outcome, CloudChunk):
        return (outcome.tokens, outcome.last, outcome.cost.generated_tokens)
    return (type(outcome), str(outcome))


requests = st.lists(
    st.tuples(
        st.lists(st.integers(1, 8), min_size=1, max_size=4),
        st.lists(st.integers(1, VOCAB - 1), max_size=5),
        st.lists(st.integers(0, VOCAB - 1), max_size=4),
    ),
    min_size=1,
    max_size=12,
)


FLAT = Distribution(tuple(range(VOCAB)), (1,) * VOCAB)


def arguments(
    sampling: Sampling, committed: list[int], draft: list[int]
) -> tuple[list[int], list[int], Acceptance, int, list[Distribution]]:
    """A verification; at a temperature as if the draft had been drawn from any token alike."""
    if sampling.greedy:
        return committed, draft, EXACT, 0, []
    return committed, draft, Acceptance("rejection"), 2, [FLAT] * len(draft)


def steps_of(
    session: LocalSession, committed: list[int], draft: list[int], sampling: Sampling = GREEDY
) -> Steps:
    if draft:
        return session.verifying(*arguments(sampling, committed, draft))
    return session.generating(committed, StopLimits(12))


@settings(max_examples=40, deadline=None)
@given(requests, st.integers(1, 5), st.sampled_from([GREEDY, Sampling(2.0, 0.9, 5)]), st.booleans())
def test_each_gets_what_it_gets_alone_whoever_shares_its_forwards(
    asked: list[tuple[list[int], list[int], list[int]]],
    max_batch: int,
    sampling: Sampling,
    beside: bool,
) -> None:
    many = cloud()
    engine = Engine(max_batch=max_batch, prefill_beside=beside)
    found: list[list[Outcome]] = [[] for _ in asked]

    def ask(number: int) -> None:
        prompt, committed, draft = asked[number]
        session = many.open(Prompt(tuple(prompt)), sampling)
        found[number] = outcomes(engine, steps_of(session, committed, draft, sampling))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(asked))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    engine.close()
    for (prompt, committed, draft), got in zip(asked, found, strict=True):
        alone = cloud().open(Prompt(tuple(prompt)), sampling)
        expected = (
            [alone.verify(*arguments(sampling, committed, draft))]
            if draft
            else list(alone.generate(committed, StopLimits(12)))
        )
        assert [without_times(one) for one in got] == [without_times(one) for one in expected]


def test_those_who_wait_share_a_forward_and_what_they_see_of_it(
    tiny_model: AudioLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    looks: list[int] = []

    def counted(
        logits: Sequence[torch.Tensor], drafts: Sequence[Sequence[int]]
    ) -> list[DraftScores]:
        looks.append(len(drafts))
        return score_drafts(logits, drafts)

    monkeypatch.setattr("edgecloud.cloud.engine.engine.score_drafts", counted)
    began, go = threading.Event(), threading.Event()

    def slow(models: Sequence[Model], tokens: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        began.set()
        assert go.wait(WAIT_S)
        return extend_many([model for model in models if isinstance(model, AudioLM)], tokens)

    engine = Engine(slow, on_batch=sizes.append)
    sessions = [LocalCloud(tiny_model, STOPPING).open(Prompt((5, number))) for number in range(5)]
    for session in sessions:
        session.verify([], [7], EXACT)
    found: SimpleQueue[Outcome] = SimpleQueue()
    for session in sessions:
        engine.submit(session.verifying([9], [7, 8], EXACT), found.put)
        assert began.wait(WAIT_S)
    go.set()
    verdicts = [found.get(timeout=WAIT_S) for _ in range(5)]
    engine.close()
    assert all(isinstance(verdict, Verdict) for verdict in verdicts)
    assert sizes == [1, 4]
    assert looks == [1, 4]


class Failing(ScriptedModel):
    """Has no memory for token 11."""

    def extend(self, tokens: Sequence[int]) -> torch.Tensor:
        if 11 in tokens:
            raise OutOfMemoryError("cuda is out of memory")
        return super().extend(tokens)

    def new_sequence(self) -> Failing:
        return Failing(hashed(3, vocab_size=VOCAB, end_id=0), vocab_size=VOCAB)


def test_one_that_fails_fails_alone() -> None:
    many = LocalCloud(Failing(hashed(3, vocab_size=VOCAB, end_id=0), vocab_size=VOCAB), STOPPING)
    sessions = [many.open(Prompt((5, 6))) for _ in range(3)]
    for session in sessions:
        session.verify([], [7], EXACT)
    go = threading.Event()

    def together(models: Sequence[Model], tokens: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        assert go.wait(WAIT_S)
        return extend_each(models, tokens)

    engine = Engine(together)
    found: list[SimpleQueue[Outcome]] = [SimpleQueue() for _ in sessions]
    for session, queue, draft in zip(sessions, found, ([2, 3], [4, 11], [5]), strict=True):
        engine.submit(session.verifying([], draft, EXACT), queue.put)
    go.set()
    first, second, third = (queue.get(timeout=WAIT_S) for queue in found)
    engine.close()
    assert isinstance(first, Verdict)
    assert isinstance(second, OutOfMemoryError)
    assert isinstance(third, Verdict)


def test_a_request_that_cannot_be_is_answered_with_its_reason() -> None:
    engine = Engine()
    (found,) = outcomes(engine, cloud().open(Prompt((5,))).verifying([], [VOCAB], EXACT))
    engine.close()
    assert isinstance(found, WireError)


class Reading(ScriptedModel):
    """Reads prompts that begin with 5 for as long as the test likes, and has no memory for 6."""

    go = threading.Event()

    def prefill(self, prompt: Prompt) -> torch.Tensor:
        if prompt.token_ids[0] == 5:
            assert self.go.wait(WAIT_S)
        if prompt.token_ids[0] == 6:
            raise OutOfMemoryError("cuda is out of memory")
        return super().prefill(prompt)

    def new_sequence(self) -> Reading:
        return Reading(hashed(3, vocab_size=VOCAB, end_id=0), vocab_size=VOCAB)


def reading() -> LocalCloud:
    return LocalCloud(Reading(hashed(3, vocab_size=VOCAB, end_id=0), vocab_size=VOCAB), STOPPING)


@pytest.mark.parametrize("max_batch", [2, 8])
def test_who_only_extends_does_not_wait_for_anothers_prefill(max_batch: int) -> None:
    Reading.go.clear()
    many = reading()
    engine = Engine(max_batch=max_batch, prefill_beside=True)
    known = many.open(Prompt((7,)))
    outcomes(engine, known.verifying([], [7], EXACT))
    slow: SimpleQueue[Outcome] = SimpleQueue()
    engine.submit(many.open(Prompt((5,))).verifying([], [7], EXACT), slow.put)
    for _ in range(3):
        (found,) = outcomes(engine, known.verifying([], [7, 8], EXACT))
        assert isinstance(found, Verdict)
    assert slow.empty()
    Reading.go.set()
    assert isinstance(slow.get(timeout=WAIT_S), Verdict)
    assert engine.waiting == 0
    engine.close()


@pytest.mark.parametrize("beside", [False, True])
def test_a_prompt_that_cannot_be_read_fails_alone(beside: bool) -> None:
    Reading.go.set()
    many = reading()
    engine = Engine(prefill_beside=beside)
    (failed,) = outcomes(engine, many.open(Prompt((6,))).verifying([], [7], EXACT))
    (found,) = outcomes(engine, many.open(Prompt((7,))).verifying([], [7], EXACT))
    engine.close()
    assert isinstance(failed, OutOfMemoryError)
    assert isinstance(found, Verdict)


def test_closing_in_the_middle_of_a_prefill_leaves_nobody_waiting() -> None:
    Reading.go.clear()
    many = reading()
    engine = Engine(prefill_beside=True, max_batch=2)
    found: SimpleQueue[Outcome] = SimpleQueue()
    for _ in range(4):  # one is read, one waits to be, two wait for a place
        engine.submit(many.open(Prompt((5,))).verifying([], [7], EXACT), found.put)
    closing = threading.Thread(target=engine.close)
    closing.start()
    Reading.go.set()
    closing.join(WAIT_S)
    ends = [found.get(timeout=WAIT_S) for _ in range(4)]
    assert all(isinstance(end, CloudUnavailable | Verdict) for end in ends)
    assert not engine.alive


def test_closing_leaves_nobody_waiting() -> None:
    go = threading.Event()

    def stuck(models: Sequence[Model], tokens: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        assert go.wait(WAIT_S)
        return extend_each(models, tokens)

    engine = Engine(stuck)
    found: SimpleQueue[Outcome] = SimpleQueue()
    many = cloud()
    for _ in range(2):
        engine.submit(many.open(Prompt((5,))).generating([], StopLimits(30)), found.put)
    closing = threading.Thread(target=engine.close)
    closing.start()
    go.set()
    closing.join(WAIT_S)
    ends = [found.get(timeout=WAIT_S) for _ in range(found.qsize())]
    assert sum(isinstance(end, CloudUnavailable) for end in ends) == 2
    assert not engine.alive
    with pytest.raises(CloudUnavailable, match="shutting down"):
        engine.submit(many.open(Prompt((5,))).generating([], StopLimits(3)), found.put)
