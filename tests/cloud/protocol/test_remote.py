"""Both halves of the protocol together, and each against a partner that misbehaves."""

from __future__ import annotations

import math
import multiprocessing
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecloud.cloud.engine.local import LocalCloud
from edgecloud.cloud.pipe_server import MessageServer
from edgecloud.cloud.protocol import wire
from edgecloud.cloud.protocol.remote import PipeChannel, RemoteCloud
from edgecloud.contracts import (
    LOG_MEL,
    Acceptance,
    CloudCost,
    Degrade,
    Prompt,
    StopLimits,
    Verdict,
    Verify,
)
from edgecloud.contracts.sampling import Distribution, Sampling
from edgecloud.decoding.speculative import Speculation
from edgecloud.errors import (
    CloudError,
    CloudTimeout,
    CloudUnavailable,
    ModelError,
    OutOfMemoryError,
    WireError,
)
from edgecloud.models.scripted import ScriptedModel, follows, hashed
from tests.cloud.memory_channel import MemoryChannel
from tests.cloud.protocol.test_wire import values
from tests.properties.loop import PROMPT, REJECTION, Case, cases, run_speculative

EXACT = Acceptance("exact")
ONE = wire.pack_drawn_from([Distribution((2,), (7,))])[0]
TEXT = [2, 3, 4, 5, 6, 0]
STOPPING = Case().stopping


def server(
    text: list[int] = TEXT, *, prompt_length: int = PROMPT.length, **settings: Any
) -> MessageServer:
    script = follows(text, prompt_length=prompt_length, vocab_size=12)
    return MessageServer(LocalCloud(ScriptedModel(script, vocab_size=12), STOPPING), **settings)


def without_bytes_and_time(verdict: Verdict) -> tuple[Any, ...]:
    cost = verdict.cost
    return (
        verdict.kept,
        verdict.token,
        verdict.ranks,
        tuple(np.float32(prob) for prob in verdict.top_probs),
        (cost.prefill_tokens, cost.verified_tokens, cost.ingested_tokens, cost.generated_tokens),
    )


@given(cases())
def test_behind_the_wire_texts_and_verdicts_are_those_of_this_process(case: Case) -> None:
    here, behind = case.cloud(), case.cloud()
    channel = MemoryChannel(MessageServer(behind))
    remote = RemoteCloud(channel, deadline_s=5)
    expected = run_speculative(case, case.edge(), here)
    run = run_speculative(case, case.edge(), remote)  # type: ignore[arg-type]
    assert run.tokens == expected.tokens
    assert run.origins == expected.origins
    assert [call[:2] for call in behind.calls] == [call[:2] for call in here.calls]
    assert [without_bytes_and_time(call[2]) for call in behind.calls] == [
        without_bytes_and_time(call[2]) for call in here.calls
    ]
    verified = run.trace.of(Verify)
    assert sum(event.cost.bytes_down for event in verified) == sum(map(len, channel.received))
    last = channel.sent[-1:] if channel.sent else []
    assert sum(event.cost.bytes_up for event in verified) == sum(map(len, channel.sent)) - sum(
        map(len, last)
    )
    assert behind.closed == here.closed


def test_a_session_costs_no_round_trip_of_its_own_and_sends_the_prompt_once() -> None:
    channel = MemoryChannel(server())
    session = RemoteCloud(channel, deadline_s=5).open(PROMPT)
    assert not channel.sent
    session.verify([], [2, 3], EXACT)
    assert [wire.unpack(message)[1] for message in channel.sent] == ["open", "verify"]
    session.verify([2, 3, 4], [5], EXACT)
    _, op, arguments = wire.unpack(channel.sent[-1])
    # All three tokens are known to both sides, the cloud's own among them.
    assert (op, arguments[1:4]) == ("verify", [3, [], [5]])


@pytest.mark.parametrize(
    ("prompt", "sampling", "version"),
    [
        (PROMPT, Sampling(), 2),
        (PROMPT, Sampling(0.7, 0.9, 5), 2),
        (PROMPT, Sampling(repetition_penalty=1.1), 3),
        (PROMPT, Sampling(no_repeat_ngram=3), 3),
        (Prompt((1, 2), {LOG_MEL: np.ones((3, 4), np.float16)}), Sampling(), 2),
        (Prompt((1, 2), {LOG_MEL: np.ones((1, 3, 4), np.float16)}), Sampling(), 3),
    ],
)
def test_version_3_is_spoken_only_for_what_2_cannot_say(
    prompt: Prompt, sampling: Sampling, version: int
) -> None:
    channel = MemoryChannel(server(prompt_length=prompt.length))
    RemoteCloud(channel, deadline_s=5).open(prompt, sampling).start(1).result()
    spoken = [msgpack.unpackb(message)[0] for message in channel.sent]
    assert spoken == [version, 2]


