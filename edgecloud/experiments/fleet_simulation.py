"""Many edges on one cloud, by discrete events: links, queues, and a cloud that batches continuously.

A caption is a list of operations: the edge works, sends a call, waits for its answer. The cloud has two queues, as
:class:`edgecloud.cloud.engine.engine.Engine` has: of prompts to be prefilled, and of sessions that wait for a forward,
of which at most ``max_batch`` share the next one and then go to the end. Where both queues are at work each has half
of the cloud. That needs events that are taken back when something else changes the speed, so they are in a heap of
their own.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from edgecloud.hardware.costs import CloudCosts
from edgecloud.hardware.link import Link, LinkTimes

__all__ = [
    "Arrivals",
    "Call",
    "Join",
    "Operation",
    "Script",
    "Send",
    "Simulated",
    "Work",
    "chooser",
    "closed",
    "poisson",
    "simulate",
]


@dataclass(frozen=True, slots=True)
class Call:
    """A request to the cloud: bytes each way, tokens to prefill (0: the session has its prompt), tokens of the
    forward that verifies (0: none), steps of its own after that, and tokens that are sent as soon as they are there."""

    bytes_up: int = 0
    bytes_down: int = 0
    prefill_tokens: int = 0
    verify_tokens: int = 0
    steps: int = 0
    streamed: int = 0


@dataclass(frozen=True, slots=True)
class Work:
    """The edge works for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Send:
    """The edge sends a call and goes on."""

    call: Call


@dataclass(frozen=True, slots=True)
class Join:
    """The edge waits until every call it sent is answered."""


Operation = Work | Send | Join
Script = tuple[Operation, ...]
"""One caption."""

Arrivals = Iterator[tuple[float, int]]
"""Captions as they come: second, and edge; seconds never fall."""


@dataclass(slots=True)
class Simulated:
    """Captions in the order of their ends: ``latencies_s`` from arrival to end, ``ended_s``; ``busy_s`` seconds in
    which the cloud worked until then, one for each; ``batches``: forwards by their number of sessions."""

    latencies_s: list[float] = field(default_factory=list)
    ended_s: list[float] = field(default_factory=list)
    busy_s: list[float] = field(default_factory=list)
    batches: dict[int, int] = field(default_factory=dict)


class _Job:
    """A call on the cloud, and what of it is left."""

    __slots__ = ("call", "edge", "fresh", "steps", "verify")

    def __init__(self, call: Call, edge: int) -> None:
        self.call = call
        self.edge = edge
        self.verify = call.verify_tokens
        self.steps = call.steps
        self.fresh = True


