"""What every cloud obeys, whatever lies between: the answers of a verifier in this process, what they
cost, and an end in time when the cloud hangs or dies."""

from __future__ import annotations

import multiprocessing
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import astuple, dataclass, replace

import numpy as np
import pytest

from edgecloud.cloud.engine.local import LocalCloud, LocalSession
from edgecloud.cloud.http.client import HttpChannel
from edgecloud.cloud.loopback import Loopback
from edgecloud.cloud.pipe_server import MessageServer
from edgecloud.cloud.protocol.remote import PipeChannel, RemoteCloud
from edgecloud.contracts import (
    Acceptance,
    CloudChunk,
    CloudCost,
    CloudModel,
    CloudSession,
    Pending,
    Prompt,
    StopLimits,
    Verdict,
)
from edgecloud.contracts.sampling import Distribution
from edgecloud.decoding.stopping import Stopping
from edgecloud.errors import CloudError, CloudTimeout, CloudUnavailable
from edgecloud.hardware.clock import ModelledClock, TimedCloud
from edgecloud.hardware.profiles import profile
from edgecloud.models.scripted import ScriptedModel, follows

pytest.importorskip("uvicorn", reason="the extra serve is not installed")
from tests.cloud.running import running

VOCAB = 12
PROMPT = Prompt((7, 8, 9))
TEXT = [2, 3, 4, 5, 6, 3, 2, 0]
STOPPING = Stopping(StopLimits(40), frozenset({0}), frozenset({1}))
EXACT = Acceptance("exact")
PATIENT_S = 20.0
DEADLINE_S = 0.3
MARGIN_S = 2.0
"""What a busy machine may add to a deadline."""


@dataclass(frozen=True)
class Kind:
    """A cloud on top of a verifier, and the same where the other side ``hangs`` or ``dies`` in the
    middle of the first request, where it can; with :data:`DEADLINE_S` then."""

    over: Callable[[LocalCloud], AbstractContextManager[CloudModel]]
    hangs: Callable[[], AbstractContextManager[CloudModel]] | None = None
    dies: Callable[[], AbstractContextManager[CloudModel]] | None = None


def verifier() -> LocalCloud:
    script = follows(TEXT, prompt_length=PROMPT.length, vocab_size=VOCAB)
    return LocalCloud(ScriptedModel(script, vocab_size=VOCAB), STOPPING)


@contextmanager
def loopback(cloud: LocalCloud) -> Iterator[CloudModel]:
    yield RemoteCloud(Loopback(MessageServer(cloud)), deadline_s=PATIENT_S)