def test_what_the_cloud_chose_is_not_sent_back() -> None:
    channel = MemoryChannel(server())
    session = RemoteCloud(channel, deadline_s=5).open(PROMPT)
    assert session.verify([], [2, 9, 9], EXACT).token == 3
    session.verify([2, 3], [4], EXACT)
    assert wire.unpack(channel.sent[-1])[2][1:4] == [2, [], [4]]


def test_a_continuation_follows_the_clouds_own_token() -> None:
    channel = MemoryChannel(server())
    session = RemoteCloud(channel, deadline_s=5).open(PROMPT)
    verdict = session.verify([], [2, 9], EXACT, 2)
    assert (verdict.kept, verdict.token, verdict.continuation) == (1, 3, (4, 5))
    assert verdict.output([2, 9]) == [2, 3, 4, 5]
    assert verdict.cost.generated_tokens == 3
    session.verify([2, 3, 4, 5], [6], EXACT)
    assert wire.unpack(channel.sent[-1])[2][1:4] == [4, [], [6]]


def test_a_start_prefills_and_writes_the_first_tokens() -> None:
    channel = MemoryChannel(server())
    session = RemoteCloud(channel, deadline_s=5).open(PROMPT)
    pending = session.start(2)
    assert [wire.unpack(message)[1] for message in channel.sent] == ["open", "generate"]
    chunk = pending.result()
    assert (chunk.tokens, chunk.cost.prefill_tokens) == ((2, 3), PROMPT.length)
    assert session.verify([2, 3], [4], EXACT).cost.prefill_tokens == 0


def test_a_start_without_tokens_prefills_alone() -> None:
    session = RemoteCloud(MemoryChannel(server()), deadline_s=5).open(PROMPT)
    chunk = session.start(0).result()
    assert (chunk.tokens, chunk.cost.prefill_tokens) == ((), PROMPT.length)
    assert session.verify([], [2], EXACT).cost.prefill_tokens == 0


def test_generation_streams_chunk_by_chunk() -> None:
    channel = MemoryChannel(server())
    session = RemoteCloud(channel, deadline_s=5).open(PROMPT)
    chunks = list(session.generate([], StopLimits(40)))
    assert [chunk.tokens for chunk in chunks] == [(token,) for token in TEXT]
    assert [chunk.last for chunk in chunks] == [False] * 5 + [True]
    assert sum(chunk.cost.bytes_up for chunk in chunks) == sum(map(len, channel.sent))
    assert sum(chunk.cost.bytes_down for chunk in chunks) == sum(map(len, channel.received))


def test_a_chunk_that_comes_twice_counts_once_and_one_that_is_missing_is_noticed() -> None:
    channel = MemoryChannel(server(), lambda answer: [answer, answer])
    session = RemoteCloud(channel, deadline_s=5).open(PROMPT)
    assert session.start(3).result().tokens == (2, 3, 4)
    verdict = session.verify([2, 3, 4], [5], EXACT)
    assert (verdict.kept, verdict.token) == (1, 6)
    count = iter(range(9))
    channel = MemoryChannel(server(), lambda answer: [answer] if next(count) != 1 else [])
    session = RemoteCloud(channel, deadline_s=5).open(PROMPT)
    with pytest.raises(WireError, match="tokens 1 to 2"):
        list(session.generate([], StopLimits(40)))


def test_a_verification_may_follow_a_generation_cut_short() -> None:
    channel = MemoryChannel(server())
    session = RemoteCloud(channel, deadline_s=5).open(PROMPT)
    stream = session.generate([], StopLimits(40))
    assert [next(stream).tokens for _ in range(2)] == [(2,), (3,)]
    verdict = session.verify([2], [3, 9], EXACT)
    assert (verdict.kept, verdict.token) == (1, 4)


def test_committed_tokens_may_be_taken_back() -> None:
    session = RemoteCloud(MemoryChannel(server()), deadline_s=5).open(PROMPT)
    session.verify([], [2, 3, 4], EXACT)
    verdict = session.verify([9], [3], EXACT)
    assert (verdict.kept, verdict.token) == (1, 4)
    verdict = session.verify([], [2], EXACT)
    assert (verdict.kept, verdict.token) == (1, 3)


