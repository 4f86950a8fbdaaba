"""Connections of a service that stay silent, on real sockets."""

from __future__ import annotations

import logging
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from torch import Tensor

pytest.importorskip("uvicorn", reason="the extra serve is not installed")
from edgecloud.cloud.engine.local import LocalCloud
from edgecloud.cloud.http.app import ServiceSettings, service
from edgecloud.cloud.http.connections import Connections
from edgecloud.cloud.http.telemetry import Limited
from edgecloud.cloud.protocol import wire
from edgecloud.models.scripted import ScriptedModel, follows
from tests.cloud.http.test_service import STOPPING, TEXT, VOCAB, cloud, opened, verify
from tests.cloud.running import listening

WAIT_S = 60
HEAD_S = 0.3
HELLO = b"\x16\x03\x01"
GET = b"GET /healthz HTTP/1.1\r\nHost: here\r\n"


@contextmanager
def bounded(most: int = 32, **more: Any) -> Iterator[tuple[str, tuple[str, int]]]:
    """A service that takes ``most`` connections: its URL, and the address of its socket."""
    app = service(
        more.pop("model", cloud()), {"name": "scripted"}, more.pop("settings", ServiceSettings())
    )
    connections = Connections(most, head_s=HEAD_S, **more)
    with listening(app, connections=connections) as url:
        yield url, ("127.0.0.1", urlsplit(url).port or 0)
        # Nothing is left behind, whatever was sent.
        until_s = time.monotonic() + WAIT_S
        while connections.silent and time.monotonic() < until_s:
            time.sleep(0.01)
        assert not connections.silent


def head(address: tuple[str, int], sent: bytes) -> socket.socket:
    connection = socket.create_connection(address, timeout=WAIT_S)
    connection.sendall(sent)
    return connection


def rest(connection: socket.socket) -> bytes:
    """What comes until the other side ends the connection."""
    found = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(1 << 16):
            found += part
    return found


def ends_while_sending(connection: socket.socket, what: bytes) -> bool:
    """Whether the other side ends a connection on which ``what`` is sent now and then."""
    until_s = time.monotonic() + WAIT_S
    with suppress(ConnectionError):
        while time.monotonic() < until_s:
            connection.sendall(what)
            time.sleep(HEAD_S / 10)
        return False
    return True


@pytest.mark.parametrize(
    "sent", [b"", b"G", b"GET / HT", GET, b"\r\n", HELLO, b"POST /v1/messages HTTP/1.1\r\nA: "]
)
def test_a_connection_without_a_request_is_ended(sent: bytes) -> None:
    with bounded() as (_, address), head(address, sent) as silent:
        assert rest(silent)[:12] in (b"", b"HTTP/1.1 400")


def test_a_header_now_and_then_keeps_no_connection_open() -> None:
    with bounded() as (_, address), head(address, GET) as slow:
        assert ends_while_sending(slow, b"X: 1\r\n")


def test_what_follows_an_answer_has_a_deadline_too_and_an_idle_connection_stays() -> None:
    settings = ServiceSettings(max_body_bytes=1000)
    with (
        bounded(settings=settings) as (url, address),
        httpx.Client(base_url=url, timeout=WAIT_S) as kept,
    ):
        with head(address, GET + b"\r\n" + GET) as again:
            assert rest(again).count(b"HTTP/1.1 200") == 1
        # The rest of a body that nobody waits for any more.
        body = b"POST /v1/messages HTTP/1.1\r\nHost: here\r\nContent-Length: 9000\r\n\r\n"
        with head(address, body + bytes(2000)) as large:
            assert rest(large)[:12] == b"HTTP/1.1 413"
        assert kept.get("/healthz").status_code == 200
        time.sleep(2 * HEAD_S)
        (connection,) = kept._transport._pool.connections  # type: ignore[attr-defined]
        assert kept.get("/healthz").status_code == 200
        assert kept._transport._pool.connections == [connection]  # type: ignore[attr-defined]


def test_beside_four_hundred_silent_connections_the_service_answers_and_verifies() -> None:
    starts = [b"", b"POST /v1/mess", GET, HELLO]
    with bounded() as (url, address), ExitStack() as stack:
        silent = [
            stack.enter_context(head(address, starts[number % len(starts)]))
            for number in range(400)
        ]
        for _ in range(5):
            assert httpx.get(f"{url}/healthz", timeout=WAIT_S).status_code == 200
        body = wire.pack_frames([opened(), verify(1, [2])])
        told = httpx.post(f"{url}/v1/messages", content=body, timeout=WAIT_S)
        assert told.status_code == 200
        for connection in silent:
            rest(connection)


class Waiting(ScriptedModel):
    """Answers when the test says so."""

    gate = Event()

    def extend(self, tokens: Sequence[int]) -> Tensor:
        assert self.gate.wait(WAIT_S)
        return super().extend(tokens)

    def new_sequence(self) -> ScriptedModel:
        return Waiting(self._script, vocab_size=VOCAB)


def test_bodies_in_tiny_chunks_are_refused_and_keep_nobody_waiting() -> None:
    """A chunk of one byte takes as long to parse as a large one; a million of them are 6 MB."""
    chunks = b"1\r\nx\r\n" * 10_000
    posting = b"POST /v1/messages HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"
    asking = GET + b"Transfer-Encoding: chunked\r\n\r\n"

    def send(head_of: bytes) -> None:
        with suppress(ConnectionError), head(address, head_of) as connection:
            for _ in range(12):
                connection.sendall(chunks)

    with bounded() as (url, address):
        with head(address, posting) as one:
            assert rest(one)[:12] == b"HTTP/1.1 411"
        with ThreadPoolExecutor(8) as pool:
            sending = [pool.submit(send, head_of) for head_of in (posting, asking) * 4]
            waits_s = []
            while not all(future.done() for future in sending) or not waits_s:
                began_s = time.monotonic()
                assert httpx.get(f"{url}/healthz", trust_env=False).status_code == 200
                waits_s.append(time.monotonic() - began_s)
            for future in sending:
                future.result()
        assert max(waits_s) < 3


