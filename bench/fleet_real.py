"""What ``edgecloud fleet`` predicts, held against a real ``edgecloud serve`` under load.

    python -m bench.fleet_real -o reports/fleet-real

Sixteen edges do their captions on one service of the embedded cloud, which has one core and one thread; the edges have
another core. They compute nothing: each sends the bytes that an edge sent when it was recorded, and sleeps for as long
as the edge of the hardware profile would work, so that a core is enough for all of them. A request is a caption, as in
the fleet's tables: several calls to the service, each open, verify or generate.

1. journals of the cloud alone and of ``frontier`` in modelled time, and the bytes of their calls;
2. the costs of forwards that sessions share, by ``edgecloud profile measure --batches`` on the service's core;
3. runs: both policies in a closed loop and ``frontier`` at random times, all after each other in every round, each
   round with a seed of its own;
4. the service's processor time for a request and a streamed token beside forwards, from the first closed run of each
   policy: how busy it was there is therefore no prediction, and the rest is;
5. predictions for the same captions, arrivals and seeds.

Anything else that runs on the two cores is in the measurements: the page says the load average.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pickle
import secrets
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from statistics import median
from typing import Any, cast
from urllib.parse import urlsplit

import httpx
import numpy as np
import psutil
from tabulate import tabulate

import edgecloud
from bench.traffic import Recording, exchange
from edgecloud.cloud.engine.local import LocalCloud
from edgecloud.cloud.pipe_server import MessageServer
from edgecloud.cloud.protocol import wire
from edgecloud.cloud.protocol.remote import RemoteCloud
from edgecloud.contracts import StopLimits
from edgecloud.datasets.audio import load_audio
from edgecloud.datasets.corpus import load_corpus
from edgecloud.decoding.recorded import RecordedEdge
from edgecloud.edge.decoding import Decoding
from edgecloud.embedded.pair import CLOUD_CHECKPOINT, EDGE_CHECKPOINT
from edgecloud.experiments.fleet import Load, Objective, measured, policy
from edgecloud.experiments.fleet_simulation import (
    Join,
    Script,
    Send,
    Simulated,
    Work,
    chooser,
    simulate,
)
from edgecloud.experiments.retiming import timed_by
from edgecloud.hardware.costs import CloudCosts, LinkCosts
from edgecloud.hardware.link import Link
from edgecloud.hardware.profile_files import ProfileFile, read_profile, write_profile
from edgecloud.hardware.profiles import profile
from edgecloud.models.loading import load
from edgecloud.results.journal import read
from edgecloud.results.recorded_run import recorded_run
from edgecloud.stages import say

Json = Mapping[str, Any]
EDGES = 16
OBJECTIVE = Objective(0.95, 3.0)
SERVICE_CORE, EDGES_CORE = 0, 1
_ROUNDS_TO_SOLVE = 8
WITHIN = 0.10
_NAME_BYTES = 16


@dataclass(frozen=True, slots=True)
class Asked:
    """A call as it was sent, and the tokens of its answer."""

    body: bytes
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Caption:
    """What an edge does for a caption, with the calls of its ``Send``s, in the session that was recorded."""

    script: Script
    session: bytes
    calls: tuple[Asked, ...]
    closing: bytes


@dataclass(frozen=True, slots=True)
class Condition:
    """A policy under a load (``--load``)."""

    policy: str
    load: str

    @property
    def name(self) -> str:
        return f"{self.policy}, {self.load}"


class _Recording(Recording):
    """Keeps which answers belong to which request: a generation has one for each token."""

    def __init__(self, server: MessageServer) -> None:
        super().__init__(server, [])
        self._begins: list[int] = []

    def send(self, message: bytes, *, answered: bool) -> None:
        if answered:
            self._begins.append(len(self.answers))
        super().send(message, answered=answered)

    def calls(self) -> tuple[bytes, tuple[Asked, ...], bytes]:
        """Session, calls and last message of the caption that has just ended."""
        found = self.taken()
        begins, self._begins = [*self._begins, len(found.answers)], []
        calls = tuple(
            Asked(body, tokens_of(found.answers[first:last]))
            for body, (first, last) in zip(found.requests, pairwise(begins), strict=True)
        )
        return found.session, calls, found.closing


def tokens_of(answers: Sequence[bytes]) -> tuple[int, ...]:
    """The tokens that messages of one answer say: chunks one after the other, or what a verdict keeps and adds."""
    found: list[int] = []
    for answer in answers:
        _, kind, (_, *values) = wire.unpack(answer)
        if kind == "chunk":
            found += values[0]
        elif kind == "verdict":
            kept, token, _, _, more, *_ = values
            found += [kept, -1 if token is None else token, *more]
        else:
            raise AssertionError(f"{kind}: {values}")
    return tuple(found)


def journals(folder: Path, samples: int) -> dict[str, Path]:
    """Journals of both policies in modelled time; those that are there are not made again."""
    found = {}
    for name, mode, settings in (
        ("cloud", "cloud", {}),
        ("frontier", "spec", {"preset": "frontier"}),
    ):
        found[name] = folder / "journals" / f"{name}.jsonl"
        if not found[name].is_file():
            edgecloud.run(
                mode, clock="modelled", language="english", max_samples=samples,
                output_dir=str(folder), output_name=name, **settings,
            )  # fmt: skip
    return found


def recorded(path: Path, scripts: Sequence[Script]) -> list[Caption]:
    """The calls of a journal's captions: the edge answers from the journal, the cloud computes."""
    run = recorded_run(*read(path), path=path)
    edge = load("edge", str(EDGE_CHECKPOINT), device="cpu", dtype="auto").processor
    cloud = load("cloud", str(CLOUD_CHECKPOINT), device="cpu", dtype="float32")
    generation = run.config.generation
    stopping = edge.stopping(StopLimits(generation.max_new_tokens, generation.max_sentences))
    decoding = Decoding(timed_by(run.config, hardware_profile="paper"), stopping)
    channel = _Recording(MessageServer(LocalCloud(cloud.model, stopping)))
    remote = RemoteCloud(channel, deadline_s=600)
    recordings = {sample.file_id: sample.audio_path for sample in load_corpus(run.config)[0]}
    captions = []
    for record, script in zip(run.records, scripts, strict=True):
        data = run.config.data
        features = edge.features(load_audio(recordings[record.file_id], max_audio_s=60.0))
        prompt = edge.prompt(features, language=data.language, prompt_type=data.prompt_type)
        assert prompt.digest() == record.prompt_digest, record.file_id
        for _ in decoding.commits(
            prompt,
            decoding.begin(),
            edge=RecordedEdge(record.trace) if run.mode == "spec" else None,
            cloud=remote,
        ):
            pass
        found = Caption(script, *channel.calls())
        sends = [operation for operation in script if isinstance(operation, Send)]
        assert len(sends) == len(found.calls), (record.file_id, len(sends), len(found.calls))
        assert sum(isinstance(operation, Join) for operation in script) == len(sends)
        captions.append(found)
    return captions