def test_closing_ends_the_session_on_the_server_and_twice_is_safe() -> None:
    behind = server()
    channel = MemoryChannel(behind)
    session = RemoteCloud(channel, deadline_s=5).open(PROMPT)
    session.close()
    assert not channel.sent
    session.verify([], [2], EXACT)
    assert behind.sessions == 1
    session.close()
    session.close()
    assert behind.sessions == 0
    assert [wire.unpack(message)[1] for message in channel.sent] == ["open", "verify", "close"]


def test_late_and_repeated_answers_are_dropped() -> None:
    late: list[bytes] = []

    def repeat(answer: bytes) -> list[bytes]:
        late.append(answer)
        # All earlier answers come again, and one to somebody else.
        stranger = wire.pack_verdict(1, b"somebody", Verdict(0, 1, (0,), (0.5,)))
        return [stranger, *late]

    session = RemoteCloud(MemoryChannel(server(), repeat), deadline_s=5).open(PROMPT)
    assert session.verify([], [2, 3], EXACT).token == 4
    assert session.verify([2, 3, 4], [5], EXACT).token == 6
    assert session.verify([2, 3, 4, 5, 6], [9], EXACT).token == 0


def test_an_answer_given_up_on_does_not_confuse_the_next_request() -> None:
    lost = iter([True])

    def lose_the_first(answer: bytes) -> list[bytes]:
        return [] if next(lost, False) else [answer]

    session = RemoteCloud(MemoryChannel(server(), lose_the_first), deadline_s=5).open(PROMPT)
    with pytest.raises(CloudTimeout):
        session.verify([], [2, 3], EXACT)
    assert session.verify([], [2, 3], EXACT).token == 4
    assert session.verify([2, 3, 4], [5], EXACT).token == 6


def test_after_an_error_the_session_can_go_on() -> None:
    session = RemoteCloud(MemoryChannel(server()), deadline_s=5).open(PROMPT)
    with pytest.raises(WireError, match="unknown acceptance rule"):
        session.verify([2, 3], [4], Acceptance("fuzzy"))
    assert session.verify([2, 3, 4], [5], EXACT).token == 6


@pytest.mark.parametrize(
    "name, expected",
    [
        ("OutOfMemoryError", OutOfMemoryError),
        ("ModelError", ModelError),
        ("CloudTimeout", CloudTimeout),
        ("WireError", WireError),
        ("KeyError", CloudError),
        ("__doc__", CloudError),
        ("annotations", CloudError),
    ],
)
def test_an_error_of_ours_is_raised_as_it_was_and_any_other_as_the_clouds(
    name: str, expected: type[Exception]
) -> None:
    def fail(answer: bytes) -> list[bytes]:
        seq, _, rest = wire.unpack(answer)
        return [wire.pack(seq, "error", rest[0], name, "the reason")]

    session = RemoteCloud(MemoryChannel(server(), fail), deadline_s=5).open(PROMPT)
    with pytest.raises(expected, match="the reason") as info:
        session.verify([], [2], EXACT)
    assert type(info.value) is expected


@pytest.mark.parametrize("op", ["verify", "generate"])
@given(what=st.sampled_from(["verdict", "chunk", "error", "?"]), rest=st.lists(values, max_size=6))
def test_whatever_the_cloud_answers_is_an_answer_or_an_error_of_the_cloud(
    op: str, what: str, rest: list[Any]
) -> None:
    def lie(answer: bytes) -> list[bytes]:
        seq, _, good = wire.unpack(answer)
        return [wire.pack(seq, what, good[0], *rest)]

    session = RemoteCloud(MemoryChannel(server(), lie), deadline_s=5).open(PROMPT)
    ask: dict[str, Callable[[], object]] = {
        "verify": lambda: session.verify([], [2, 3], EXACT),
        "generate": lambda: list(session.generate([], StopLimits(40))),
    }
    with pytest.raises(CloudError):
        ask[op]()


def flipped(message: bytes, place: int, bit: int) -> bytes:
    index = place % len(message)
    return message[:index] + bytes([message[index] ^ (1 << bit)]) + message[index + 1 :]


