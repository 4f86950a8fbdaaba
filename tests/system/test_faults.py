"""Everything that can go wrong between edge and cloud: every caption is completed, in time, and says
truthfully whether the cloud was lost.

With EDGECLOUD_FAULTS=full (``tox -e faults``) stalls last 10 s and the outage a minute.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import psutil
import pytest

from edgecloud.cloud.engine.local import LocalCloud
from edgecloud.cloud.http.client import Breaker, HttpChannel
from edgecloud.cloud.protocol import wire
from edgecloud.cloud.protocol.remote import RemoteCloud
from edgecloud.contracts import Acceptance, Commit, Degrade, Trace
from edgecloud.decoding.speculative import Speculation
from edgecloud.hardware.link import Link
from edgecloud.hardware.profiles import LinkCosts
from edgecloud.hardware.shaping import ShapingProxy
from tests.properties.loop import Case, run_speculative
from tests.system.gateway import Exchange, Fault, Gateway

pytest.importorskip("uvicorn", reason="the extra serve is not installed")
from tests.cloud.running import running

ROOT = Path(__file__).resolve().parents[2]
FULL = os.environ.get("EDGECLOUD_FAULTS") == "full"
DEADLINE_S = 5.0 if FULL else 0.6
STALL_S = 10.0 if FULL else 1.5
OUTAGE_S = 60.0 if FULL else 1.5
REST_S = 2.0 if FULL else 0.3
PATIENT_S = 30.0
"""The deadline where nothing is late: so long that no busy machine reaches it."""
MARGIN_S = 1.0
"""What the edge alone takes here, on a machine that is busy with other things."""
SAMPLES = 20
CASES = [
    Case(every=1 + n % 5, settings=Speculation(gate="always", acceptance=Acceptance("exact")))
    for n in range(SAMPLES)
]
"""One cloud, and edges that agree with it now and then."""
IDEAS = [
    replace(
        case,
        settings=replace(
            case.settings,
            verify_scope="since-last-call",
            final_check=True,
            continuation=n % 3,
            draft_ahead=True,
            parallel_prefill=n % 2 == 0,
            seed_tokens=n % 4,
        ),
    )
    for n, case in enumerate(CASES)
]
"""The same with everything that asks the cloud in another way: a start, seed tokens, a continuation,
answers that come while the edge drafts on."""
both = pytest.mark.parametrize("cases", [CASES, IDEAS], ids=["plain", "ideas"])


@dataclass(frozen=True)
class Told:
    """What one caption came to."""

    tokens: list[int]
    trace: Trace
    took_s: float

    @property
    def degraded(self) -> str | None:
        events = self.trace.of(Degrade)
        assert len(events) <= 1
        return events[0].reason if events else None


def captions(
    url: str,
    *,
    cases: Sequence[Case] = CASES,
    deadline_s: float = DEADLINE_S,
    between: Callable[[int], None] | None = None,
) -> list[Told]:
    """Twenty captions over ``url``, one after the other, each checked."""
    found = []
    with closing(HttpChannel(url, breaker=Breaker(rest_s=REST_S))) as channel:
        cloud = RemoteCloud(channel, deadline_s=deadline_s)
        for number, case in enumerate(cases):
            if between is not None:
                between(number)
            began = time.monotonic()
            run = run_speculative(case, case.edge(), cloud)
            told = Told(run.tokens, run.trace, time.monotonic() - began)
            check(case, told, deadline_s)
            found.append(told)
    assert len(found) == SAMPLES
    return found


def check(case: Case, told: Told, deadline_s: float) -> None:
    """In time; the cloud's own text, unless and until the trace says that the cloud was lost."""
    assert told.took_s < deadline_s + MARGIN_S
    expected = run_speculative(case, case.edge(), case.cloud()).tokens
    if told.degraded is None:
        assert told.tokens == expected
        return
    (lost,) = told.trace.of(Degrade)
    before = [
        token
        for event in told.trace.of(Commit)
        if event.end_s < lost.end_s
        for token in event.tokens
    ]
    assert before == expected[: len(before)]
    after = [event for event in told.trace.of(Commit) if event.end_s >= lost.end_s]
    assert {origin for event in after for origin in event.origins} == {"edge"}
    assert told.tokens


def plain() -> LocalCloud:
    case = CASES[0]
    return LocalCloud(case.cloud().model, case.stopping)


@contextmanager
def behind(fault: Fault) -> Iterator[str]:
    with running(plain()) as service, Gateway(service, fault) as gateway:
        yield gateway.url


