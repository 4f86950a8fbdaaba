"""Sixteen edges at once on one service: nothing lost, nothing wrong, faster than one at a time.

Runs when it is named (``tox -e load``). The edges' drafts are recorded once and replayed, so that the
edges do not take the cores. Both ways of handling take turns in one run, against services of the same
settings; the figures go to
``load/load.json`` in the output folder.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from bench.conftest import CONFIG, WRITTEN

if TYPE_CHECKING:
    from bench.replay import Caption, Replayed
    from edgecloud.contracts import Prompt
    from edgecloud.models.loading import Loaded

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

    def took(self, replayed: Replayed) -> None:
        assert replayed.faults == []
        self.ties += replayed.ties
        self.verifications += replayed.verifications
        self.seconds += replayed.seconds
        self.waits_s += replayed.waits_s

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
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as process:
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
    from bench.replay import record
    from edgecloud.contracts import Acceptance, StopLimits
    from edgecloud.decoding.speculative import Speculation
    from edgecloud.models.loading import load
    from edgecloud.models.reference import CLOUD_CHECKPOINT, EDGE_CHECKPOINT

    edge = load("edge", str(EDGE_CHECKPOINT), device="cpu", dtype="auto")
    cloud = load("cloud", str(CLOUD_CHECKPOINT), device="cpu", dtype="auto")
    return record(
        prompts(edge),
        edge=edge.model,
        cloud=cloud.model,
        settings=Speculation(k=3, gate="always", acceptance=Acceptance("exact")),
        stopping=edge.processor.stopping(StopLimits()),
    )


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
    from bench.replay import replay

    done = 0
    with serving() as many, serving("--max-batch", "1") as single:
        alone = Service(many.process, many.url)
        for url in (many.url, single.url):
            assert replay(url, recorded, edges=EDGES, captions=EDGES).faults == []
        for _ in range(TURNS):
            # One edge, which waits for each answer; many edges on a service that takes one request
            # at a time; many edges on one that lets them share its forwards.
            alone.took(replay(alone.url, recorded, edges=1, captions=ONE_AT_A_TIME_CAPTIONS // 3))
            single.took(replay(single.url, recorded, edges=EDGES, captions=ONE_AT_A_TIME_CAPTIONS))
            replayed = replay(many.url, recorded, edges=EDGES, captions=CAPTIONS // TURNS)
            many.took(replayed)
            many.weigh()
            done += replayed.captions
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
        "cores": psutil.cpu_count(),
        "load_average": psutil.getloadavg(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    config = request.config.stash[CONFIG]
    path = Path(config.output_dir) / "load" / f"{config.output_name or 'load'}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    request.config.stash[WRITTEN].append(path)
    assert done == CAPTIONS
    assert growth <= FLAT
    assert ratio >= FASTER