def requests() -> list[bytes]:
    """One of each, as a client sends them."""
    session = bytes(8)
    features = np.ones((4, 6), dtype=np.float16)
    return [
        wire.pack(0, "open", session, *wire.pack_open(Prompt((7, 8, 9), {LOG_MEL: features}))),
        wire.pack(1, "verify", session, 0, [], [2, 3], ["exact", 20, 0.3, math.inf], 0, []),
        wire.pack(2, "generate", session, 2, [4], 40, None),
        wire.pack(3, "close", session),
        wire.pack(4, "open", session, *wire.pack_open(Prompt((7, 8, 9)), Sampling(0.7, 0.9, 5))),
        wire.pack(5, "verify", session, 0, [], [2], ["rejection", 20, 0.3, math.inf], 0, [ONE]),
    ]


@given(st.integers(0, 5), st.integers(0, 200), st.integers(0, 7))
def test_a_request_with_one_bit_flipped_is_answered_or_refused(
    which: int, place: int, bit: int
) -> None:
    behind = server()
    for number, message in enumerate(requests()):
        sent = flipped(message, place, bit) if number == which else message
        try:
            answers = list(behind.answer(sent))
        except WireError:
            assert number == which
            continue
        assert all(wire.unpack(answer)[1] in ("verdict", "chunk", "error") for answer in answers)


@given(st.sampled_from(["open", "verify", "generate", "close", "?"]), st.lists(values, max_size=7))
def test_a_request_with_other_arguments_is_answered_or_refused(op: str, rest: list[Any]) -> None:
    behind = server()
    list(behind.answer(requests()[0]))
    answers = list(behind.answer(wire.pack(1, op, bytes(8), *rest)))
    assert all(wire.unpack(answer)[1] in ("verdict", "chunk", "error") for answer in answers)


@given(st.binary(max_size=80))
def test_noise_is_refused_by_the_server(noise: bytes) -> None:
    with pytest.raises(WireError):
        list(server().answer(noise))


def errors_of(behind: MessageServer, message: bytes) -> list[list[Any]]:
    found = [wire.unpack(answer) for answer in behind.answer(message)]
    assert all(what == "error" for _, what, _ in found)
    return [rest[1:] for _, _, rest in found]


def test_a_session_that_could_not_be_opened_tells_why_at_its_next_request() -> None:
    behind = server(max_sessions=1)
    assert list(behind.answer(wire.pack(0, "open", b"a", *wire.pack_open(PROMPT)))) == []
    assert list(behind.answer(wire.pack(0, "open", b"b", *wire.pack_open(PROMPT)))) == []
    ((name, text),) = errors_of(
        behind, wire.pack(1, "verify", b"b", 0, [], [2], ["exact", 20, 0.3, math.inf], 0, [])
    )
    assert name == "WireError"
    assert "1 sessions are open already" in text
    list(behind.answer(wire.pack(2, "close", b"a")))
    list(behind.answer(wire.pack(3, "close", b"b")))
    list(behind.answer(wire.pack(4, "open", b"b", *wire.pack_open(PROMPT))))
    (answer,) = behind.answer(
        wire.pack(5, "verify", b"b", 0, [], [2], ["exact", 20, 0.3, math.inf], 0, [])
    )
    assert wire.unpack(answer)[1] == "verdict"


@pytest.mark.parametrize(
    "request_, says",
    [
        (("verify", b"other", 0, [], [2], ["exact", 20, 0.3, math.inf], 0, []), "no such session"),
        (("verify", b"a", 1, [], [2], ["exact", 20, 0.3, math.inf], 0, []), "do not follow"),
        (("verify", b"a", -1, [], [2], ["exact", 20, 0.3, math.inf], 0, []), "do not follow"),
        (("verify", b"a", 0, [-1], [2], ["exact", 20, 0.3, math.inf], 0, []), "do not follow"),
        (("verify", b"a", 0, [], [], ["exact", 20, 0.3, math.inf], 0, []), "one at least"),
        (("verify", b"a", 0, [], [99], ["exact", 20, 0.3, math.inf], 0, []), "vocabulary"),
        (
            ("verify", b"a", 0, [], [2], ["fuzzy", 20, 0.3, math.inf], 0, []),
            "unknown acceptance rule",
        ),
        (
            ("verify", b"a", 0, [], [2], ["rank", 0, 0.3, math.inf], 0, []),
            "rank threshold from 1 on",
        ),
        (("verify", b"a", 0, [], [2], ["exact", 20, 0.3, math.inf], 0, [ONE]), "nothing is drawn"),
        (("verify", b"a", 0, [], [2], ["exact", 20, 0.3, math.inf], 0, [b"?"]), "two"),
        (("verify", b"a"), "were expected"),
        (("generate", b"a", 0, [], -1, None), "whole numbers"),
        (("generate", b"a", 0, [2, 3], 2, None), "no room"),
        (("ponder", b"a"), "unknown request"),
    ],
)
def test_a_request_that_makes_no_sense_is_answered_with_its_reason(
    request_: tuple[Any, ...], says: str
) -> None:
    behind = server()
    list(behind.answer(wire.pack(0, "open", b"a", *wire.pack_open(PROMPT))))
    ((name, text),) = errors_of(behind, wire.pack(1, *request_))
    assert name == ("SessionLost" if says == "no such session" else "WireError")
    assert says in text


