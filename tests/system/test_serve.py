"""`edgecloud serve` as a user starts it: with TLS and a token, drained at its end, and used by the suites."""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest

from edgecloud.cli.serve import add
from edgecloud.cloud.engine.local import LocalCloud
from edgecloud.cloud.http.client import HttpChannel, model_metadata
from edgecloud.cloud.protocol import wire
from edgecloud.cloud.protocol.remote import RemoteCloud
from edgecloud.contracts import LOG_MEL, Acceptance, Prompt, StopLimits
from edgecloud.edge.messages import Request
from edgecloud.edge.request_handler import RequestHandler
from edgecloud.embedded.pair import CLOUD_CHECKPOINT, EDGE_CHECKPOINT
from edgecloud.errors import CloudUnavailable, ConfigError, EdgeCloudError, ModelError
from edgecloud.experiments.run import load_corpus
from edgecloud.models.loading import load
from edgecloud.settings.config import resolve

pytest.importorskip("uvicorn", reason="the extra serve is not installed")
from edgecloud.cloud.http.app import ServiceSettings
from edgecloud.cloud.run_server import Listening, check

ROOT = Path(__file__).parents[2]
WAIT_S = 60
DRAIN_S = 1
PROMPT = Prompt((5, 6, 7, 8))
EXACT = Acceptance("exact")
SECRET = "a long secret"
FEATURES = np.linspace(0, 1, 128 * 40, dtype=np.float16).reshape(128, 40)