@both
def test_refused(cases: list[Case]) -> None:
    with running(plain()) as url:
        gone = url
    found = captions(gone, cases=cases)
    assert all(
        "cannot be reached" in str(told.degraded) or "in a row" in str(told.degraded)
        for told in found
    )


@both
def test_reset_in_the_middle_of_an_answer(cases: list[Case]) -> None:
    def fault(exchange: Exchange) -> None:
        if exchange.number % 6:
            exchange.relay()
            return
        body = exchange.ask().content
        exchange.answer(200, body[:7], claim=len(body))
        exchange.reset()

    with behind(fault) as url:
        # Each is asked again and gets the answer that was lost on the way.
        found = captions(url, cases=cases, deadline_s=PATIENT_S)
    assert [told.degraded for told in found] == [None] * SAMPLES


@both
def test_500s(cases: list[Case]) -> None:
    with behind(lambda exchange: exchange.answer(500, b"oops")) as url:
        assert all(told.degraded for told in captions(url, cases=cases))


@both
def test_some_500s(cases: list[Case]) -> None:
    def fault(exchange: Exchange) -> None:
        if exchange.number % 6:
            exchange.relay()
        else:
            exchange.answer(500, b"oops")

    with behind(fault) as url:
        found = captions(url, cases=cases, deadline_s=PATIENT_S)
    assert [told.degraded for told in found] == [None] * SAMPLES


@both
def test_stalls(cases: list[Case]) -> None:
    def fault(exchange: Exchange) -> None:
        if exchange.number % 40 == 5:
            time.sleep(STALL_S)
        exchange.relay()

    with behind(fault) as url:
        found = captions(url, cases=cases)
    lost = [told for told in found if told.degraded]
    assert lost
    assert len(lost) < SAMPLES
    assert all("in time" in str(told.degraded) for told in lost)


@pytest.mark.parametrize(
    "garbage",
    [b"\x00\xff" * 40, b"HTTP/1.1 200 OK\r\n\r\n\x07garbage", b"HTTP/9.9 hello\r\n\r\n"],
    ids=["no-http", "no-frames", "no-status"],
)
def test_garbage_bytes(garbage: bytes) -> None:
    with behind(lambda exchange: exchange.raw(garbage)) as url:
        assert all(told.degraded for told in captions(url))


def test_garbage_in_a_sound_frame() -> None:
    def fault(exchange: Exchange) -> None:
        exchange.answer(200, wire.pack_frames([b"\xc1\xc1 garbage"]))

    with behind(fault) as url:
        assert all("not a message" in str(told.degraded) for told in captions(url))


