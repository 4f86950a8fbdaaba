"""One poisonous request ends itself: whatever it raises and wherever, the next one is answered rightly."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue

import httpx
import pytest
import torch

from edgecloud.cloud.engine.boundary import contained
from edgecloud.cloud.engine.engine import Engine, Outcome, extend_each
from edgecloud.cloud.engine.local import DraftScoring, Forward, LocalCloud, Steps
from edgecloud.cloud.engine.thread_runner import Threads
from edgecloud.cloud.protocol import wire
from edgecloud.contracts import CloudChunk, Model, Prompt, StopLimits, Verdict
from edgecloud.decoding.draft_scores import DraftScores, score_drafts
from edgecloud.errors import CloudError, CloudUnavailable, EdgeCloudError, OutOfMemoryError
from edgecloud.models.audio_lm import AudioLM, extend_many
from edgecloud.models.scripted import ScriptedModel, hashed
from tests.cloud.engine.test_engine import (
    EXACT,
    STOPPING,
    VOCAB,
    WAIT_S,
    cloud,
    outcomes,
    without_times,
)

pytest.importorskip("uvicorn", reason="the extra serve is not installed")
from edgecloud.cloud.http.app import ServiceSettings, service
from tests.cloud.http.test_service import answers, client, opened, post, run, verify
from tests.cloud.running import running

NO_ROOM = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you "
    "tried to allocate 160000000000 bytes. Error code 12 (Cannot allocate memory)"
)
FAULTS: list[Exception] = [
    RuntimeError("The expanded size of the tensor (3) must match"),
    NO_ROOM,
    MemoryError(),
    StopIteration(),
    KeyError("a name"),
    torch.OutOfMemoryError("CUDA out of memory"),
    RecursionError(),
]


class Poisoned(ScriptedModel):
    """Raises ``fault`` at prompts that begin with 10, and at token 11 after it has taken in the token."""

    fault: Exception = FAULTS[0]

    def prefill(self, prompt: Prompt) -> torch.Tensor:
        if prompt.token_ids[0] == 10:
            raise self.fault
        return super().prefill(prompt)

    def extend(self, tokens: Sequence[int]) -> torch.Tensor:
        found = super().extend(tokens)
        if 11 in tokens:
            raise self.fault
        return found

    def new_sequence(self) -> Poisoned:
        made = Poisoned(hashed(3, vocab_size=VOCAB, end_id=0), vocab_size=VOCAB)
        made.fault = self.fault
        return made


def poisoned(fault: Exception) -> LocalCloud:
    model = Poisoned(hashed(3, vocab_size=VOCAB, end_id=0), vocab_size=VOCAB)
    model.fault = fault
    return LocalCloud(model, STOPPING)


def traces(caplog: pytest.LogCaptureFixture) -> int:
    return sum(record.exc_info is not None for record in caplog.records)


def expected(committed: list[int], draft: list[int]) -> object:
    return without_times(cloud().open(Prompt((5, 6))).verify(committed, draft, EXACT))


def next_is_right(engine: Engine, many: LocalCloud) -> None:
    (found,) = outcomes(engine, many.open(Prompt((5, 6))).verifying([], [7, 8], EXACT))
    assert without_times(found) == expected([], [7, 8])


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
@pytest.mark.parametrize("beside", [False, True])
def test_whatever_a_forward_raises_ends_its_request_alone(
    fault: Exception, beside: bool, caplog: pytest.LogCaptureFixture
) -> None:
    many = poisoned(fault)
    engine = Engine(prefill_beside=beside)
    (at_prefill,) = outcomes(engine, many.open(Prompt((10,))).verifying([], [7], EXACT))
    session = many.open(Prompt((5, 6)))
    (at_extension,) = outcomes(engine, session.verifying([], [7, 11], EXACT))
    for found in (at_prefill, at_extension):
        assert isinstance(found, EdgeCloudError)
        assert found.__traceback__ is None
        assert found.__cause__ is None
        wants_memory = isinstance(fault, MemoryError | torch.OutOfMemoryError) or fault is NO_ROOM
        assert isinstance(found, OutOfMemoryError) == wants_memory
    assert traces(caplog) == 2
    # The same session, whose model took in more than it answered, and any other.
    (again,) = outcomes(engine, session.verifying([], [7, 8], EXACT))
    assert without_times(again) == expected([], [7, 8])
    next_is_right(engine, many)
    assert engine.waiting == 0
    assert engine.alive
    engine.close()


def none_of_them(models: Sequence[Model], tokens: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """A forward for many that forgets their answers; one alone is answered."""
    return extend_each(models, tokens) if len(models) == 1 else []


@pytest.mark.parametrize("together", [extend_each, none_of_them])
def test_one_that_poisons_a_shared_forward_changes_nothing_for_the_others(
    together: Callable[[Sequence[Model], Sequence[Sequence[int]]], list[torch.Tensor]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    many = poisoned(FAULTS[0])
    sessions = [many.open(Prompt((5, 6))) for _ in range(3)]
    for session in sessions:
        session.verify([], [7], EXACT)
    go = threading.Event()

    def shared(models: Sequence[Model], tokens: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        assert go.wait(WAIT_S)
        return together(models, tokens)

    engine = Engine(shared)
    found: list[SimpleQueue[Outcome]] = [SimpleQueue() for _ in sessions]
    first: SimpleQueue[Outcome] = SimpleQueue()
    engine.submit(many.open(Prompt((5, 6))).verifying([], [7, 8], EXACT), first.put)
    for session, queue, draft in zip(sessions, found, ([2, 3], [4, 11], [5]), strict=True):
        engine.submit(session.verifying([], draft, EXACT), queue.put)
    go.set()
    ends = [queue.get(timeout=WAIT_S) for queue in found]
    engine.close()
    assert without_times(ends[0]) == expected([], [2, 3])
    assert isinstance(ends[1], CloudError)
    assert without_times(ends[2]) == expected([], [5])
    assert traces(caplog) == 1


def test_a_look_that_fails_for_many_is_taken_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def picky(logits: Sequence[torch.Tensor], drafts: Sequence[Sequence[int]]) -> list[DraftScores]:
        calls.append(len(drafts))
        if any(11 in draft for draft in drafts):
            raise IndexError("index out of range")
        return score_drafts(logits, drafts)

    monkeypatch.setattr("edgecloud.cloud.engine.engine.score_drafts", picky)
    monkeypatch.setattr("edgecloud.cloud.engine.local.score_drafts", picky)
    go = threading.Event()

    def slow(models: Sequence[Model], tokens: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        assert go.wait(WAIT_S)
        return extend_each(models, tokens)

    engine = Engine(slow)
    many = cloud()
    found: list[SimpleQueue[Outcome]] = [SimpleQueue() for _ in range(4)]
    for queue, draft in zip(found, ([5], [7, 8], [4, 11], [9]), strict=True):
        engine.submit(many.open(Prompt((5, 6))).verifying([], draft, EXACT), queue.put)
    go.set()
    ends = [queue.get(timeout=WAIT_S) for queue in found]
    assert [isinstance(end, Verdict) for end in ends] == [True, True, False, True]
    assert without_times(ends[1]) == expected([], [7, 8])
    next_is_right(engine, many)
    engine.close()


@pytest.mark.parametrize("at", ["start", "middle", "rubbish", "close", "verdict"])
def test_whatever_a_requests_own_steps_do_is_its_own_end(at: str) -> None:
    many = cloud()

    def steps() -> Steps:
        try:
            if at == "start":
                raise ZeroDivisionError
            session = many.open(Prompt((5, 6)))
            yield Forward(session._model, Prompt((5, 6)))
            if at == "middle":
                raise LookupError("in the middle")
            if at == "rubbish":
                yield "no step"  # type: ignore[misc]
            if at == "verdict":
                return "no verdict"  # type: ignore[return-value]
            yield DraftScoring(torch.zeros(2, VOCAB), ())
        finally:
            if at == "close":
                raise OSError("it cannot even be closed")
        return None

    engine = Engine()
    (found,) = outcomes(engine, steps())
    assert isinstance(found, CloudError)
    next_is_right(engine, many)
    engine.close()


def test_answers_that_cannot_be_delivered_harm_nobody(caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine()
    many = cloud()
    told: list[Outcome] = []

    def deliver(outcome: Outcome) -> None:
        told.append(outcome)
        raise RuntimeError("Event loop is closed")

    engine.submit(many.open(Prompt((5,))).generating([], StopLimits(20)), deliver)
    engine.submit(many.open(Prompt((5,))).verifying([], [VOCAB], EXACT), deliver)
    next_is_right(engine, many)
    assert engine.waiting == 0
    # One chunk, then that it failed; nothing more is computed for it.
    assert sum(isinstance(outcome, CloudChunk) for outcome in told) == 1
    assert traces(caplog) == 1
    engine.close()


def test_who_watches_batches_cannot_end_the_engine() -> None:
    def watch(size: int) -> None:
        raise ValueError(size)

    engine = Engine(on_batch=watch)
    (found,) = outcomes(engine, cloud().open(Prompt((5, 6))).verifying([], [7, 8], EXACT))
    assert isinstance(found, CloudError)
    assert engine.alive
    engine.close()


def test_a_prefill_that_was_called_off_ends_its_request_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = Engine(prefill_beside=True)
    many = cloud()
    assert engine._beside is not None
    submit = engine._beside.submit

    def no_thread(*given: object) -> None:
        monkeypatch.setattr(engine._beside, "submit", submit)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(engine._beside, "submit", no_thread)
    (found,) = outcomes(engine, many.open(Prompt((5,))).verifying([], [7], EXACT))
    assert isinstance(found, CloudError)
    next_is_right(engine, many)
    engine.close()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_request_to_a_model_elsewhere_ends_alone_too(fault: Exception) -> None:
    runner = Threads(lambda: True, lambda: None)

    def steps() -> Iterator[CloudChunk]:
        yield CloudChunk((1,))
        raise fault

    found: SimpleQueue[Outcome] = SimpleQueue()
    runner.submit(steps(), found.put)  # type: ignore[arg-type]
    assert isinstance(found.get(timeout=WAIT_S), CloudChunk)
    assert isinstance(found.get(timeout=WAIT_S), EdgeCloudError)
    runner.close(WAIT_S)
    assert runner.waiting == 0


def test_what_is_kept_of_a_failure_holds_nothing_of_the_work() -> None:
    def work(size: int) -> None:
        held = torch.empty(size)
        raise RuntimeError(f"{held.shape}")

    failed = contained(work, 3)
    assert isinstance(failed, CloudError)
    assert failed.__traceback__ is failed.__context__ is failed.__cause__ is None
    assert "RuntimeError" in str(failed)


def test_two_hundred_thousand_drafted_tokens_are_answered_and_so_is_the_next(
    tiny_model: AudioLM,
) -> None:
    """Over HTTP; a dense mask of all of them would take 160 GB, which the processor's allocator refuses."""
    many = LocalCloud(tiny_model, STOPPING)
    engine = Engine(
        lambda models, tokens: extend_many([m for m in models if isinstance(m, AudioLM)], tokens)
    )
    with (
        running(many, ServiceSettings(), runner=engine) as url,
        httpx.Client(trust_env=False) as to,
    ):

        def ask(*messages: bytes) -> httpx.Response:
            body = wire.pack_frames(messages)
            return to.post(f"{url}/v1/messages", content=body, timeout=WAIT_S)

        first = ask(opened(prompt=Prompt((5, 6))), verify(1, [7]))
        assert first.status_code == 200
        with pytest.MonkeyPatch.context() as patch:
            # What the processor says of so many, without taking the memory for it here.
            def no_room(*given: object) -> None:
                raise NO_ROOM

            patch.setattr("edgecloud.models.audio_lm.functional.embedding", no_room)
            poison = ask(verify(2, [5] * 200_000))
            assert (poison.status_code, poison.json()["error"]) == (503, "OutOfMemoryError")
        assert to.get(f"{url}/healthz").status_code == 200
        assert to.get(f"{url}/readyz").status_code == 200
        other = b"another session!"
        found = ask(opened(other, Prompt((5, 6))), verify(1, [7], name=other))
        assert answers(found)[0][2][1:6] == answers(first)[0][2][1:6]