@contextmanager
def pipe(cloud: LocalCloud) -> Iterator[CloudModel]:
    ours, theirs = multiprocessing.Pipe()
    server = MessageServer(cloud)

    def serve() -> None:
        while True:
            try:
                message = theirs.recv_bytes()
            except (EOFError, OSError):
                return
            for answer in server.answer(message):
                theirs.send_bytes(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with theirs:
        with ours:
            yield RemoteCloud(PipeChannel(ours), deadline_s=PATIENT_S)
        thread.join(PATIENT_S)


@contextmanager
def silent_pipe(*, dies: bool = False) -> Iterator[CloudModel]:
    ours, theirs = multiprocessing.Pipe()

    def read_and_die() -> None:
        theirs.recv_bytes()
        theirs.close()

    thread = threading.Thread(target=read_and_die if dies else lambda: None, daemon=True)
    thread.start()
    with ours:
        yield RemoteCloud(PipeChannel(ours), deadline_s=DEADLINE_S)
    thread.join(PATIENT_S)
    theirs.close()


@contextmanager
def service(cloud: LocalCloud) -> Iterator[CloudModel]:
    with running(cloud) as url, closing(HttpChannel(url)) as channel:
        yield RemoteCloud(channel, deadline_s=PATIENT_S)


@contextmanager
def silent_service(*, dies: bool = False) -> Iterator[CloudModel]:
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"

    def read_and_die() -> None:
        connection, _ = listener.accept()
        connection.recv(1)
        listener.close()
        connection.close()

    thread = threading.Thread(target=read_and_die if dies else lambda: None, daemon=True)
    thread.start()
    with listener, closing(HttpChannel(url)) as channel:
        yield RemoteCloud(channel, deadline_s=DEADLINE_S)
    thread.join(PATIENT_S)


def modelled(cloud: LocalCloud) -> AbstractContextManager[CloudModel]:
    return nullcontext(TimedCloud(cloud, ModelledClock(), profile("paper")))


def late_in_modelled_time() -> AbstractContextManager[CloudModel]:
    # The paper's cloud prefills for 0.39 s.
    return nullcontext(
        TimedCloud(verifier(), ModelledClock(), profile("paper"), deadline_s=DEADLINE_S)
    )


CLOUDS: dict[str, Kind] = {
    "in this process": Kind(nullcontext),
    "loopback": Kind(loopback),
    "pipe": Kind(pipe, silent_pipe, lambda: silent_pipe(dies=True)),
    "http": Kind(service, silent_service, lambda: silent_service(dies=True)),
    "modelled": Kind(modelled, late_in_modelled_time),
}
"""Add a new cloud here."""

Calls = list[tuple[list[int], list[int], int]]
CALLS: Calls = [
    ([], [2, 3], 0),  # all kept, and a bonus
    ([2, 3, 4], [5, 9, 9], 0),  # one kept, a correction
    ([2, 3, 4, 5, 6], [9], 2),  # none kept, and a continuation to the end of the text
    ([2, 9], [4], 0),  # what was committed is taken back
    ([2, 3, 4, 5, 6, 3, 2], [0], 3),  # the draft ends the text: nothing follows
]


@pytest.fixture(params=CLOUDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return CLOUDS[request.param]


def asked(session: CloudSession, calls: Calls) -> list[Verdict]:
    return [session.verify(done, draft, EXACT, more) for done, draft, more in calls]


def comparable(answers: Sequence[Verdict | CloudChunk]) -> list[tuple[object, ...]]:
    """Answers without bytes and seconds; probabilities as exact as float32 carries them."""
    plain = [replace(one, cost=replace(one.cost, **_ELSEWHERE)) for one in answers]
    return [
        astuple(replace(one, top_probs=tuple(map(float, np.float32(one.top_probs)))))
        if isinstance(one, Verdict)
        else astuple(one)
        for one in plain
    ]


_ELSEWHERE: dict[str, int] = {"busy_s": 0, "bytes_up": 0, "bytes_down": 0}


def test_verdicts_and_their_costs_are_those_of_the_verifier(kind: Kind) -> None:
    expected = asked(verifier().open(PROMPT), CALLS)
    assert [(one.kept, one.token) for one in expected[:3]] == [(2, 4), (1, 6), (0, 3)]
    with kind.over(verifier()) as cloud:
        assert comparable(asked(cloud.open(PROMPT), CALLS)) == comparable(expected)


@pytest.mark.parametrize("limits", [StopLimits(40), StopLimits(5)])
def test_generated_text_and_its_costs_are_those_of_the_verifier(
    kind: Kind, limits: StopLimits
) -> None:
    expected = CloudChunk.merged(verifier().open(PROMPT).generate([2, 3], limits))
    with kind.over(verifier()) as cloud:
        chunks = list(cloud.open(PROMPT).generate([2, 3], limits))
    assert [chunk.last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert comparable([CloudChunk.merged(chunks)]) == comparable([expected])


def test_a_start_is_a_prefill_and_the_first_tokens(kind: Kind) -> None:
    with kind.over(verifier()) as cloud:
        session = cloud.open(PROMPT)
        chunk = session.start(2).result()
        assert chunk.tokens == (2, 3)
        assert chunk.cost.prefill_tokens == PROMPT.length
        assert session.verify([2, 3], [4], EXACT).cost.prefill_tokens == 0
        assert cloud.open(PROMPT).start(0).result().tokens == ()


def test_costs_add_up(kind: Kind) -> None:
    with kind.over(verifier()) as cloud:
        costs = [verdict.cost for verdict in asked(cloud.open(PROMPT), CALLS)]
    total = CloudChunk.merged([CloudChunk((), cost) for cost in costs]).cost
    assert total.prefill_tokens == PROMPT.length, "a session prefills once"
    assert [cost.verified_tokens for cost in costs] == [len(draft) for _, draft, _ in CALLS]
    assert [cost.generated_tokens for cost in costs] == [1, 1, 3, 1, 0]
    assert all(cost.busy_s > 0 for cost in costs)
    # Bytes are counted on both ways or, where none travel, on neither.
    assert len({bool(n) for cost in costs for n in (cost.bytes_up, cost.bytes_down)}) == 1


def test_two_sessions_do_not_touch_each_other(kind: Kind) -> None:
    with kind.over(verifier()) as cloud:
        one, other = cloud.open(PROMPT), cloud.open(Prompt((5, 5, 5)))
        taking_turns = [
            (one.verify(done, draft, EXACT), other.verify([], [2], EXACT))
            for done, draft, _ in CALLS[:2]
        ]
    assert [(mine.kept, mine.token) for mine, _ in taking_turns] == [(2, 4), (1, 6)]
    assert [(theirs.kept, theirs.token) for _, theirs in taking_turns] == [(1, 3), (1, 3)]


def test_a_session_may_be_closed_twice_and_others_go_on(kind: Kind) -> None:
    with kind.over(verifier()) as cloud:
        first = cloud.open(PROMPT)
        first.verify([], [2], EXACT)
        first.close()
        first.close()
        cloud.open(PROMPT).close()
        assert cloud.open(PROMPT).verify([], [2, 3], EXACT).token == 4


@pytest.mark.parametrize("ask", ["verify", "generate"])
@pytest.mark.parametrize("name", [name for name, kind in CLOUDS.items() if kind.hangs])
def test_a_cloud_that_hangs_is_given_up_at_the_deadline(name: str, ask: str) -> None:
    hangs = CLOUDS[name].hangs
    assert hangs is not None
    with hangs() as cloud:
        assert ends_in(cloud, ask) is CloudTimeout


@pytest.mark.parametrize("ask", ["verify", "generate", "start"])
@pytest.mark.parametrize("name", [name for name, kind in CLOUDS.items() if kind.dies])
def test_a_cloud_that_dies_ends_in_its_error_in_time(name: str, ask: str) -> None:
    dies = CLOUDS[name].dies
    assert dies is not None
    with dies() as cloud:
        assert issubclass(ends_in(cloud, ask), CloudUnavailable)


def ends_in(cloud: CloudModel, ask: str) -> type[CloudError]:
    """The error that a request ends in, within the deadline."""
    session = cloud.open(PROMPT)
    requests: dict[str, Callable[[], object]] = {
        "verify": lambda: session.verify([], [2, 3], EXACT),
        "generate": lambda: list(session.generate([], StopLimits(40))),
        "start": lambda: session.start(1).result(),
    }
    began = time.monotonic()
    with pytest.raises(CloudError) as info:
        requests[ask]()
    assert time.monotonic() - began < DEADLINE_S + MARGIN_S
    session.close()
    return info.type


class _YesSession(LocalSession):
    """Keeps everything, and counts nothing."""

    def submit(
        self,
        committed: Sequence[int],
        draft: Sequence[int],
        acceptance: Acceptance,
        continuation: int = 0,
        draft_probabilities: Sequence[Distribution] = (),
    ) -> Pending[Verdict]:
        found = (
            super().submit(committed, draft, acceptance, continuation, draft_probabilities).result()
        )
        return Pending(lambda: replace(found, kept=len(draft), cost=CloudCost()))


class _YesCloud:
    def open(self, prompt: Prompt) -> CloudSession:
        script = follows(TEXT, prompt_length=PROMPT.length, vocab_size=VOCAB)
        return _YesSession(ScriptedModel(script, vocab_size=VOCAB), prompt, STOPPING)


def test_a_cloud_that_breaks_these_laws_is_caught() -> None:
    yes = Kind(lambda _: nullcontext(_YesCloud()))
    with pytest.raises(AssertionError):
        test_verdicts_and_their_costs_are_those_of_the_verifier(yes)
    with pytest.raises(AssertionError):
        test_costs_add_up(yes)
