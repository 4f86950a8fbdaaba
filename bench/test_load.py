"""Sixteen edges at once on one service: nothing lost, nothing wrong, faster than one at a time.

Runs when it is named (``tox -e load``). The edges' drafts are recorded once and played back, so that the
edges do not take the cores. Both ways of handling take turns in one run, against services of the same
settings; the figures go to ``load/load.json`` in the output folder. ``EDGECLOUD_LOAD_DEVICE=cuda`` has the
services on a GPU.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from bench.conftest import CONFIG, WRITTEN

if TYPE_CHECKING:
    from bench.traffic import Caption, Played
    from edgecloud.contracts import Prompt
    from edgecloud.models.loading import Loaded

DEVICE = ("--device", os.environ.get("EDGECLOUD_LOAD_DEVICE", "cpu"), "--dtype", "float32")
EDGES = 16
CAPTIONS = 1000
TURNS = 4
ONE_AT_A_TIME_CAPTIONS = 24
FASTER = 2.5
FLAT = 1.05


@dataclass
class Service:
    """A service as a process of its own, and what was asked of it."""

    process: subprocess.Popen[str]
    url: str
    verifications: int = 0
    ties: int = 0
    seconds: float = 0.0
    waits_s: list[float] = field(default_factory=list)
    rss_bytes: list[int] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Verifications a second."""
        return self.verifications / self.seconds

    def took(self, played: Played) -> None:
        assert played.faults == []
        self.ties += played.ties
        self.verifications += played.verifications
        self.seconds += played.seconds
        self.waits_s += played.waits_s

    def weigh(self) -> None:
        self.rss_bytes.append(psutil.Process(self.process.pid).memory_info().rss)

    def facts(self) -> dict[str, Any]:
        cuts = quantiles(self.waits_s, n=100)
        return {
            "verifications": self.verifications,
            "ties": self.ties,
            "verifications_per_s": self.rate,
            "wait_ms": {"p50": cuts[49] * 1e3, "p99": cuts[98] * 1e3},
        }