def test_the_service_is_unhealthy_only_when_its_engine_has_ended() -> None:
    async def test() -> None:
        async with client() as to:
            assert (await to.get("/healthz")).status_code == 200
        engine = Engine()
        app = service(cloud(), {"name": "scripted"}, ServiceSettings(), runner=engine)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as to:
            assert (await to.get("/healthz")).json() == {"status": "alive"}
            engine.close()
            assert (await to.get("/healthz")).status_code == 503
            assert (await to.get("/readyz")).status_code == 503

    run(test())


def test_a_fault_of_the_service_is_told_once_and_not_asked_again() -> None:
    async def test() -> None:
        app = service(poisoned(FAULTS[0]), {"name": "scripted"}, ServiceSettings())
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://here") as to:
                failed = await post(to, opened(prompt=Prompt((10,))), verify(1, [2]))
                assert (failed.status_code, failed.json()["error"]) == (500, "CloudError")
                assert "RuntimeError" in failed.json()["text"]
                other = b"another session!"
                found = await post(to, opened(other, Prompt((5, 6))), verify(1, [7], name=other))
                assert answers(found)[0][1] == "verdict"

    logging.getLogger("edgecloud.service").setLevel(logging.INFO)
    run(test())


def test_an_answer_that_cannot_be_packed_ends_its_request_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        async with client() as to:
            assert (await post(to, opened())).status_code == 204
            with pytest.MonkeyPatch.context() as patch:

                def unpackable(*given: object, **more: object) -> bytes:
                    raise OverflowError("an integer is too large to be packed")

                patch.setattr(wire, "pack_verdict", unpackable)
                failed = await post(to, verify(1, [2, 3]))
                assert (failed.status_code, failed.json()["error"]) == (500, "CloudError")
            assert answers(await post(to, verify(2, [2, 3])))[0][1] == "verdict"

    run(test())


def test_nobody_is_left_waiting_when_the_engine_itself_ends() -> None:
    class Fatal(BaseException):
        pass

    def steps() -> Steps:
        raise Fatal
        yield

    told: SimpleQueue[Outcome] = SimpleQueue()
    hook, threading.excepthook = threading.excepthook, lambda _: None
    try:
        engine = Engine()
        engine.submit(steps(), told.put)
        assert isinstance(told.get(timeout=WAIT_S), CloudUnavailable)
        engine._thread.join(WAIT_S)
    finally:
        threading.excepthook = hook
    assert engine.ended
    assert not engine.alive