@both
def test_truncated_bodies(cases: list[Case]) -> None:
    def fault(exchange: Exchange) -> None:
        body = exchange.ask().content
        if exchange.number % 6:
            exchange.answer(200, body)
        else:
            exchange.answer(200, body[: len(body) // 2], claim=len(body))

    with behind(fault) as url:
        found = captions(url, cases=cases, deadline_s=PATIENT_S)
    assert [told.degraded for told in found] == [None] * SAMPLES


@both
def test_another_version(cases: list[Case]) -> None:
    def fault(exchange: Exchange) -> None:
        (message, *_), _ = wire.unpack_frames(exchange.ask().content)
        assert message[1] == wire.VERSION
        exchange.answer(200, wire.pack_frames([message[:1] + bytes([99]) + message[2:]]))

    with behind(fault) as url:
        assert all(
            "protocol version 99" in str(told.degraded) for told in captions(url, cases=cases)
        )


def serve_for_ever(port: int) -> None:
    with running(plain(), port=port):
        threading.Event().wait()


@contextmanager
def mortal(port: int) -> Iterator[None]:
    """A service on ``port`` that ends with the context: in full length a process, which is killed."""
    if not FULL:
        with running(plain(), port=port):
            yield
        return
    process = multiprocessing.get_context("spawn").Process(target=serve_for_ever, args=(port,))
    process.start()
    try:
        while process.is_alive():
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.join()


@both
def test_the_cloud_is_killed_and_started_again(cases: list[Case]) -> None:
    with running(plain()) as url:
        port = urlsplit(url).port
    assert port is not None
    with ExitStack() as stack:
        stack.enter_context(mortal(port))

        def between(number: int) -> None:
            if number == 7:
                stack.close()
            if number == 12:
                stack.enter_context(mortal(port))
                time.sleep(REST_S)

        found = captions(url, cases=cases, deadline_s=PATIENT_S, between=between)
    lost = [bool(told.degraded) for told in found]
    assert lost == [False] * 7 + [True] * 5 + [False] * 8


@both
def test_sessions_that_expire(cases: list[Case]) -> None:
    def fault(exchange: Exchange) -> None:
        if exchange.number % 6 == 2:
            (*_, message), _ = wire.unpack_frames(exchange.body)
            name = wire.unpack(message)[2][0]
            exchange.ask(wire.pack_frames([wire.pack(0, "close", name)]))
        exchange.relay()

    with behind(fault) as url:
        found = captions(url, cases=cases, deadline_s=PATIENT_S)
    assert [told.degraded for told in found] == [None] * SAMPLES


@both
def test_answers_doubled_and_out_of_order(cases: list[Case]) -> None:
    earlier: list[bytes] = []

    def fault(exchange: Exchange) -> None:
        body = exchange.ask().content
        exchange.answer(200, b"".join([*earlier[-2:], body, body]))
        earlier.append(body)

    with behind(fault) as url:
        found = captions(url, cases=cases, deadline_s=PATIENT_S)
    assert [told.degraded for told in found] == [None] * SAMPLES


@both
def test_a_third_of_everything_is_lost(cases: list[Case]) -> None:
    chance = Random(5)

    def fault(exchange: Exchange) -> None:
        if chance.random() < 0.3:
            exchange.reset()  # the request is lost
            return
        body = exchange.ask().content
        if chance.random() < 0.3:
            exchange.reset()  # the answer is lost
            return
        exchange.answer(200, body)

    with behind(fault) as url:
        found = captions(url, cases=cases)
    # Four attempts of which half come through: most captions never notice.
    assert sum(told.degraded is None for told in found) >= SAMPLES // 4


def test_packets_are_lost() -> None:
    over = Link("lossy", LinkCosts(0.002), loss=0.3)
    with running(plain()) as url, ShapingProxy("127.0.0.1", urlsplit(url).port or 0, over) as proxy:
        captions(f"http://127.0.0.1:{proxy.port}")


def test_an_outage() -> None:
    over = Link("broken", LinkCosts(0.002), outages=((0.4, 0.4 + OUTAGE_S),))
    with running(plain()) as url, ShapingProxy("127.0.0.1", urlsplit(url).port or 0, over) as proxy:

        def between(number: int) -> None:
            if number >= 1:
                time.sleep(0.5 if number == 1 else OUTAGE_S / 15)

        found = captions(f"http://127.0.0.1:{proxy.port}", between=between)
    assert found[0].degraded is None
    assert found[1].degraded
    # The cloud is back, and used again.
    assert found[-1].degraded is None


@pytest.mark.skipif(not FULL, reason="half a minute: tox -e faults")
def test_a_run_whose_local_cloud_is_stopped_ends_with_the_edge_alone(tmp_path: Path) -> None:
    """Stopped, not killed: it keeps its pipe and says nothing."""
    command = [
        *(sys.executable, "-m", "pytest", "bench/test_spec.py", "-q", "-p", "no:cacheprovider"),
        *("--cloud-url", "local", "--gate-type", "always", "--deadline", "1.5", "--warmup", "2"),
        *("--max-samples", "8", "--output-name", "stopped", "--output-dir", str(tmp_path)),
    ]
    journal, stopped = tmp_path / "journals" / "stopped.jsonl", None
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as run:
        try:
            while run.poll() is None and stopped is None:
                time.sleep(0.02)
                if journal.exists() and journal.read_bytes().count(b"\n") > 1:
                    stopped = local_cloud(psutil.Process(run.pid))
                    stopped.suspend()
            said, _ = run.communicate(timeout=180)
        finally:
            run.kill()
            if stopped is not None and stopped.is_running():
                stopped.kill()
    result = json.loads((tmp_path / "results" / "stopped.json").read_text(encoding="utf-8"))
    lost = [found["degraded"] for found in result["detailed_results"] if found["degraded"]]
    assert run.returncode == 1
    assert len(result["detailed_results"]) == 8
    assert {found["error"] for found in lost} == {"CloudTimeout"}
    assert f"{len(lost)} of 8 samples lost the cloud" in said


def local_cloud(run: psutil.Process) -> psutil.Process:
    """The cloud's process of a run with ``--cloud-url local``: the first of its two models to start."""
    spawned = [child for child in run.children() if "spawn_main" in " ".join(child.cmdline())]
    return min(spawned, key=lambda child: child.create_time())