class _Cloud:
    """The cloud's two queues and what is under way, at half speed each while both are."""

    def __init__(self, costs: CloudCosts, max_batch: int, counted: dict[int, int]) -> None:
        self._costs = costs
        self._most = max_batch
        self._counted = counted
        self._since_s = 0.0
        self._prompts: deque[_Job] = deque()
        self._waiting: deque[_Job] = deque()
        self._prefilling: list[_Job] = []
        self._extending: list[_Job] = []
        self._prefill_left_s = self._extend_left_s = 0.0
        self.busy_s = 0.0
        batch = costs.batch
        self._step_s = [0.0] + [
            costs.step_s * batch.step_factor(n) for n in range(1, max_batch + 1)
        ]
        self._verify = [0.0] + [batch.verify_factor(n) for n in range(1, max_batch + 1)]
        shares = (n for n in range(max_batch, 0, -1) if batch.prefill_factor(n) < 0.999 * n)
        self._prefills_at_once = next(shares, 1)

    def take(self, job: _Job, now_s: float) -> None:
        """A call has arrived."""
        self.advance(now_s)
        (self._prompts if job.call.prefill_tokens else self._waiting).append(job)

    def advance(self, now_s: float) -> None:
        """Let what is under way go on until now."""
        passed_s = now_s - self._since_s
        self._since_s = now_s
        if self._prefilling or self._extending:
            self.busy_s += passed_s
            if self._prefilling and self._extending:
                passed_s /= 2
            self._prefill_left_s -= passed_s
            self._extend_left_s -= passed_s

    def ended(self) -> list[_Job]:
        """Calls that are done now; the others of their forward wait for the next one."""
        done: list[_Job] = []
        # Seconds are sums: what is left is 0 up to the rounding of the second that it is now.
        nothing_s = 8 * math.ulp(self._since_s + 1.0)
        if self._prefilling and self._prefill_left_s <= nothing_s:
            for job in self._prefilling:
                (self._waiting if job.verify or job.steps else done).append(job)
            self._prefilling = []
        if self._extending and self._extend_left_s <= nothing_s:
            waiting = self._waiting
            for job in self._extending:
                if job.verify:
                    job.verify = 0
                else:
                    job.steps -= 1
                if job.steps:
                    waiting.append(job)
                else:
                    done.append(job)
            self._extending = []
        return done

    def next_s(self) -> float | None:
        """Begin what can begin; the second at which something ends if nothing else happens."""
        if not self._prefilling and self._prompts:
            self._begin_prefill()
        if not self._extending and self._waiting:
            self._begin_extension()
        if self._prefilling and self._extending:
            return self._since_s + 2 * min(self._prefill_left_s, self._extend_left_s)
        if self._prefilling:
            return self._since_s + self._prefill_left_s
        return self._since_s + self._extend_left_s if self._extending else None

    def _begin_prefill(self) -> None:
        count = min(len(self._prompts), self._prefills_at_once)
        jobs = self._prefilling = [self._prompts.popleft() for _ in range(count)]
        alone_s = sum(self._costs.prefill(job.call.prefill_tokens) for job in jobs) / count
        self._prefill_left_s = alone_s * self._costs.batch.prefill_factor(count)
        self._prefill_left_s += self._host_s(jobs, sum(j.call.streamed > j.steps for j in jobs))

    def _begin_extension(self) -> None:
        """The forward of the first in the queue: each counts its part of what a forward of its like takes."""
        count = min(len(self._waiting), self._most)
        pop = self._waiting.popleft
        jobs = self._extending = [pop() for _ in range(count)]
        self._counted[count] = self._counted.get(count, 0) + 1
        verifying = [job.verify for job in jobs if job.verify]
        sent = sum(job.call.streamed > 0 and not job.verify for job in jobs)
        host_s, step_s = self._host_s(jobs, sent), self._step_s[count]
        if not verifying:
            self._extend_left_s = step_s + host_s
            return
        verify_s = sum(map(self._costs.verify, verifying)) * self._verify[count]
        self._extend_left_s = (verify_s + (count - len(verifying)) * step_s) / count + host_s

    def _host_s(self, jobs: Sequence[_Job], sent: int) -> float:
        """What the host has to do beside their forward: for requests of which this is the first, and for the tokens
        ``sent`` as soon as they are there."""
        batch = self._costs.batch
        fresh = sum(job.fresh for job in jobs)
        for job in jobs:
            job.fresh = False
        return fresh * batch.request_s + sent * batch.token_s


def closed(edges: int, think_s: float = 0.0) -> tuple[Arrivals, float]:
    """Every edge has a caption at once, and the next one ``think_s`` after the end of the last."""
    return iter([(0.0, edge) for edge in range(edges)]), think_s