@contextmanager
def served(
    *options: str, files: int | None = None, **environment: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A service with the embedded cloud: its process and address. It may open so many ``files``."""

    def limited() -> None:
        if files is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    process = subprocess.Popen(
        [sys.executable, "-m", "edgecloud", "serve", "--port", "0", *options],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limited,
    )
    giving_up = threading.Timer(5 * WAIT_S, process.kill)
    giving_up.start()
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        giving_up.cancel()
        assert line, process.stderr and process.stderr.read()
        yield process, line.split()[-1]
    finally:
        giving_up.cancel()
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate for 127.0.0.1 that only its owner has signed, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    subprocess.run(
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout {key} -out {cert} "
        "-subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1".split(),
        check=True,
        capture_output=True,
    )
    return cert, key


def test_over_tls_with_a_token_until_it_is_told_to_end(
    certificate: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = certificate
    token = tmp_path / "token"
    token.write_text(SECRET + "\n")
    options = ("--tls-cert", cert, "--tls-key", key, "--token-file", str(token))
    with served(*options) as (process, url):
        assert url.startswith("https://127.0.0.1:")
        # Nobody we know has signed this certificate.
        with pytest.raises(CloudUnavailable, match="certificate"):
            model_metadata(url, token=SECRET, timeout_s=WAIT_S)
        monkeypatch.setenv("SSL_CERT_FILE", cert)
        with pytest.raises(CloudUnavailable, match="refuses the token"):
            model_metadata(url, token="another", timeout_s=WAIT_S)
        facts = model_metadata(url, token=SECRET, timeout_s=WAIT_S)
        assert (facts["name"], facts["protocol"]) == ("embedded-cloud", wire.VERSION)
        with closing(HttpChannel(url, token="another")) as channel:
            session = RemoteCloud(channel, deadline_s=WAIT_S).open(PROMPT)
            with pytest.raises(CloudUnavailable, match="token"):
                session.verify([], [2], EXACT)
        with closing(HttpChannel(url, token=SECRET)) as channel:
            cloud = RemoteCloud(channel, deadline_s=WAIT_S)
            assert cloud.open(PROMPT).verify([], [1234], EXACT).ranks
            with pytest.raises(ModelError, match="audio placeholders"):
                cloud.open(Prompt((5, 6), {LOG_MEL: FEATURES})).verify([], [2], EXACT)
            drained(process, cloud)
        _, log = process.communicate(timeout=WAIT_S)
        # It ended by the signal, once nobody waited any more.
        assert process.returncode == -signal.SIGTERM
        with pytest.raises(CloudUnavailable, match="no cloud answers"):
            model_metadata(url, token=SECRET, timeout_s=WAIT_S)
    check_log(log)


def drained(process: subprocess.Popen[str], cloud: RemoteCloud) -> None:
    """A request under way when the service is told to end is answered to its end."""
    chunks = cloud.open(PROMPT).generate([], StopLimits(400))
    first = next(chunks)
    process.send_signal(signal.SIGTERM)
    rest = list(chunks)
    assert rest[-1].last
    assert sum(len(chunk.tokens) for chunk in (first, *rest)) > 1


def check_log(log: str) -> None:
    """Lines of JSON with foreseen facts only: no captions, no features, no token."""
    lines = [json.loads(line) for line in log.splitlines()]
    told = [line for line in lines if line["event"] == "request"]
    assert [(line["op"], line["status"]) for line in told] == [
        ("verify", 200),
        ("verify", 422),
        ("generate", 200),
    ]
    for line in told:
        assert set(line) == {"time", "level", "from", "event", "op", "status", "s", "bytes_up"}
    assert SECRET not in log


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--host", "0.0.0.0"], "can be reached from outside"),
        (["--tls-cert", "absent.pem"], "come together"),
        (["--tls-cert", "absent.pem", "--tls-key", "absent.pem"], "is no file"),
        (["--token-file", "absent"], "cannot be read"),
        (["--model", "absent"], "absent"),
        (["--host", "203.0.113.1", "--token-file", "TOKEN"], "cannot listen"),
        (["--host", "a" * 80 + ".example", "--token-file", "TOKEN"], "cannot listen"),
        (["--host", "nul\0", "--token-file", "TOKEN"], "cannot listen"),
        (["--token-file", __file__], "line 1: a client's name"),
        (["--tls-cert", "TOKEN", "--tls-key", "TOKEN"], "cannot be used"),
        (["--max-context", "5000"], "4096 tokens"),
    ],
)
def test_what_would_be_open_or_broken_is_refused_with_the_reason(
    options: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGECLOUD_TOKEN", raising=False)
    (tmp_path / "token").write_text(SECRET)
    options = [str(tmp_path / "token") if option == "TOKEN" else option for option in options]
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    parsed = parser().parse_args(["serve", "--port", "0", *options])
    with pytest.raises(EdgeCloudError, match=says) as refused:
        parsed.command(parsed)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("files", [("cert", "other"), ("key", "key"), ("cert", "locked")])
def test_a_certificate_and_a_key_that_do_not_serve_are_refused_in_one_line(
    files: tuple[str, str], certificate: tuple[str, str], tmp_path: Path
) -> None:
    made = dict(zip(("cert", "key"), certificate, strict=True))
    for name, options in (
        ("other", ["-out"]),
        ("locked", ["-aes256", "-passout", "pass:x", "-out"]),
    ):
        made[name] = str(tmp_path / name)
        command = ["openssl", "genrsa", *options, made[name], "2048"]
        subprocess.run(command, check=True, capture_output=True)
    cert, key = (made[name] for name in files)
    with pytest.raises(ConfigError, match="cannot be used") as refused:
        check(Listening(tls_cert=cert, tls_key=key), ServiceSettings())
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("--port", value) for value in ("99999", "65536", "-1", "x", "1.5")],
        *[("--batch-window-ms", value) for value in ("nan", "-5", "inf", "-inf", "x")],
        *[("--max-memory-gb", value) for value in ("nan", "0", "-1", "inf", "1e300")],
        *[("--drain-s", value) for value in ("nan", "0", "1e300")],
        *[("--max-context", value) for value in ("0", "-1", "1.5", "nan")],
        *[("--max-connections", value) for value in ("0", "9" * 5000)],
        ("--head-s", "0"),
    ],
)
def test_numbers_that_cannot_be_used_are_refused_in_one_line(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["serve", f"{option}={value}"])
    assert f"argument {option}: " in capsys.readouterr().err.splitlines()[-1]


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser()
    add(found.add_subparsers())
    return found


def head(address: tuple[str, int], sent: bytes) -> socket.socket:
    connection = socket.create_connection(address, timeout=WAIT_S)
    connection.sendall(sent)
    return connection


def closed(connection: socket.socket) -> bool:
    """Whether the other side has ended a connection; waits for it."""
    try:
        return connection.recv(1 << 16) == b"" or closed(connection)
    except ConnectionResetError:
        return True


def test_four_hundred_silent_connections_harm_nobody_and_are_ended() -> None:
    """With few files at hand, so that all of them would be used up."""
    with served("--head-s", "1", "--drain-s", str(DRAIN_S), files=160) as (process, url):
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        with ExitStack() as stack:
            kept = stack.enter_context(httpx.Client(base_url=url, timeout=WAIT_S))
            assert kept.get("/healthz").status_code == 200
            starts = [b"", b"POST /v1/mess", b"GET / HTTP/1.1\r\nHost: x\r\n", b"\x16\x03\x01"]
            silent = [
                stack.enter_context(head(address, starts[number % len(starts)]))
                for number in range(400)
            ]
            began = time.monotonic()
            for _ in range(5):
                assert httpx.get(f"{url}/healthz", timeout=WAIT_S).status_code == 200
            with closing(HttpChannel(url)) as channel:
                cloud = RemoteCloud(channel, deadline_s=WAIT_S)
                assert cloud.open(PROMPT).verify([], [1234], EXACT).ranks
            assert time.monotonic() - began < WAIT_S / 2
            assert all(map(closed, silent))
            # It ends within --drain-s, whatever is under way: a body that does not end, a text.
            begun = b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nx"
            stack.enter_context(head(address, begun))
            stack.enter_context(head(address, b""))
            channel = stack.enter_context(closing(HttpChannel(url)))
            next(
                RemoteCloud(channel, deadline_s=WAIT_S).open(PROMPT).generate([], StopLimits(4000))
            )
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            process.wait(WAIT_S)
            # The rest is what a busy machine needs to notice.
            assert time.monotonic() - began < DRAIN_S + 1
        assert process.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM)
        _, log = process.communicate(timeout=WAIT_S)
    assert len(log.splitlines()) < 150  # one for each that was no HTTP, and a few
    assert "out of system resource" not in log


def local_texts(count: int) -> list[str]:
    """What the pair writes with its cloud in this process, without HTTP."""
    edge = load("edge", str(EDGE_CHECKPOINT), device="cpu", dtype="auto")
    cloud = load("cloud", str(CLOUD_CHECKPOINT), device="cpu", dtype="auto")
    config = resolve({"gate_type": "always", "continuation": 1})
    request_handler = RequestHandler(
        config,
        edge.processor,
        edge=edge.model,
        cloud=LocalCloud(cloud.model, cloud.stopping()),
    )
    samples, _ = load_corpus(config)
    return [
        request_handler.caption(Request(str(sample.audio_path))).text for sample in samples[:count]
    ]


def test_the_suite_writes_over_http_what_it_writes_with_the_cloud_on_this_machine(
    tmp_path: Path,
) -> None:
    count = 8
    done = subprocess.run(
        [
            *(sys.executable, "-m", "edgecloud", "serve", "--port=0", "--"),
            *(sys.executable, "-m", "pytest", "bench/test_spec.py", "-p", "no:cacheprovider"),
            *("--cloud-url", "{url}", "--gate-type=always", "--continuation=1"),
            *(f"--max-samples={count}", "--output-name=http", f"--output-dir={tmp_path}"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=5 * WAIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "results" / "http.json").read_text("utf-8"))
    assert found["metrics"]["num_failed"] == 0
    details = found["detailed_results"]
    assert found["metrics"]["num_degraded"] == 0
    assert [entry["generated_text"] for entry in details] == local_texts(count)


COMMAND = """
import os, signal, sys, time, urllib.request
url = sys.argv[1]
def end(number, frame):
    time.sleep(0.3)  # were the service told to end, too, it would be gone by now
    status = urllib.request.urlopen(url + "/healthz", timeout=10).status
    # Not by print: the signal may come while the address is still being printed.
    os.write(1, f"{signal.Signals(number).name} {status}\\n".encode())
    sys.exit(3)
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, end)
print(url, flush=True)
while True:
    time.sleep(0.1)
"""


@pytest.mark.parametrize(
    "by, status", [(signal.SIGTERM, 143), (signal.SIGINT, 3)], ids=["terminated", "interrupted"]
)
def test_a_command_beside_its_service_ends_before_it(by: signal.Signals, status: int) -> None:
    options = ["--port", "0", "--drain-s", "0.2", "--", sys.executable, "-c", COMMAND, "{url}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "edgecloud", "serve", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Tests that run in a shell's background ignore the signal, and so would what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    giving_up = threading.Timer(5 * WAIT_S, process.kill)
    giving_up.start()
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        # Ctrl-C reaches all that the terminal runs, and SIGTERM what a scheduler has started.
        (os.killpg if by == signal.SIGINT else os.kill)(process.pid, by)
        said, _ = process.communicate(timeout=WAIT_S)
    finally:
        giving_up.cancel()
        process.kill()
    assert said == f"{by.name} 200\n"
    assert process.returncode == status
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/healthz", timeout=5)