def test_where_all_connections_are_busy_one_more_is_told_to_come_back() -> None:
    Waiting.gate.clear()
    script = follows(TEXT, prompt_length=3, vocab_size=VOCAB)
    model = LocalCloud(Waiting(script, vocab_size=VOCAB), STOPPING)
    with bounded(3, model=model) as (url, address), ExitStack() as stack:
        busy = []
        for number in range(3):
            name = f"session {number}".ljust(16).encode()
            body = wire.pack_frames([opened(name), verify(1, [2], name=name)])
            asked = b"POST /v1/messages HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n"
            busy.append(stack.enter_context(head(address, asked % len(body) + body)))
        time.sleep(HEAD_S)
        refused = httpx.get(f"{url}/healthz", timeout=WAIT_S)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        assert refused.json()["error"] == "Overloaded"
        Waiting.gate.set()
        assert all(connection.recv(12) == b"HTTP/1.1 200" for connection in busy)


def test_bodies_that_do_not_come_keep_nobody_out() -> None:
    body = b"POST /v1/messages HTTP/1.1\r\nHost: here\r\nContent-Length: 9000\r\n\r\nx"
    with bounded(3) as (url, address), ExitStack() as stack:
        slow = [stack.enter_context(head(address, body)) for _ in range(3)]
        for connection in slow * 2:
            with suppress(ConnectionError):
                connection.sendall(b"x")
        for _ in range(2):
            assert httpx.get(f"{url}/healthz", timeout=WAIT_S).status_code == 200
        assert rest(slow[0]) == b""


def test_a_connection_that_ends_does_so_though_its_answer_is_not_read() -> None:
    app = service(cloud(), {"name": "scripted", "text": "a" * 10_000_000}, ServiceSettings())
    connections = Connections(3, head_s=HEAD_S, write_s=HEAD_S)
    with listening(app, connections=connections) as url, socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", urlsplit(url).port or 0))
        until_s = time.monotonic() + WAIT_S
        while not connections.open:
            assert time.monotonic() < until_s
            time.sleep(0.01)
        (held,) = connections.open
        # So that what is left unread is never too much.
        held.transport.set_write_buffer_limits(1 << 30)
        deaf.sendall(b"GET /v1/model HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        while connections.open:
            assert time.monotonic() < until_s
            time.sleep(0.01)


def test_an_answer_that_nobody_reads_holds_its_connection_no_longer() -> None:
    connections = 3
    with bounded(connections, write_s=HEAD_S) as (_, address), socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.settimeout(WAIT_S)
        deaf.connect(address)
        assert ends_while_sending(deaf, b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n" * 100)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """How a service proves that it is 127.0.0.1, and the certificate by which it is believed."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    cert, key = (tmp_path_factory.mktemp("tls") / name for name in ("cert", "key"))
    subprocess.run(
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout {key} -out {cert} "
        "-subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1".split(),
        check=True,
        capture_output=True,
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    return context, cert


def test_silent_tls_connections_are_bounded_and_ended_like_others(
    tls: tuple[ssl.SSLContext, Path],
) -> None:
    context, cert = tls
    trusted = ssl.create_default_context(cafile=str(cert))
    with bounded(8, tls=context) as (url, address), ExitStack() as stack:
        silent = [
            stack.enter_context(head(address, sent)) for sent in (b"", HELLO, GET + b"\r\n") * 20
        ]
        with httpx.Client(base_url=url, verify=trusted, timeout=WAIT_S) as kept:
            for _ in range(3):
                assert kept.get("/healthz").status_code == 200
        body = wire.pack_frames([opened(), verify(1, [2])])
        told = httpx.post(f"{url}/v1/messages", content=body, verify=trusted, timeout=WAIT_S)
        assert told.status_code == 200
        # The handshake is done, and then nothing comes.
        plain = stack.enter_context(socket.create_connection(address, timeout=WAIT_S))
        with trusted.wrap_socket(plain, server_hostname="127.0.0.1") as secured:
            assert rest(secured) == b""
        for connection in silent:
            rest(connection)


def record(text: str, status: int | None = None) -> logging.LogRecord:
    found = logging.LogRecord("edgecloud.service", 20, "", 0, text, None, None)
    if status is not None:
        found.__dict__["facts"] = {"status": status}
    return found


def test_no_event_fills_the_log_and_the_next_line_says_how_many_were_left_out() -> None:
    now = 0.0
    limited = Limited(5, now=lambda: now)
    assert [limited.filter(record("accept failed")) for _ in range(100)].count(True) == 5
    assert limited.filter(record("another"))
    assert all(limited.filter(record("request", 200)) for _ in range(1000))
    assert [limited.filter(record("request", 400)) for _ in range(100)].count(True) == 5
    now = 1.0
    later = record("accept failed")
    assert limited.filter(later)
    assert later.__dict__["facts"] == {"left_out": 95}
    # Texts that differ each time are no way around it.
    assert sum(limited.filter(record(f"text {n}")) for n in range(10_000)) <= 50
