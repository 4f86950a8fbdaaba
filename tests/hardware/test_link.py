"""When a message arrives: by hand, by chance, and on real sockets."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecloud.cloud.engine.local import LocalCloud
from edgecloud.cloud.http.client import HttpChannel
from edgecloud.cloud.protocol.remote import RemoteCloud
from edgecloud.contracts import LOG_MEL, Acceptance, CloudModel, Prompt, StopLimits
from edgecloud.decoding.stopping import Stopping
from edgecloud.errors import CloudTimeout, CloudUnavailable, ConfigError
from edgecloud.hardware.clock import ModelledClock, TimedCloud
from edgecloud.hardware.link import LINKS, Link, LinkTimes, Point, link
from edgecloud.hardware.profiles import CloudCosts, EdgeCosts, HardwareProfile, LinkCosts
from edgecloud.hardware.shaping import ShapingProxy
from edgecloud.models.scripted import ScriptedModel, follows

PROMPT = Prompt(
    (7, 8, 9), {LOG_MEL: np.random.default_rng(0).normal(size=(4, 5000)).astype(np.float16)}
)
"""About 40 kB on the wire, so that what HTTP adds to a message is little beside it."""
STOPPING = Stopping(StopLimits(60), frozenset({0}))
IDLE = HardwareProfile(
    "idle", EdgeCosts(0.0, 0.0), CloudCosts(0.0, 0.0, 0.0), LinkCosts(0.0), "costs nothing"
)


def cloud() -> LocalCloud:
    text = [2, 3, 4, 5, 6] * 8
    return LocalCloud(
        ScriptedModel(follows(text, prompt_length=3, vocab_size=10), vocab_size=10), STOPPING
    )


def test_delay_and_bandwidth_add_up() -> None:
    times = LinkTimes(Link("slow", LinkCosts(0.2, 1000.0, 500.0)), 0)
    assert times.arrival("up", 1.0, 100) == pytest.approx(1.2)
    assert times.arrival("down", 1.0, 100) == pytest.approx(1.3)


def test_nothing_passes_in_an_outage() -> None:
    times = LinkTimes(Link("broken", LinkCosts(0.2), outages=((1.0, 61.0),)), 0)
    assert times.arrival("up", 0.9, 10) == pytest.approx(1.0)
    assert times.arrival("up", 1.0, 10) == pytest.approx(61.1)
    assert times.arrival("up", 62.0, 10) == pytest.approx(62.1)


def test_a_trace_is_followed_and_starts_over() -> None:
    points = (Point(0.0, 100.0, 0.5), Point(10.0, 1000.0, 0.1), Point(20.0, 1.0, 9.0))
    times = LinkTimes(Link("trace", LinkCosts(1.0), trace=points), 0)
    assert times.arrival("up", 5.0, 100) == pytest.approx(6.5)
    assert times.arrival("up", 15.0, 100) == pytest.approx(15.2)
    assert times.arrival("up", 25.0, 100) == pytest.approx(26.5)


def test_lost_packets_cost_a_timeout_each_round() -> None:
    lossy = Link("lossy", LinkCosts(0.01), loss=0.3)
    waits = [LinkTimes(lossy, seed).arrival("up", 0.0, 10_000) - 0.005 for seed in range(300)]
    assert all(wait == pytest.approx(0.2 * round(wait / 0.2)) for wait in waits)
    # Seven packets: all come through at once with probability 0.7^7 = 8%.
    assert sum(wait < 0.1 for wait in waits) / len(waits) == pytest.approx(0.08, abs=0.06)


@given(
    st.sampled_from(sorted(LINKS)),
    st.integers(0, 9),
    st.lists(st.tuples(st.floats(0, 5), st.integers(0, 100_000)), max_size=20),
)
def test_chances_repeat_and_no_message_overtakes_another(
    name: str, seed: int, sent: list[tuple[float, int]]
) -> None:
    found = []
    for _ in range(2):
        times = LinkTimes(LINKS[name], seed)
        now, arrived = 0.0, []
        for pause, size in sent:
            now += pause
            arrived.append(times.arrival("up", now, size))
            assert arrived[-1] >= now
        found.append(arrived)
    assert found[0] == found[1] == sorted(found[0])


def test_a_trace_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text("time_s,bytes_per_s,delay_s\n0,1000,0.05\n60,500,0.2\n")
    found = link(str(path))
    assert found.trace == (Point(0.0, 1000.0, 0.05), Point(60.0, 500.0, 0.2))
    assert link("lte") is LINKS["lte"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a,b\n1,2\n",
        "time_s,bytes_per_s,delay_s\n",
        "time_s,bytes_per_s,delay_s\n0,x,0\n1,1,1\n",
        "time_s,bytes_per_s,delay_s\n0,0,0\n1,1,1\n",
        "time_s,bytes_per_s,delay_s\n5,1,0\n1,1,1\n",
    ],
)
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"link trace .*trace\.csv"):
        link(str(path))
    with pytest.raises(ConfigError, match="unknown link 'none'; choose one of 100ms, lan"):
        link("none")


def converse(with_: CloudModel) -> None:
    """A start, six verifications and a short generation, one after the other."""
    session = with_.open(PROMPT)
    output = list(session.start(1).result().tokens)
    for number in range(6):
        output += session.verify(output, [2, 3], Acceptance("rank", 20), number % 3).output([2, 3])
    for _ in session.generate(output, StopLimits(len(output) + 4)):
        pass
    session.close()


def timed(with_: CloudModel) -> float:
    began = time.perf_counter()
    converse(with_)
    return time.perf_counter() - began


@pytest.mark.alone
@pytest.mark.parametrize(
    "over",
    [
        Link("far", LinkCosts(0.08)),
        Link("narrow", LinkCosts(0.1, 100_000.0, 100_000.0)),
        Link("shaky", LinkCosts(0.04), jitter_s=0.02, loss=0.05),
        # It changes before the conversation ends.
        Link(
            "train",
            LinkCosts(0.06),
            trace=(Point(0.0, 200_000.0, 0.04), Point(0.4, 100_000.0, 0.05), Point(60.0, 1.0, 9.0)),
        ),
    ],
    ids=lambda over: over.name,
)
def test_modelled_and_real_times_agree(over: Link) -> None:
    pytest.importorskip("uvicorn", reason="the extra serve is not installed")
    from tests.cloud.running import running

    chance = bool(over.jitter_s or over.loss)
    modelled, real = [], []
    with running(cloud()) as url:
        port = urlsplit(url).port
        assert port is not None
        # The same messages over the bare loopback, so that the link's part alone is compared.
        with closing(HttpChannel(url)) as channel:
            behind = RemoteCloud(channel, deadline_s=30)
            converse(behind)
            overhead = min(timed(behind) for _ in range(3))
            for seed in range(3):
                clock = ModelledClock()
                converse(TimedCloud(behind, clock, IDLE, link=over, seed=seed))
                modelled.append(clock.now())
        for seed in range(3):
            with (
                ShapingProxy("127.0.0.1", port, over, seed=seed) as proxy,
                closing(HttpChannel(f"http://127.0.0.1:{proxy.port}")) as channel,
            ):
                real.append(timed(RemoteCloud(channel, deadline_s=30)) - overhead)
    if chance:
        # It strikes pieces of other sizes at other moments: it agrees on the whole, not in each run.
        assert sum(real) == pytest.approx(sum(modelled), rel=0.5)
    else:
        # A busy machine adds to one run or another.
        assert len(set(modelled)) == 1
        assert min(real) == pytest.approx(modelled[0], rel=0.1)


def test_in_modelled_time_a_wait_ends_at_the_deadline() -> None:
    clock = ModelledClock()
    broken = Link("broken", LinkCosts(0.1), outages=((0.0, 60.0),))
    timed = TimedCloud(cloud(), clock, IDLE, link=broken, deadline_s=2.5)
    with pytest.raises(CloudTimeout):
        timed.open(PROMPT).verify([], [2], Acceptance("exact"))
    assert clock.now() == pytest.approx(2.5)


def test_the_proxy_passes_on_that_nobody_is_there() -> None:
    with (
        ShapingProxy("127.0.0.1", 9, Link("near", LinkCosts(0.0))) as proxy,
        closing(HttpChannel(f"http://127.0.0.1:{proxy.port}")) as channel,
    ):
        session = RemoteCloud(channel, deadline_s=2).open(PROMPT)
        with pytest.raises(CloudUnavailable, match="cannot be reached"):
            session.verify([], [2], Acceptance("exact"))