@contextmanager
def serving() -> Iterator[tuple[psutil.Process, str]]:
    """``edgecloud serve`` of the embedded cloud on one core with one thread; its process and address."""
    command = [sys.executable, "-m", "edgecloud", "serve", "--port", "0", "--log-level", "warning"]
    # Connections wait for as long as their edges have nothing to do.
    command += ["--device", "cpu", "--dtype", "float32", "--head-s", "600"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **_on_its_core()) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, "the service did not start"
            yield psutil.Process(process.pid), line.split()[-1]
        finally:
            process.terminate()
            process.wait(30)


def _on_its_core() -> dict[str, Any]:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {
        "preexec_fn": partial(os.sched_setaffinity, 0, {SERVICE_CORE}),
        "env": {**os.environ, **threads},
    }


def batch_costs(path: Path) -> CloudCosts:
    """The cloud's costs, measured by the command on the service's core."""
    command = [sys.executable, "-m", "edgecloud", "profile", "measure", "--side", "cloud"]
    command += ["--model", str(CLOUD_CHECKPOINT), "--batches", "1,2,4,8,16", "--rounds", "15"]
    command += ["--max-cpu-cores", "1", "-o", str(path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **_on_its_core())
    found = read_profile(path).cloud
    assert found is not None
    return found


def shared(url: str) -> tuple[float, float]:
    """Sessions in forwards, and forwards, of the service so far."""
    text = httpx.get(f"{url}/metrics", trust_env=False).text
    found = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return float(found["edgecloud_batch_size_sum"]), float(found["edgecloud_batch_size_count"])


def busy_s(service: psutil.Process) -> float:
    """Processor seconds of the service so far."""
    times = service.cpu_times()
    return cast("float", times.user + times.system)


def with_service(
    costs: CloudCosts,
    link: Link,
    captions: Mapping[str, Sequence[Caption]],
    busy_s_per_caption: Mapping[str, float],
    *,
    count: int,
) -> CloudCosts:
    """The costs with what the service's processor does for a request and for a streamed token beside forwards: by
    them the simulation of each policy's first closed run is as busy for a caption as the service was. (With one
    edge at a time a token costs 2 to 3 times as much: it wakes threads that are awake where many share a forward.)
    """
    per_caption = {
        name: [
            sum(isinstance(operation, Send) for one in these for operation in one.script)
            / len(these),
            sum(op.call.streamed for one in these for op in one.script if isinstance(op, Send))
            / len(these),
        ]
        for name, these in captions.items()
    }
    rows = np.array(list(per_caption.values()))
    host = np.zeros(2)
    for _ in range(_ROUNDS_TO_SOLVE):
        batch = replace(costs.batch, request_s=float(host[0]), token_s=float(host[1]))
        costs = replace(costs, batch=batch)
        said = [
            predicted(Condition(name, "closed"), these, costs, link, count=count, seed=0)
            for name, these in captions.items()
        ]
        forwards = [one["busy_s_per_caption"] for one in said] - rows @ host
        due = np.array([busy_s_per_caption[name] for name in captions]) - forwards
        host = np.maximum(0.0, np.linalg.solve(rows, due))
    batch = costs.batch
    say(f"service: {1e3 * batch.request_s:.2f} ms a request, {1e3 * batch.token_s:.2f} ms a token")
    return costs


def round_trip_s(service: psutil.Process, url: str, captions: Sequence[Caption]) -> float:
    """By how much longer the calls of one edge take than the service works."""
    began_s = busy_s(service)
    quick = [replace(one, script=_without_pauses(one.script)) for one in captions]
    played = play(url, quick, Load.parse("closed"), edges=1, captions=len(quick), seed=1)
    return max(0.0, (sum(played.waits_s) - busy_s(service) + began_s) / len(played.waits_s))


def _without_pauses(script: Script) -> Script:
    return tuple(operation for operation in script if not isinstance(operation, Work))


@dataclass(slots=True)
class Played:
    """What came of a run: its captions as a simulation gives them, which were chosen, and the times of all calls;
    ``edges_busy`` is the share of their core that the edges took."""

    found: Simulated = field(default_factory=Simulated)
    chosen: list[int] = field(default_factory=list)
    waits_s: list[float] = field(default_factory=list)
    edges_busy: float = 0.0


def play(
    url: str,
    recorded: Sequence[Caption],
    load: Load,
    *,
    edges: int,
    captions: int,
    seed: int,
    service: psutil.Process | None = None,
) -> Played:
    """Let ``edges`` do ``captions`` captions, the same and at the same times as :func:`simulate` with that seed."""
    playing = _Playing(
        url, recorded, load, edges=edges, captions=captions, seed=seed, service=service
    )
    began_s, began_busy_s = time.perf_counter(), time.process_time()
    asyncio.run(playing.run())
    took_s = time.perf_counter() - began_s
    playing.played.edges_busy = (time.process_time() - began_busy_s) / took_s
    return playing.played


class _Playing:
    def __init__(
        self,
        url: str,
        recorded: Sequence[Caption],
        load: Load,
        *,
        edges: int,
        captions: int,
        seed: int,
        service: psutil.Process | None,
    ) -> None:
        self._address = urlsplit(url)
        self._recorded = recorded
        self._edges, self._captions = edges, captions
        self._arrivals, self._think_s = load.arrivals(edges, seed)
        self._choose = chooser(cast("Any", range(len(recorded))), seed)
        self._queues: list[asyncio.Queue[float | None]] = [asyncio.Queue() for _ in range(edges)]
        self._service = service
        self.played = Played()

    async def run(self) -> None:
        self._began_s = time.perf_counter()
        self._began_busy_s = 0.0 if self._service is None else busy_s(self._service)
        async with asyncio.TaskGroup() as group:
            for number in range(self._edges):
                group.create_task(self._edge(number))
            if self._think_s is not None:
                for _, number in self._arrivals:
                    self._queues[number].put_nowait(0.0)
                return
            for at_s, number in islice(self._arrivals, self._captions):
                await asyncio.sleep(at_s - self._now_s())
                self._queues[number].put_nowait(at_s)
            self._over()

    def _now_s(self) -> float:
        return time.perf_counter() - self._began_s

    def _over(self) -> None:
        for queue in self._queues:
            queue.put_nowait(None)

    async def _edge(self, number: int) -> None:
        reader, writer = await asyncio.open_connection(self._address.hostname, self._address.port)
        last = b""
        with closing(writer):
            while (arrived_s := await self._queues[number].get()) is not None:
                place = cast("int", self._choose(number))
                last = await self._caption(
                    self._recorded[place], partial(exchange, reader, writer), last
                )
                self._ended(arrived_s, place)
                if self._think_s is not None and not self._done:
                    self._queues[number].put_nowait(self._now_s())
            if last:
                await exchange(reader, writer, last)

    @property
    def _done(self) -> bool:
        return len(self.played.chosen) >= self._captions

    def _ended(self, arrived_s: float, place: int) -> None:
        if self._done:
            return
        now_s, played = self._now_s(), self.played
        played.chosen.append(place)
        played.found.latencies_s.append(now_s - arrived_s)
        played.found.ended_s.append(now_s)
        worked_s = 0.0 if self._service is None else busy_s(self._service) - self._began_busy_s
        played.found.busy_s.append(worked_s)
        if self._done and self._think_s is not None:
            self._over()

    async def _caption(self, caption: Caption, ask: Ask, last: bytes) -> bytes:
        """One caption; ``last`` is what closes the session before. Returns what closes this one."""
        session = secrets.token_bytes(_NAME_BYTES)
        calls = iter(caption.calls)
        under_way: asyncio.Task[bytes] | None = None
        for operation in caption.script:
            if isinstance(operation, Work):
                if operation.seconds > 0:
                    await asyncio.sleep(operation.seconds)
            elif isinstance(operation, Send):
                call = next(calls)
                body = last + call.body.replace(caption.session, session)
                last = b""
                under_way = asyncio.create_task(self._asked(ask, body))
            else:
                assert under_way is not None
                messages, rest = wire.unpack_frames(await under_way)
                assert not rest
                assert tokens_of(messages) == call.tokens, "another answer than the recorded one"
        return wire.pack_frames([caption.closing.replace(caption.session, session)])

    async def _asked(self, ask: Ask, body: bytes) -> bytes:
        began_s = time.perf_counter()
        status, answer = await ask(body)
        assert status == 200, (status, answer[:200])
        self.played.waits_s.append(time.perf_counter() - began_s)
        return answer


Ask = Callable[[bytes], Awaitable[tuple[int, bytes]]]


def prepared(folder: Path, *, samples: int, factor: float) -> dict[str, list[Caption]]:
    """Journals and calls, and the captions on an edge that takes ``factor`` times as long as that of ``paper``."""
    os.sched_setaffinity(0, {EDGES_CORE})
    edge = folder / "edge.json"
    paper = profile("paper")
    write_profile(
        edge,
        ProfileFile(
            name="edge",
            source=f"{factor:g} times as long as paper's edge",
            edges={"edge": paper.edge.slower(factor)},
            default_edge="edge",
            cloud=paper.cloud,
            link=LinkCosts(0.0),
        ),
    )
    found = {}
    for name, path in journals(folder, samples).items():
        kept = folder / f"calls-{name}.pickle"
        scripts = policy(path, hardware_profile=str(edge), link="null").scripts
        if not kept.is_file():
            kept.write_bytes(pickle.dumps(recorded(path, scripts)))
        calls = pickle.loads(kept.read_bytes())
        found[name] = [
            replace(one, script=script) for one, script in zip(calls, scripts, strict=True)
        ]
    return found


def predicted(
    condition: Condition,
    captions: Sequence[Caption],
    costs: CloudCosts,
    link: Link,
    *,
    count: int,
    seed: int,
) -> dict[str, Any]:
    """What the fleet's simulation gives (:func:`edgecloud.experiments.fleet.measured`)."""
    arrivals, think_s = Load.parse(condition.load).arrivals(EDGES, seed)
    found = simulate(
        chooser([one.script for one in captions], seed),
        arrivals,
        edges=EDGES,
        captions=count,
        costs=costs,
        link=link,
        think_s=think_s,
        seed=seed,
    )
    return measured(found, OBJECTIVE, 1.0, uses_cloud=True)


def compared(condition: Condition, runs: Sequence[Json], models: Sequence[Json]) -> dict[str, Any]:
    """Medians of the measured and of the predicted figures, and by what part the prediction is off."""
    found: dict[str, Any] = {"condition": condition.name, "runs": len(runs)}
    for name in ("captions_per_s", "p95_s", "p50_s", "utilization", "sessions_per_forward"):
        seen, said = (median(row[name] for row in rows) for rows in (runs, models))
        found[name] = {"measured": seen, "predicted": said, "off": said / seen - 1}
    for name in ("edges_busy", "load_average", "calls", "seconds"):
        found[name] = median(row[name] for row in runs)
    found["within"] = all(abs(found[name]["off"]) <= WITHIN for name in ("captions_per_s", "p95_s"))
    return found


def table(rows: Sequence[Json]) -> str:
    """The comparison as a table."""
    headers = ["condition", "runs", "captions/s", "predicted", "off", "p95 s", "predicted", "off"]
    headers += ["service busy", "predicted", "edges' core busy"]
    return tabulate(
        [
            [
                row["condition"], row["runs"],
                *(f"{row[name][key]:{form}}" for name in ("captions_per_s", "p95_s")
                  for key, form in (("measured", ".3g"), ("predicted", ".3g"), ("off", "+.1%"))),
                f"{row['utilization']['measured']:.0%}", f"{row['utilization']['predicted']:.0%}",
                f"{row['edges_busy']:.0%}",
            ]
            for row in rows
        ],
        headers=headers, tablefmt="github", disable_numparse=True,
    )  # fmt: skip


def run_all(
    url: str,
    service: psutil.Process,
    captions: Mapping[str, Sequence[Caption]],
    conditions: Sequence[Condition],
    *,
    rounds: int,
    count: int,
) -> dict[str, list[Json]]:
    """The measured figures by condition; every round has all of them, each time another one first."""
    runs: dict[str, list[Json]] = {one.name: [] for one in conditions}
    for seed in range(rounds):
        first = seed % len(conditions)
        for one in (*conditions[first:], *conditions[:first]):
            before = shared(url)
            played = play(
                url, captions[one.policy], Load.parse(one.load),
                edges=EDGES, captions=count, seed=seed, service=service,
            )  # fmt: skip
            sessions, forwards = (now - then for now, then in zip(shared(url), before, strict=True))
            row = {
                **measured(played.found, OBJECTIVE, 1.0, uses_cloud=True),
                "sessions_per_forward": sessions / forwards,
                "edges_busy": played.edges_busy,
                "load_average": psutil.getloadavg()[0],
                "calls": len(played.waits_s),
                "seconds": played.found.ended_s[-1],
            }
            runs[one.name].append(row)
            say(f"{seed} {one.name}: {row['captions_per_s']:.2f}/s, p95 {row['p95_s']:.3f} s")
    return runs


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, predict, compare; 1 where a prediction is off by more than a tenth."""
    parser = argparse.ArgumentParser(prog="python -m bench.fleet_real")
    parser.add_argument("-o", "--output", type=Path, default=Path("reports/fleet-real"))
    parser.add_argument("--rounds", type=int, default=3, help="of three runs")
    parser.add_argument("--captions", type=int, default=400, help="requests of a run")
    parser.add_argument("--samples", type=int, default=48, help="recordings")
    parser.add_argument("--edge", type=float, default=0.1, help="times paper's edge")
    parser.add_argument("--load", default="poisson:0.281", help="the third condition's")
    parser.add_argument("--prepare", action="store_true", help="journals and calls alone")
    parser.add_argument("--again", action="store_true", help="keep the runs; predict again")
    given = parser.parse_args(arguments)
    folder: Path = given.output
    captions = prepared(folder, samples=given.samples, factor=given.edge)
    if given.prepare:
        return 0
    kept = folder / "fleet-real.json"
    facts = json.loads(kept.read_text(encoding="utf-8")) if given.again else {}
    costs = (
        read_profile(folder / "cloud.json").cloud
        if given.again
        else batch_costs(folder / "cloud.json")
    )
    assert costs is not None
    if not given.again:
        with serving() as (service, url):
            facts["round_trip_s"] = round_trip_s(service, url, captions["cloud"])
            facts["measured"] = run_all(
                url,
                service,
                captions,
                [
                    *(Condition(name, "closed") for name in captions),
                    Condition("frontier", given.load),
                ],
                rounds=given.rounds,
                count=given.captions,
            )
    between_s = facts["round_trip_s"]
    link = Link("loopback", LinkCosts(between_s))
    first = {name: facts["measured"][f"{name}, closed"][0] for name in captions}
    busy = {name: row["busy_s_per_caption"] for name, row in first.items()}
    costs = with_service(costs, link, captions, busy, count=given.captions)
    rows, models = [], {}
    for name, runs in facts["measured"].items():
        one = Condition(*name.split(", "))
        models[name] = [
            predicted(one, captions[one.policy], costs, link, count=given.captions, seed=seed)
            for seed in range(len(runs))
        ]
        rows.append(compared(one, runs, models[name]))
    facts = {
        **facts,
        "edges": EDGES,
        "captions": given.captions,
        "edge_factor": given.edge,
        "costs": asdict(costs),
        "round_trip_s": between_s,
        "compared": rows,
        "predicted": models,
    }
    kept.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{table(rows)}\n")
    return 0 if all(row["within"] for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