def simulate(
    choose: Callable[[int], Script],
    arrivals: Arrivals,
    *,
    edges: int,
    captions: int,
    costs: CloudCosts,
    link: Link,
    max_batch: int = 16,
    think_s: float | None = None,
    seed: int = 0,
) -> Simulated:
    """Run until ``captions`` have ended, or all that arrive. ``choose`` gives the caption of an edge; an edge does
    one after the other. With ``think_s`` it begins the next so long after the last one's end (a closed loop).

    The same arguments give the same outcome: ``seed`` is of the links' chances.
    """
    found = Simulated()
    cloud = _Cloud(costs, max_batch, found.batches)
    heap: list[tuple[float, int, int, Any]] = []
    count = version = 0
    queues: list[deque[float]] = [deque() for _ in range(edges)]
    scripts: list[Script | None] = [None] * edges
    places, answers, began = [0] * edges, [0] * edges, [0.0] * edges
    waiting = [False] * edges
    up, down = _delays(link, seed)

    def push(at_s: float, kind: int, what: Any) -> None:
        nonlocal count
        count += 1
        heapq.heappush(heap, (at_s, count, kind, what))

    def arrive() -> None:
        following = next(arrivals, None)
        if following is not None:
            push(following[0], _ARRIVES, following[1])

    def begin(edge: int, now_s: float) -> None:
        began[edge] = queues[edge].popleft()
        scripts[edge], places[edge] = choose(edge), 0
        go_on(edge, now_s)

    def go_on(edge: int, now_s: float) -> None:
        script = scripts[edge]
        assert script is not None
        while places[edge] < len(script):
            operation = script[places[edge]]
            places[edge] += 1
            if isinstance(operation, Work):
                if operation.seconds > 0:
                    push(now_s + operation.seconds, _GOES_ON, edge)
                    return
            elif isinstance(operation, Send):
                answers[edge] += 1
                call = operation.call
                push(up(edge, now_s, call.bytes_up), _ASKED, _Job(call, edge))
            elif answers[edge]:
                waiting[edge] = True
                return
        if answers[
            edge
        ]:  # a prefill that nobody waited for: the caption ends, its answer means nothing
            answers[edge] = 0
        scripts[edge] = None
        found.latencies_s.append(now_s - began[edge])
        found.ended_s.append(now_s)
        cloud.advance(now_s)
        found.busy_s.append(cloud.busy_s)
        if think_s is not None:
            push(now_s + think_s, _ARRIVES, edge)
        if queues[edge]:
            begin(edge, now_s)

    def plan() -> None:
        nonlocal version
        version += 1
        at_s = cloud.next_s()
        if at_s is not None:
            push(at_s, _CLOUD, version)

    if think_s is None:
        arrive()
    else:
        for at_s, edge in arrivals:
            push(at_s, _ARRIVES, edge)
    while heap and len(found.ended_s) < captions:
        now_s, _, kind, what = heapq.heappop(heap)
        if kind == _CLOUD:
            if what == version:
                cloud.advance(now_s)
                for job in cloud.ended():
                    push(down(job.edge, now_s, job.call.bytes_down), _ANSWERED, job)
                plan()
        elif kind == _ASKED:
            cloud.take(what, now_s)
            plan()
        elif kind == _GOES_ON:
            go_on(what, now_s)
        elif kind == _ANSWERED:
            edge = what.edge
            if answers[edge]:
                answers[edge] -= 1
                if waiting[edge] and not answers[edge]:
                    waiting[edge] = False
                    go_on(edge, now_s)
        else:
            queues[what].append(now_s)
            if scripts[what] is None:
                begin(what, now_s)
            if think_s is None:
                arrive()
    return found


_ARRIVES, _GOES_ON, _ASKED, _ANSWERED, _CLOUD = range(5)
_Delay = Callable[[int, float, int], float]


def _delays(link: Link, seed: int) -> tuple[_Delay, _Delay]:
    """When a message of an edge, sent then and of so many bytes, arrives: at the cloud, and at the edge."""
    if not (link.by_chance or link.trace or link.outages):
        up, down = link.costs.up, link.costs.down
        return (
            lambda _, sent_s, size: sent_s + up(size),
            lambda _, sent_s, size: sent_s + down(size),
        )
    times: dict[int, LinkTimes] = {}

    def of(edge: int) -> LinkTimes:
        if edge not in times:
            times[edge] = LinkTimes(link, f"{seed}/{edge}")
        return times[edge]

    return (
        lambda edge, sent_s, size: of(edge).arrival("up", sent_s, size),
        lambda edge, sent_s, size: of(edge).arrival("down", sent_s, size),
    )


def poisson(rate: float, edges: int, seed: int) -> Arrivals:
    """Captions at random, ``rate`` a second at each of so many edges."""
    random = Random(f"{seed}/arrivals")
    at_s = 0.0
    while True:
        at_s += random.expovariate(rate * edges)
        yield at_s, random.randrange(edges)


def chooser(scripts: Sequence[Script], seed: int) -> Callable[[int], Script]:
    """Each edge's captions: drawn from ``scripts`` by a generator of its own."""
    randoms: dict[int, Random] = {}

    def choose(edge: int) -> Script:
        if edge not in randoms:
            randoms[edge] = Random(f"{seed}/captions/{edge}")
        return scripts[randoms[edge].randrange(len(scripts))]

    return choose