@pytest.mark.parametrize(
    "rule, draft, draft_probabilities, says",
    [
        ("exact", [2], [ONE], "temperature 0 alone"),
        ("rank", [2], [ONE], "temperature 0 alone"),
        ("rejection", [2], [], "every drafted token needs"),
        ("rejection", [2], [ONE, ONE], "every drafted token needs"),
        ("rejection", [3], [ONE], "not in what it was drawn from"),
        ("rejection", [2], wire.pack_drawn_from([Distribution((2, 99), (7, 7))]), "vocabulary"),
    ],
)
def test_a_draft_that_cannot_be_judged_at_a_temperature_is_answered_with_the_reason(
    rule: str, draft: list[int], draft_probabilities: list[bytes], says: str
) -> None:
    behind = server()
    list(behind.answer(wire.pack(0, "open", b"a", *wire.pack_open(PROMPT, Sampling(0.7)))))
    acceptance = [rule, 20, 0.3, math.inf]
    ((name, text),) = errors_of(
        behind, wire.pack(1, "verify", b"a", 0, [], draft, acceptance, 0, draft_probabilities)
    )
    assert name == "WireError"
    assert says in text


def test_a_lost_session_is_opened_again_with_its_chance() -> None:
    """The verdict of a session that has to start over is the one it would have given."""
    verdicts = []
    for lost in (False, True):
        script = hashed(3, vocab_size=12, end_id=0)
        behind = MessageServer(LocalCloud(ScriptedModel(script, vocab_size=12), STOPPING))
        session = RemoteCloud(MemoryChannel(behind), deadline_s=5).open(
            PROMPT, Sampling(2.0, seed=9)
        )
        flat = Distribution(tuple(range(12)), (1,) * 12)
        first = session.verify([], [2, 3], REJECTION, 2, [flat] * 2)
        if lost:
            behind._sessions.clear()
        output = first.output([2, 3])
        second = session.verify(output, [4, 5], REJECTION, 2, [flat] * 2)
        verdicts.append((first.output([2, 3]), second.output([4, 5]), second.kept, second.ranks))
    assert verdicts[0] == verdicts[1]


def test_opening_a_session_again_starts_it_over() -> None:
    behind = server()
    for _ in range(2):
        list(behind.answer(wire.pack(0, "open", b"a", *wire.pack_open(PROMPT))))
        (answer,) = behind.answer(
            wire.pack(1, "verify", b"a", 0, [], [2, 3], ["exact", 20, 0.3, math.inf], 0, [])
        )
        assert wire.unpack(answer)[1] == "verdict"
    assert behind.sessions == 1


def test_the_deadline_bounds_all_the_waiting_of_one_session() -> None:
    class Slow(MemoryChannel):
        def receive(self, timeout_s: float) -> bytes:
            time.sleep(0.05)
            return super().receive(timeout_s)

    channel = Slow(server())
    cloud = RemoteCloud(channel, deadline_s=1.0)
    session = cloud.open(PROMPT)
    session.verify([], [2], EXACT)
    session.verify([2, 3], [4], EXACT)
    cloud.open(PROMPT).verify([], [2], EXACT)
    first, second, other = channel.timeouts
    assert first == other == 1.0
    assert second <= 0.95


@pytest.mark.parametrize("deadline_s", [0.05, -1.0])
def test_silence_over_a_pipe_is_a_timeout_in_time(deadline_s: float) -> None:
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        session = RemoteCloud(PipeChannel(ours), deadline_s=deadline_s).open(PROMPT)
        began = time.monotonic()
        with pytest.raises(CloudTimeout, match="--deadline"):
            session.verify([], [2], EXACT)
        assert time.monotonic() - began < 1


