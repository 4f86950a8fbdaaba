"""Long prompts and texts in parts that take turns, and the end of work that nobody waits for."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import ClassVar

import httpx
import pytest
import torch
from starlette.responses import Response, StreamingResponse

from edgecloud.cloud.engine.engine import Engine, Outcome
from edgecloud.cloud.engine.local import LocalCloud, LocalSession
from edgecloud.cloud.pipe_server import MessageServer, answer_all
from edgecloud.cloud.protocol import wire
from edgecloud.cloud.protocol.remote import PipeChannel, RemoteCloud
from edgecloud.contracts import Acceptance, CloudChunk, Prompt, StopLimits, Verdict
from edgecloud.contracts.sampling import GREEDY, Distribution, Sampling
from edgecloud.decoding.draft_scores import score_drafts
from edgecloud.errors import CloudError, CloudTimeout, OutOfMemoryError
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
from edgecloud.cloud.http.app import ServiceSettings
from tests.cloud.engine.test_boundary import poisoned
from tests.cloud.http.test_service import NAME, opened, verify
from tests.cloud.running import running
from tests.cloud.vllm.fake_vllm import Asked
from tests.cloud.vllm.test_vllm_gateway import PROMPT as VLLM_PROMPT
from tests.cloud.vllm.test_vllm_gateway import fake, gateway, to

CHUNK = 4
LONG = tuple(1 + n % 8 for n in range(10 * CHUNK))
SAMPLED = Sampling(2.0, 0.9, 5)
REJECTION = Acceptance("rejection")


class Turns(ScriptedModel):
    """Writes down, over all its sequences, which prompt each forward belongs to, by its first token.

    ``step`` is waited for before each forward of a prompt that begins with 1; ``fails_at`` parts fail.
    """

    log: ClassVar[list[int]] = []
    gate: ClassVar[threading.Semaphore | None] = None
    fails_at: ClassVar[int] = -1

    def _turn(self, first: int) -> None:
        if self.gate is not None and first == 1:
            assert self.gate.acquire(timeout=WAIT_S)
        Turns.log.append(first)

    def prefill(self, prompt: Prompt) -> torch.Tensor:
        self._turn(prompt.token_ids[0])
        return super().prefill(prompt)

    def prefill_in_parts(self, prompt: Prompt, most: int) -> Iterator[torch.Tensor | None]:
        assert most == CHUNK
        for number, part in enumerate(super().prefill_in_parts(prompt, most)):
            self._turn(prompt.token_ids[0])
            if number == self.fails_at:
                raise OutOfMemoryError("cuda is out of memory")
            yield part

    def extend(self, tokens: Sequence[int]) -> torch.Tensor:
        assert len(tokens) <= CHUNK
        self._turn(self.sequence[0])
        return super().extend(tokens)

    def new_sequence(self) -> Turns:
        return Turns(hashed(3, vocab_size=VOCAB, end_id=0), vocab_size=VOCAB)


@pytest.fixture(autouse=True)
def _fresh_log() -> None:
    Turns.log = []
    Turns.gate = None
    Turns.fails_at = -1


def turning() -> LocalCloud:
    model = Turns(hashed(3, vocab_size=VOCAB, end_id=0), vocab_size=VOCAB)
    return LocalCloud(model, STOPPING, prefill_chunk=CHUNK)


def verdict_of(prompt: tuple[int, ...], committed: list[int], draft: list[int]) -> object:
    return without_times(cloud().open(Prompt(prompt)).verify(committed, draft, EXACT))


def eventually(true: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline_s
        time.sleep(0.002)


@pytest.mark.parametrize("length", [1, CHUNK, CHUNK + 1, 2 * CHUNK, len(LONG)])
@pytest.mark.parametrize(("new", "drafted"), [(0, 1), (0, 11), (3, 2), (9, 1), (9, 6), (8, 8)])
@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED])
def test_a_text_in_parts_gives_what_it_gives_whole(
    length: int, new: int, drafted: int, sampling: Sampling
) -> None:
    prompt = Prompt(LONG[:length])
    committed = [2 + n % 7 for n in range(new)]
    in_parts, whole = turning().open(prompt, sampling), cloud().open(prompt, sampling)
    draft = [3 + n % 5 for n in range(drafted)]
    rule, sources = EXACT, [Distribution(tuple(range(VOCAB)), (1,) * VOCAB)] * drafted
    if sampling.greedy:
        sources = []
    else:
        rule = REJECTION
    for known in (committed, [*committed, 5, 6], committed[:1]):
        one, other = (s.verify(known, draft, rule, 2, sources) for s in (in_parts, whole))
        assert without_times(one) == without_times(other)
        assert one.continuation == other.continuation
    limits = StopLimits(12)
    chunks = [list(session.generate(committed, limits)) for session in (in_parts, whole)]
    assert list(map(without_times, chunks[0])) == list(map(without_times, chunks[1]))


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("max_batch", [1, 8])
def test_others_have_their_turns_between_the_parts_of_a_long_prompt(
    beside: bool, max_batch: int
) -> None:
    many = turning()
    engine = Engine(max_batch=max_batch, prefill_beside=beside)
    known = many.open(Prompt((7,)))
    outcomes(engine, known.verifying([], [7], EXACT))
    Turns.gate = threading.Semaphore(0)
    told: SimpleQueue[Outcome] = SimpleQueue()
    engine.submit(many.open(Prompt(LONG)).verifying([], [7], EXACT), told.put)
    engine.submit(known.verifying([], [7, 8], EXACT), told.put)
    engine.submit(many.open(Prompt((8, 9))).verifying([], [7], EXACT), told.put)
    # Both are answered before the third part of the long prompt is computed.
    Turns.gate.release(2)
    ends = [told.get(timeout=WAIT_S) for _ in range(2)]
    assert all(isinstance(end, Verdict) for end in ends)
    assert Turns.log.count(1) <= 2
    Turns.gate.release(100)
    assert without_times(told.get(timeout=WAIT_S)) == verdict_of(LONG, [], [7])
    assert Turns.log.count(1) == len(LONG) // CHUNK + 1
    engine.close()


@pytest.mark.parametrize("beside", [False, True])
def test_a_long_text_that_was_not_seen_before_takes_turns_too(beside: bool) -> None:
    many = turning()
    engine = Engine(prefill_beside=beside)
    known = many.open(Prompt((7,)))
    long = many.open(Prompt((1, 2)))
    for session in (known, long):
        outcomes(engine, session.verifying([], [7], EXACT))
    Turns.log.clear()
    Turns.gate = threading.Semaphore(0)
    told: SimpleQueue[Outcome] = SimpleQueue()
    engine.submit(long.verifying(list(LONG), [7], EXACT), told.put)
    engine.submit(known.verifying([], [7, 8], EXACT), told.put)
    Turns.gate.release(2)
    assert without_times(told.get(timeout=WAIT_S)) == verdict_of((7,), [], [7, 8])
    assert Turns.log.count(1) <= 2
    Turns.gate.release(100)
    assert without_times(told.get(timeout=WAIT_S)) == verdict_of((1, 2), list(LONG), [7])
    engine.close()


@pytest.mark.parametrize("beside", [False, True])
def test_long_prompts_take_turns_with_each_other(beside: bool) -> None:
    many = turning()
    engine = Engine(prefill_beside=beside)
    Turns.gate = threading.Semaphore(0)
    told: SimpleQueue[Outcome] = SimpleQueue()
    for first in (1, 2, 3):
        prompt = Prompt((first, *LONG[1:]))
        engine.submit(many.open(prompt).verifying([], [7], EXACT), told.put)
    eventually(lambda: engine._arrived.empty())
    Turns.gate.release(100)
    for _ in range(3):
        assert isinstance(told.get(timeout=WAIT_S), Verdict)
    parts = len(LONG) // CHUNK
    # None of them is more than two parts ahead of another.
    for end in range(3, 3 * parts):
        counts = [Turns.log[:end].count(first) for first in (1, 2, 3)]
        assert max(counts) - min(counts) <= 2
    engine.close()


def test_many_long_prompts_leave_places_for_others() -> None:
    many = turning()
    engine = Engine(max_batch=2)
    Turns.gate = threading.Semaphore(0)
    told: SimpleQueue[Outcome] = SimpleQueue()
    for _ in range(6):
        engine.submit(many.open(Prompt(LONG)).verifying([], [7], EXACT), lambda _: None)
    engine.submit(many.open(Prompt((8, 9))).verifying([], [7], EXACT), told.put)
    Turns.gate.release(12)
    assert without_times(told.get(timeout=WAIT_S)) == verdict_of((8, 9), [], [7])
    Turns.gate.release(1000)
    engine.close()


@pytest.mark.parametrize("beside", [False, True])
def test_a_part_that_fails_ends_its_request_and_the_next_begins_anew(beside: bool) -> None:
    many = turning()
    engine = Engine(prefill_beside=beside)
    session = many.open(Prompt(LONG))
    Turns.fails_at = 3
    (failed,) = outcomes(engine, session.verifying([], [7], EXACT))
    assert isinstance(failed, OutOfMemoryError)
    Turns.fails_at = -1
    (found,) = outcomes(engine, session.verifying([], [7], EXACT))
    assert without_times(found) == verdict_of(LONG, [], [7])
    engine.close()


@pytest.mark.parametrize("beside", [False, True])
def test_a_prefill_that_nobody_waits_for_ends_and_goes_on_when_it_is_asked_for_again(
    beside: bool,
) -> None:
    many = turning()
    engine = Engine(prefill_beside=beside)
    Turns.gate = threading.Semaphore(0)
    session = many.open(Prompt(LONG))
    told: SimpleQueue[Outcome] = SimpleQueue()
    cancel = engine.submit(session.verifying([], [7], EXACT), told.put)
    Turns.gate.release(3)
    eventually(lambda: Turns.log.count(1) == 3)
    cancel()
    Turns.gate.release(100)
    assert isinstance(told.get(timeout=WAIT_S), CloudTimeout)
    computed = Turns.log.count(1)
    assert computed <= 3 + 2  # the one under way, and one more
    eventually(lambda: engine.waiting == 0)
    (found,) = outcomes(engine, session.verifying([], [7], EXACT))
    assert without_times(found) == verdict_of(LONG, [], [7])
    assert Turns.log.count(1) == len(LONG) // CHUNK + 1
    engine.close()


class Endless(ScriptedModel):
    """Writes for ever, a turn each time the test says so."""

    turns: ClassVar[int] = 0
    gate: ClassVar[threading.Semaphore] = threading.Semaphore(0)

    def prefill(self, prompt: Prompt) -> torch.Tensor:
        self._waited()
        return super().prefill(prompt)

    def extend(self, tokens: Sequence[int]) -> torch.Tensor:
        self._waited()
        return super().extend(tokens)

    def _waited(self) -> None:
        assert self.gate.acquire(timeout=WAIT_S)
        Endless.turns += 1

    def new_sequence(self) -> Endless:
        return Endless(lambda _: [-9.0, -9.0, *[1.0] * (VOCAB - 2)], vocab_size=VOCAB)


def endless() -> LocalCloud:
    Endless.turns = 0
    Endless.gate = threading.Semaphore(0)
    model = Endless(lambda _: [-9.0, -9.0, *[1.0] * (VOCAB - 2)], vocab_size=VOCAB)
    return LocalCloud(model, STOPPING)


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED])
def test_a_generation_that_nobody_waits_for_is_at_most_one_more_turn(sampling: Sampling) -> None:
    many = endless()
    engine = Engine(prefill_beside=True)
    told: SimpleQueue[Outcome] = SimpleQueue()
    session = many.open(Prompt((5,)), sampling)
    cancel = engine.submit(session.generating([], StopLimits(4000)), told.put)
    Endless.gate.release(5)
    eventually(lambda: Endless.turns == 5)
    cancel()
    Endless.gate.release(1000)
    last: Outcome = CloudChunk(())
    while isinstance(last, CloudChunk):
        last = told.get(timeout=WAIT_S)
    assert isinstance(last, CloudTimeout)
    assert Endless.turns <= 5 + 2
    eventually(lambda: engine.waiting == 0)
    # The session is fit for what comes next.
    assert len(outcomes(engine, session.generating([], StopLimits(6)))) == 6
    engine.close()


def test_whoever_waits_for_a_place_may_leave_the_queue() -> None:
    many = endless()
    engine = Engine(max_batch=1)
    told: SimpleQueue[Outcome] = SimpleQueue()
    engine.submit(many.open(Prompt((5,))).generating([], StopLimits(5)), lambda _: None)
    cancel = engine.submit(many.open(Prompt((5,))).generating([], StopLimits(4000)), told.put)
    cancel()
    Endless.gate.release(1000)
    assert isinstance(told.get(timeout=WAIT_S), CloudTimeout)
    eventually(lambda: engine.waiting == 0)
    assert Endless.turns <= 5
    engine.close()


def test_after_its_end_there_is_nothing_to_call_off() -> None:
    engine = Engine()
    told: SimpleQueue[Outcome] = SimpleQueue()
    cancel = engine.submit(cloud().open(Prompt((5,))).verifying([], [7], EXACT), told.put)
    assert isinstance(told.get(timeout=WAIT_S), Verdict)
    cancel()
    (found,) = outcomes(engine, cloud().open(Prompt((5,))).verifying([], [7], EXACT))
    assert isinstance(found, Verdict)
    with pytest.raises(Empty):
        told.get_nowait()
    engine.close()


GENERATE = wire.pack(1, "generate", NAME, 0, [], 4000, None)


def hanging_up(url: str, *messages: bytes, after: int) -> None:
    """Ask, and hang up once the model has had ``after`` turns."""
    with (
        httpx.Client(trust_env=False) as client,
        client.stream(
            "POST", f"{url}/v1/messages", content=wire.pack_frames(messages), timeout=WAIT_S
        ) as response,
    ):
        assert response.status_code == 200
        eventually(lambda: Endless.turns == after)


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED])
def test_whoever_hangs_up_costs_at_most_one_more_turn(sampling: Sampling) -> None:
    opening = wire.pack(0, "open", NAME, *wire.pack_open(Prompt((5,)), sampling))
    engine = Engine(prefill_beside=True)
    with running(endless(), runner=engine) as url:
        Endless.gate.release(5)
        hanging_up(url, opening, GENERATE, after=5)
        time.sleep(0.3)  # a socket's end takes its way
        Endless.gate.release(1000)
        eventually(lambda: engine.waiting == 0)
        assert Endless.turns <= 5 + 1
        told = 'edgecloud_requests_total{op="generate",status="499"} 1.0'
        eventually(lambda: told in httpx.get(f"{url}/metrics", trust_env=False).text)
        # Asked again under the same number it begins anew.
        again = httpx.post(
            f"{url}/v1/messages",
            content=wire.pack_frames([wire.pack(1, "generate", NAME, 0, [], 7, None)]),
            trust_env=False,
        )
        assert again.status_code == 200
        assert len(wire.unpack_frames(again.content)[0]) == 7


def test_whoever_hangs_up_before_the_first_answer_costs_at_most_one_more_turn() -> None:
    engine = Engine()
    with running(endless(), runner=engine) as url:
        asked = wire.pack(1, "verify", NAME, 0, [], [5], wire.pack_acceptance(EXACT), 4000, [])
        with httpx.Client(trust_env=False) as client, pytest.raises(httpx.ReadTimeout):
            client.post(
                f"{url}/v1/messages",
                content=wire.pack_frames([opened(prompt=Prompt((5,))), asked]),
                timeout=0.2,
            )
        time.sleep(0.3)
        Endless.gate.release(1000)
        eventually(lambda: engine.waiting == 0)
        assert Endless.turns <= 1
        told = 'edgecloud_requests_total{op="verify",status="499"} 1.0'
        eventually(lambda: told in httpx.get(f"{url}/metrics", trust_env=False).text)
        found = httpx.post(
            f"{url}/v1/messages",
            content=wire.pack_frames([verify(2, [5])]),
            trust_env=False,
        )
        assert found.status_code == 200


@pytest.mark.parametrize("op", ["verify", "generate"])
def test_what_is_not_answered_in_time_costs_at_most_one_more_turn(op: str) -> None:
    engine = Engine()
    verification = wire.pack(1, "verify", NAME, 0, [], [5], wire.pack_acceptance(EXACT), 4000, [])
    asked = verification if op == "verify" else GENERATE
    with running(endless(), ServiceSettings(answer_s=0.3), runner=engine) as url:
        Endless.gate.release(1)
        body = wire.pack_frames([opened(prompt=Prompt((5,))), asked])
        found = httpx.post(f"{url}/v1/messages", content=body, trust_env=False, timeout=WAIT_S)
        assert found.status_code == (503 if op == "verify" else 200)
        Endless.gate.release(1000)
        eventually(lambda: engine.waiting == 0)
        assert Endless.turns <= 1 + 2


def test_what_another_waits_for_too_goes_on() -> None:
    engine = Engine()
    with running(endless(), runner=engine) as url, httpx.Client(trust_env=False) as client:
        asked = wire.pack(1, "generate", NAME, 0, [], 9, None)
        assert client.post(
            f"{url}/v1/messages", content=wire.pack_frames([opened(prompt=Prompt((5,)))])
        ).is_success
        found: SimpleQueue[httpx.Response] = SimpleQueue()

        def ask() -> None:
            body = wire.pack_frames([asked])
            found.put(
                httpx.post(f"{url}/v1/messages", content=body, trust_env=False, timeout=WAIT_S)
            )

        Endless.gate.release(3)
        with client.stream("POST", f"{url}/v1/messages", content=wire.pack_frames([asked])):
            eventually(lambda: Endless.turns == 3)
            threading.Thread(target=ask, daemon=True).start()
            time.sleep(0.3)
        time.sleep(0.3)
        Endless.gate.release(1000)
        whole = found.get(timeout=WAIT_S)
        assert len(wire.unpack_frames(whole.content)[0]) == 9
        assert Endless.turns == 9


def piped(behind: LocalCloud) -> tuple[PipeChannel, threading.Thread]:
    ours, theirs = multiprocessing.Pipe()

    def serve() -> None:
        with pytest.raises((EOFError, OSError)):
            answer_all(theirs, MessageServer(behind))

    serving = threading.Thread(target=serve, daemon=True)
    serving.start()
    return PipeChannel(ours), serving


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED])
@pytest.mark.parametrize("how", ["closes", "asks something else", "its deadline"])
def test_over_the_pipe_what_the_edge_gave_up_is_at_most_one_more_turn(
    how: str, sampling: Sampling
) -> None:
    channel, serving = piped(endless())
    late = how == "its deadline"
    session = RemoteCloud(channel, deadline_s=0.3 if late else WAIT_S).open(Prompt((5,)), sampling)
    Endless.gate.release(3)
    chunks = session.generate([], StopLimits(4000))
    output = [token for _ in range(3) for token in next(chunks).tokens]
    if late:
        with pytest.raises(CloudTimeout):
            next(chunks)
    elif how == "closes":
        session.close()
    else:
        again = session.generate(output, StopLimits(8))
    Endless.gate.release(1000)
    if how == "asks something else":
        assert sum(len(chunk.tokens) for chunk in again) == 5
        assert Endless.turns <= 3 + 1 + 6
    else:
        time.sleep(0.2)
        assert Endless.turns <= 3 + 1
    channel.close()
    serving.join(WAIT_S)
    assert not serving.is_alive()


def test_over_the_pipe_another_sessions_end_and_beginning_end_nothing() -> None:
    channel, serving = piped(endless())
    remote = RemoteCloud(channel, deadline_s=WAIT_S)
    session, other = remote.open(Prompt((5,))), remote.open(Prompt((6,)))
    Endless.gate.release(4)
    assert len(next(other.generate([], StopLimits(1))).tokens) == 1
    chunks = session.generate([], StopLimits(9))
    next(chunks)
    other.close()
    channel.send(wire.pack(0, "open", b"o" * 16, *wire.pack_open(Prompt((7,)))), answered=False)
    Endless.gate.release(1000)
    assert sum(len(chunk.tokens) for chunk in chunks) == 8
    channel.close()
    serving.join(WAIT_S)


def test_through_the_gateway_a_continuation_that_nobody_waits_for_is_stopped() -> None:
    """What vLLM has begun is one turn; it is not asked again, and not read to its end."""
    slow = threading.Event()

    def busy(asked: Asked, number: int) -> Response | None:
        if number == 1:
            slow.set()
            time.sleep(0.5)
        return None

    server = fake(fault=busy)
    with server.running() as url, gateway(to(url)) as here:
        asked = wire.pack(1, "verify", NAME, 0, [], [2], wire.pack_acceptance(EXACT), 4000, [])
        body = wire.pack_frames([opened(prompt=VLLM_PROMPT), asked])
        with httpx.Client(trust_env=False) as client, pytest.raises(httpx.ReadTimeout):
            client.post(f"{here}/v1/messages", content=body, timeout=0.2)
        assert slow.wait(WAIT_S)
        page = ""
        while "edgecloud_queue 0.0" not in page:
            page = httpx.get(f"{here}/metrics", trust_env=False).text
            time.sleep(0.02)
        assert len(server.asked) == 1


def test_a_session_that_was_closed_forgets_the_parts_of_its_prompt() -> None:
    session = turning().open(Prompt(LONG))
    assert isinstance(session, LocalSession)
    steps = session.verifying([], [7], EXACT)
    step = next(steps)
    steps.send(step.run())  # type: ignore[union-attr]
    steps.close()
    session.close()
    assert without_times(session.verify([], [7], EXACT)) == verdict_of(LONG, [], [7])


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED])
def test_a_long_draft_is_looked_at_in_parts_too(
    sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def watched(logits: Sequence[torch.Tensor], drafts: Sequence[Sequence[int]]) -> object:
        sizes.extend(map(len, drafts))
        return score_drafts(logits, drafts)

    for place in ("cloud.engine.engine", "cloud.engine.local", "decoding.sampling"):
        monkeypatch.setattr(f"edgecloud.{place}.score_drafts", watched)
    many = turning()
    engine = Engine()
    known = many.open(Prompt((7,)))
    outcomes(engine, known.verifying([], [7], EXACT))
    session = many.open(Prompt((1, 2)), sampling)
    draft = [1 + n % 8 for n in range(5 * CHUNK + 1)]
    sources = [] if sampling.greedy else [Distribution((*range(9),), (1,) * 9)] * len(draft)
    rule = EXACT if sampling.greedy else REJECTION
    sizes.clear()
    (found,) = outcomes(engine, session.verifying([], draft, rule, 0, sources))
    assert isinstance(found, Verdict)
    assert len(found.ranks) == len(draft)
    assert sizes == [CHUNK] * 5 + [1]
    # Nor is more kept of its logits than the session needs.
    assert session._next is not None
    assert session._next.untyped_storage().nbytes() <= 2 * session._next.nbytes
    engine.close()


def test_where_more_wait_than_share_a_forward_they_take_turns() -> None:
    many = endless()
    engine = Engine(max_batch=2)
    told: SimpleQueue[Outcome] = SimpleQueue()
    cancels = [
        engine.submit(many.open(Prompt((5,))).generating([], StopLimits(4000)), lambda _: None)
        for _ in range(5)
    ]
    engine.submit(many.open(Prompt((5,))).verifying([], [7], EXACT), told.put)
    Endless.gate.release(30)
    assert isinstance(told.get(timeout=WAIT_S), Verdict)
    for cancel in cancels:
        cancel()
    Endless.gate.release(1000)
    eventually(lambda: engine.waiting == 0)
    engine.close()


@pytest.mark.parametrize("beside", [False, True])
def test_the_long_prompts_of_one_client_take_turns_with_those_of_another(beside: bool) -> None:
    many = turning()
    engine = Engine(prefill_beside=beside)
    Turns.gate = threading.Semaphore(0)
    told: SimpleQueue[Outcome] = SimpleQueue()
    for _ in range(8):
        steps = many.open(Prompt(LONG)).verifying([], [7], EXACT)
        engine.submit(steps, lambda _: None, client="lab")
    other = many.open(Prompt((2, *LONG[1:]))).verifying([], [7], EXACT)
    engine.submit(other, told.put, client="phones")
    eventually(lambda: engine._arrived.empty() and engine.waiting == 9)
    Turns.gate.release(1000)
    assert isinstance(told.get(timeout=WAIT_S), Verdict)
    parts = len(LONG) // CHUNK
    its = [place for place, first in enumerate(Turns.log) if first == 2]
    assert Turns.log[: its[parts]].count(1) <= parts + 4
    engine.close()


def test_a_call_that_wakes_the_engine_is_no_request() -> None:
    many = endless()
    engine = Engine()
    told: SimpleQueue[Outcome] = SimpleQueue()
    cancel = engine.submit(many.open(Prompt((5,))).verifying([], [7], EXACT), told.put)
    for _ in range(3):
        cancel()
    assert engine.waiting == 1
    Endless.gate.release(1000)
    assert isinstance(told.get(timeout=WAIT_S), CloudTimeout)
    assert engine.waiting == 0
    engine.close()


def test_a_request_whose_session_was_closed_while_it_waited_is_not_put_to_its_namesake() -> None:
    engine = Engine()
    with running(endless(), runner=engine) as url, httpx.Client(trust_env=False) as client:

        def ask(*messages: bytes) -> httpx.Response:
            body = wire.pack_frames(messages)
            return httpx.post(f"{url}/v1/messages", content=body, trust_env=False, timeout=WAIT_S)

        first = wire.pack_frames([opened(prompt=Prompt((5,))), GENERATE])
        found: SimpleQueue[httpx.Response] = SimpleQueue()
        Endless.gate.release(3)
        with client.stream("POST", f"{url}/v1/messages", content=first):
            eventually(lambda: Endless.turns == 3)
            asked = wire.pack(2, "generate", NAME, 0, [], 9, None)
            threading.Thread(target=lambda: found.put(ask(asked)), daemon=True).start()
            time.sleep(0.3)
            assert ask(wire.pack(3, "close", NAME), opened(prompt=Prompt((6,)))).is_success
        time.sleep(0.3)
        Endless.gate.release(1000)
        lost = found.get(timeout=WAIT_S)
        assert (lost.status_code, lost.json()["error"]) == (404, "SessionLost")
        assert len(wire.unpack_frames(ask(asked).content)[0]) == 9


def test_over_the_pipe_what_nobody_foresaw_ends_its_request_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    channel, serving = piped(poisoned(RuntimeError("The expanded size of the tensor must match")))
    remote = RemoteCloud(channel, deadline_s=WAIT_S)
    for prompt, draft in ((Prompt((10,)), [7]), (Prompt((5, 6)), [7, 11])):
        with pytest.raises(CloudError, match="its log has the traceback"):
            remote.open(prompt).verify([], draft, EXACT)
    assert sum(record.exc_info is not None for record in caplog.records) == 2
    found = remote.open(Prompt((5, 6))).verify([], [7, 8], EXACT)
    expected = cloud().open(Prompt((5, 6))).verify([], [7, 8], EXACT)
    assert found.output([7, 8]) == expected.output([7, 8])
    channel.close()
    serving.join(WAIT_S)
    assert not serving.is_alive()


def test_through_the_gateway_a_generation_that_stalls_is_ended_when_nobody_waits() -> None:
    ended = threading.Event()

    async def stalled() -> AsyncIterator[str]:
        try:
            yield 'data: {"choices": [{"index": 0, "token_ids": [2]}]}\n\n'
            await asyncio.sleep(WAIT_S)
        finally:
            ended.set()

    def busy(asked: Asked, number: int) -> Response | None:
        return StreamingResponse(stalled(), media_type="text/event-stream")

    server = fake(fault=busy)
    with server.running() as url, gateway(to(url)) as here:
        body = wire.pack_frames([opened(prompt=VLLM_PROMPT), GENERATE])
        with (
            httpx.Client(trust_env=False) as client,
            client.stream("POST", f"{here}/v1/messages", content=body, timeout=5) as response,
        ):
            assert next(response.iter_raw())
        assert ended.wait(5)
        page = ""
        until_s = time.monotonic() + 5
        while "edgecloud_queue 0.0" not in page:
            assert time.monotonic() < until_s
            page = httpx.get(f"{here}/metrics", trust_env=False).text
        # It is no fault of vLLM's.
        server.fault = None
        asked = wire.pack(2, "generate", NAME, 0, [], 7, None)
        found = httpx.post(
            f"{here}/v1/messages", content=wire.pack_frames([asked]), trust_env=False
        )
        assert found.status_code == 200
