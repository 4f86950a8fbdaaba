"""`edgecloud serve` as a user starts it: with TLS and a token, drained at its end, and used by the suites."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from edgecloud.cloud import wire
from edgecloud.cloud.client import HttpChannel, describe
from edgecloud.cloud.local import LocalCloud
from edgecloud.cloud.remote import RemoteCloud
from edgecloud.commands.serve import add
from edgecloud.config import resolve
from edgecloud.contracts import Acceptance, Prompt, StopLimits
from edgecloud.errors import CloudUnavailable, EdgeCloudError, ModelError
from edgecloud.hardware.captioner import Captioner
from edgecloud.hardware.edge_process import CaptionRequest
from edgecloud.harness.arm import load_corpus
from edgecloud.models.loading import load
from edgecloud.models.reference import CLOUD_CHECKPOINT, EDGE_CHECKPOINT

pytest.importorskip("uvicorn", reason="the extra serve is not installed")

ROOT = Path(__file__).parents[2]
WAIT_S = 60
PROMPT = Prompt((5, 6, 7, 8))
EXACT = Acceptance("exact")
SECRET = "a long secret"
FEATURES = np.linspace(0, 1, 128 * 40, dtype=np.float16).reshape(128, 40)


@contextmanager
def served(*options: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A service with the embedded cloud: its process and address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "edgecloud", "serve", "--port", "0", *options],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
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
            describe(url, token=SECRET, timeout_s=WAIT_S)
        monkeypatch.setenv("SSL_CERT_FILE", cert)
        with pytest.raises(CloudUnavailable, match="refuses the token"):
            describe(url, token="another", timeout_s=WAIT_S)
        facts = describe(url, token=SECRET, timeout_s=WAIT_S)
        assert (facts["name"], facts["protocol"]) == ("embedded-cloud", wire.VERSION)
        with closing(HttpChannel(url, token="another")) as channel:
            session = RemoteCloud(channel, deadline_s=WAIT_S).open(PROMPT)
            with pytest.raises(CloudUnavailable, match="token"):
                session.verify([], [2], EXACT)
        with closing(HttpChannel(url, token=SECRET)) as channel:
            cloud = RemoteCloud(channel, deadline_s=WAIT_S)
            assert cloud.open(PROMPT).verify([], [1234], EXACT).ranks
            with pytest.raises(ModelError, match="audio placeholders"):
                cloud.open(Prompt((5, 6), FEATURES)).verify([], [2], EXACT)
            drained(process, cloud)
        _, log = process.communicate(timeout=WAIT_S)
        # It ended by the signal, once nobody waited any more.
        assert process.returncode == -signal.SIGTERM
        with pytest.raises(CloudUnavailable, match="no cloud answers"):
            describe(url, token=SECRET, timeout_s=WAIT_S)
    check(log)


def drained(process: subprocess.Popen[str], cloud: RemoteCloud) -> None:
    """A request under way when the service is told to end is answered to its end."""
    chunks = cloud.open(PROMPT).generate([], StopLimits(400))
    first = next(chunks)
    process.send_signal(signal.SIGTERM)
    rest = list(chunks)
    assert rest[-1].last
    assert sum(len(chunk.tokens) for chunk in (first, *rest)) > 1


def check(log: str) -> None:
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
        (["--host", "203.0.113.1", "--token-file", __file__], "cannot listen"),
    ],
)
def test_what_would_be_open_or_broken_is_refused_with_the_reason(
    options: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGECLOUD_TOKEN", raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    parser = argparse.ArgumentParser()
    add(parser.add_subparsers())
    parsed = parser.parse_args(["serve", "--port", "0", *options])
    with pytest.raises(EdgeCloudError, match=says):
        parsed.command(parsed)


def local_texts(count: int) -> list[str]:
    """What the pair writes with its cloud in this process, without HTTP."""
    edge = load("edge", str(EDGE_CHECKPOINT), device="cpu", dtype="auto")
    cloud = load("cloud", str(CLOUD_CHECKPOINT), device="cpu", dtype="auto")
    config = resolve({"gate_type": "always", "continuation": 1})
    captioner = Captioner(
        config,
        edge.processor,
        edge=edge.model,
        cloud=LocalCloud(cloud.model, cloud.stopping()),
    )
    samples, _ = load_corpus(config)
    return [
        captioner.caption(CaptionRequest(str(sample.audio_path))).text for sample in samples[:count]
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