def test_a_pipe_whose_other_end_is_gone_is_unavailable_at_once() -> None:
    ours, theirs = multiprocessing.Pipe()
    with ours:
        session = RemoteCloud(PipeChannel(ours), deadline_s=60).open(PROMPT)
        theirs.close()
        with pytest.raises(CloudUnavailable, match="went away"):
            session.verify([], [2], EXACT)
        session.close()


def test_a_cloud_that_dies_before_it_answers_is_unavailable_at_once() -> None:
    ours, theirs = multiprocessing.Pipe()
    channel = PipeChannel(ours)
    with ours:
        channel.send(b"request", answered=True)
        assert theirs.recv_bytes() == b"request"
        theirs.close()
        with pytest.raises(CloudUnavailable):
            channel.receive(60)


def test_a_pipe_carries_the_same_verdicts() -> None:
    ours, theirs = multiprocessing.Pipe()
    behind = server()
    with ours, theirs:

        class Served(PipeChannel):
            def receive(self, timeout_s: float) -> bytes:
                while theirs.poll(0):
                    for answer in behind.answer(theirs.recv_bytes()):
                        theirs.send_bytes(answer)
                return super().receive(timeout_s)

        session = RemoteCloud(Served(ours), deadline_s=5).open(PROMPT)
        verdict = session.verify([], [2, 3], EXACT)
        assert (verdict.kept, verdict.token) == (2, 4)
        assert verdict.cost != CloudCost()


@pytest.mark.parametrize("ask", ["verify", "generate"])
def test_a_cloud_that_forgot_the_session_is_told_everything_again(ask: str) -> None:
    channel = MemoryChannel(server())
    session = RemoteCloud(channel, deadline_s=5).open(PROMPT)
    first = session.verify([], [2, 3], EXACT)
    assert (first.kept, first.token) == (2, 4)
    channel.server = server()
    if ask == "verify":
        second = session.verify([2, 3, 4], [5], EXACT)
        assert (second.kept, second.token) == (1, 6)
        assert second.cost.prefill_tokens == PROMPT.length
        assert second.cost.bytes_up == sum(map(len, channel.sent[2:]))
    else:
        tokens = [t for chunk in session.generate([2, 3], StopLimits(5)) for t in chunk.tokens]
        assert tokens == TEXT[2:5]


LONG = Prompt(tuple(range(1, 10)) * 1200)
"""43 kB: a pipe holds a few of them."""


def test_a_cloud_that_stands_still_is_left_in_time_by_every_session_and_used_once_it_goes_on() -> (
    None
):
    ours, theirs = multiprocessing.Pipe()
    channel = PipeChannel(ours)
    with closing(channel), theirs:
        cloud = RemoteCloud(channel, deadline_s=0.02)
        for _ in range(12):
            began = time.monotonic()
            session = cloud.open(LONG)
            with pytest.raises(CloudTimeout):
                session.verify([], [2], EXACT)
            session.close()
            assert time.monotonic() - began < 2
        behind = server(prompt_length=LONG.length)

        def answered() -> None:
            with suppress(EOFError, OSError):
                while True:
                    for answer in behind.answer(theirs.recv_bytes()):
                        theirs.send_bytes(answer)

        threading.Thread(target=answered, daemon=True).start()
        patient = RemoteCloud(channel, deadline_s=60)
        assert patient.open(LONG).verify([], [2, 3], EXACT).token == 4
        # Every session that was given up has been closed there, too.
        assert behind.sessions == 1


def test_a_caption_beside_a_cloud_that_stands_still_is_finished_by_the_edge_and_says_so() -> None:
    case = Case(settings=Speculation(gate="always", acceptance=EXACT))
    ours, theirs = multiprocessing.Pipe()
    channel = PipeChannel(ours)
    with closing(channel), theirs:
        for _ in range(2):
            run = run_speculative(case, case.edge(), RemoteCloud(channel, deadline_s=0.05))
            assert run.tokens
            (lost,) = run.trace.of(Degrade)
            assert "did not answer" in lost.reason


def test_what_a_cloud_leaves_unread_is_bounded() -> None:
    ours, theirs = multiprocessing.Pipe()
    channel = PipeChannel(ours)
    with closing(channel), theirs:
        for _ in range(32):
            channel.send(bytes(1_000_000), answered=True)
        with pytest.raises(CloudTimeout, match="unread"):
            channel.send(bytes(4_000_000), answered=True)
        channel.send(b"a close", answered=False)