@contextmanager
def serving(*options: str) -> Iterator[Service]:
    """``edgecloud serve`` with the embedded cloud, warmed up by nobody yet."""
    command = [sys.executable, "-m", "edgecloud", "serve", "--port", "0", "--log-level", "warning"]
    with subprocess.Popen(
        [*command, *DEVICE, *options], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, "the service did not start"
            yield Service(process, line.split()[-1])
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def recorded() -> list[Caption]:
    """The traffic of one detailed caption for every eighth recording of the corpus, in both languages."""
    from bench.traffic import record
    from edgecloud.contracts import Acceptance, StopLimits
    from edgecloud.decoding.speculative import Speculation
    from edgecloud.embedded.pair import CLOUD_CHECKPOINT, EDGE_CHECKPOINT
    from edgecloud.models.loading import load

    edge = load("edge", str(EDGE_CHECKPOINT), device="cpu", dtype="auto")
    cloud = load("cloud", str(CLOUD_CHECKPOINT), device=DEVICE[1], dtype="float32")
    return record(
        prompts(edge),
        edge=edge.model,
        cloud=cloud.model,
        settings=Speculation(k=3, gate="always", acceptance=Acceptance("exact")),
        stopping=edge.processor.stopping(StopLimits()),
    )


LONG_TOKENS = 60_000


def opened_s(url: str, token_ids: tuple[int, ...], name: bytes) -> tuple[float, float]:
    """Seconds of an open with its first verification, and of a second one."""
    import httpx

    from edgecloud.cloud.protocol import wire
    from edgecloud.contracts import Acceptance, Prompt

    rule = wire.pack_acceptance(Acceptance("exact"))
    opening = wire.pack(0, "open", name, *wire.pack_open(Prompt(token_ids)))
    took = []
    for messages in (
        [opening, wire.pack(1, "verify", name, 0, [], [5], rule, 0, [])],
        [wire.pack(2, "verify", name, 0, [5], [6, 7, 8], rule, 0, [])],
    ):
        body = wire.pack_frames(messages)
        began = time.perf_counter()
        found = httpx.post(f"{url}/v1/messages", content=body, timeout=900, trust_env=False)
        took.append(time.perf_counter() - began)
        assert found.status_code == 200, found.text
    closing = wire.pack_frames([wire.pack(3, "close", name)])
    httpx.post(f"{url}/v1/messages", content=closing, timeout=60, trust_env=False)
    return took[0], took[1]


def roomy(folder: Path) -> Path:
    """The embedded cloud, as if it had been made for so long a text; what it writes is not looked at."""
    from edgecloud.embedded.pair import CLOUD_CHECKPOINT

    shutil.copytree(CLOUD_CHECKPOINT, folder)
    config = folder / "config.json"
    text = config.read_text(encoding="utf-8")
    wider = text.replace(
        '"max_position_embeddings": 4096', f'"max_position_embeddings": {2 * LONG_TOKENS}'
    )
    assert wider != text
    config.write_text(wider, encoding="utf-8")
    return folder


def test_others_wait_for_a_chunk_of_a_long_prompt_at_most(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Another client's open and verification during a 60,000-token open take at most 2 x what they take
    alone plus one chunk."""
    from edgecloud.cloud.engine.local import PREFILL_CHUNK
    from edgecloud.models.parts import in_parts

    short = tuple(1 + n % 100 for n in range(PREFILL_CHUNK))
    long = tuple(1 + n % 100 for n in range(LONG_TOKENS))
    with serving("--model", str(roomy(tmp_path / "cloud")), "--answer-s", "900") as service:
        opened_s(service.url, short, b"warm" * 4)
        alone = [opened_s(service.url, short, bytes([n]) * 16) for n in range(5)]
        half_s, _ = opened_s(service.url, long[: LONG_TOKENS // 2], b"half" * 4)
        with ThreadPoolExecutor(1) as pool:
            under_way = pool.submit(opened_s, service.url, long, b"long" * 4)
            during = []
            while not under_way.done() and len(during) < 40:
                during.append(opened_s(service.url, short, len(during).to_bytes(16)))
            whole_s, _ = under_way.result()
    # Of n tokens: a n + b n^2. The time of both was taken; of the whole with the others beside it.
    a, b = _line(LONG_TOKENS / 2, half_s, LONG_TOKENS, whole_s)
    chunk_s = max(
        a * (part.stop - part.start) + b * (part.stop**2 - part.start**2)
        for part in in_parts(LONG_TOKENS, PREFILL_CHUNK)
    )
    opens_s, verifies_s = (median(times) for times in zip(*alone, strict=True))
    facts = {
        "tokens": LONG_TOKENS,
        "whole_s": whole_s,
        "longest_chunk_s": chunk_s,
        "alone_s": {"open": opens_s, "verify": verifies_s},
        "during_s": {
            "open": [one for one, _ in during],
            "verify": [other for _, other in during],
        },
        "device": DEVICE[1],
        "cores": psutil.cpu_count(),
        "load_average": psutil.getloadavg(),
    }
    config = request.config.stash[CONFIG]
    path = Path(config.output.folder) / "load" / f"{config.output.name or 'load'}-long-open.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    request.config.stash[WRITTEN].append(path)
    assert during
    assert median(one for one, _ in during) <= 2 * opens_s + chunk_s
    assert median(other for _, other in during) <= 2 * verifies_s + chunk_s


def _line(n: float, n_s: float, m: float, m_s: float) -> tuple[float, float]:
    """``a, b`` of ``a n + b n^2`` through two points, none of them below 0."""
    b = max(0.0, (m_s / m - n_s / n) / (m - n))
    return max(0.0, m_s / m - b * m), b


def prompts(edge: Loaded) -> list[Prompt]:
    from edgecloud.datasets.audio import load_audio
    from edgecloud.datasets.manifest import embedded_manifest, load_manifest
    from edgecloud.models.prompts import LANGUAGES

    found = []
    for language in LANGUAGES:
        manifest = embedded_manifest(language)
        for sample in load_manifest(manifest, language=language, caption_type="original")[::8]:
            features = edge.processor.features(load_audio(sample.audio_path, max_audio_s=60.0))
            found.append(edge.processor.prompt(features, language=language, prompt_type="detailed"))
    return found


def test_sixteen_edges_at_once(recorded: list[Caption], request: pytest.FixtureRequest) -> None:
    from bench.traffic import play

    done = 0
    with serving() as many, serving("--max-batch", "1") as single:
        alone = Service(many.process, many.url)
        for url in (many.url, single.url):
            assert play(url, recorded, edges=EDGES, captions=EDGES).faults == []
        for _ in range(TURNS):
            # One edge, which waits for each answer; many edges on a service that takes one request
            # at a time; many edges on one that lets them share its forwards.
            alone.took(play(alone.url, recorded, edges=1, captions=ONE_AT_A_TIME_CAPTIONS // 3))
            single.took(play(single.url, recorded, edges=EDGES, captions=ONE_AT_A_TIME_CAPTIONS))
            played = play(many.url, recorded, edges=EDGES, captions=CAPTIONS // TURNS)
            many.took(played)
            many.weigh()
            done += played.captions
    ratio = many.rate / max(alone.rate, single.rate)
    growth = many.rss_bytes[-1] / many.rss_bytes[TURNS // 2 - 1]
    facts = {
        "edges": EDGES,
        "captions": done,
        "verifications_per_caption": sum(len(c.requests) for c in recorded) / len(recorded),
        "together": many.facts(),
        "one_at_a_time": {"one_edge": alone.facts(), "many_edges": single.facts()},
        "ratio": ratio,
        "service_rss_mb": [size / 1e6 for size in many.rss_bytes],
        "memory_growth_second_half": growth - 1,
        "device": DEVICE[1],
        "cores": psutil.cpu_count(),
        "load_average": psutil.getloadavg(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    config = request.config.stash[CONFIG]
    path = Path(config.output.folder) / "load" / f"{config.output.name or 'load'}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    request.config.stash[WRITTEN].append(path)
    assert done == CAPTIONS
    assert growth <= FLAT
    assert ratio >= FASTER
