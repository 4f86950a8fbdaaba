"""Time: measured, or computed from a hardware profile.

In modelled time the tokens come from really running the models, and the time from the profile. Edge,
link and cloud are resources with timelines of their own: a message leaves when the edge sends it, the
cloud starts when it has both the message and its hands free, and what the edge does meanwhile
overlaps. It is exact and repeatable.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from edgecloud.contracts import (
    Acceptance,
    CloudChunk,
    CloudCost,
    CloudModel,
    CloudSession,
    Drafted,
    EdgeModel,
    Pending,
    Prompt,
    StopLimits,
    Verdict,
)
from edgecloud.contracts.sampling import GREEDY, Distribution, Sampling
from edgecloud.errors import CloudTimeout
from edgecloud.hardware.link import Link, LinkTimes
from edgecloud.hardware.profiles import EdgeCosts, HardwareProfile

__all__ = ["ModelledClock", "TimedCloud", "TimedEdge", "WallClock"]


T = TypeVar("T")
Answer = TypeVar("Answer", CloudChunk, Verdict)


class WallClock:
    """``time.perf_counter``."""

    name = "wall"

    def now(self) -> float:
        """Seconds of ``time.perf_counter``."""
        return time.perf_counter()

    def beside(self, work: Callable[[], T]) -> Pending[T]:
        """Run ``work`` on a thread of its own from now on."""
        pool = ThreadPoolExecutor(1, thread_name_prefix="edgecloud-beside")
        under_way = pool.submit(work)
        pool.shutdown(wait=False)
        return Pending(under_way.result, under_way.done)


class ModelledClock:
    """Discrete-event time with a timeline for each resource: ``now`` is where the caption's logic is,
    ``edge_free_s`` and ``cloud_free_s`` are when the models have their hands free again; the link's is
    in :class:`edgecloud.hardware.link.LinkTimes`."""

    name = "modelled"

    def __init__(self) -> None:
        self._now_s = 0.0
        self.edge_free_s = 0.0
        self.cloud_free_s = 0.0

    def now(self) -> float:
        """Modelled seconds since the clock was made."""
        return self._now_s

    def spend(self, seconds: float) -> None:
        """Let the edge's model work for ``seconds`` as soon as it is free, and wait for it."""
        self.edge_free_s = max(self.edge_free_s, self._now_s) + seconds
        self._now_s = self.edge_free_s

    def wait_until(self, at_s: float) -> None:
        """Wait; a time that has passed costs nothing."""
        self._now_s = max(self._now_s, at_s)

    def beside(self, work: Callable[[], T]) -> Pending[T]:
        """Run ``work`` at once and take its modelled time back: it is waited for when its result is."""
        began_s = self._now_s
        try:
            found = work()
        finally:
            done_s, self._now_s = self._now_s, began_s

        def result() -> T:
            self.wait_until(done_s)
            return found

        return Pending(result, lambda: self._now_s >= done_s)

    def restart(self) -> None:
        """Back to second 0, everything free: each request is timed from the same state, so that a
        resumed run adds up the very same numbers as an unbroken one."""
        self._now_s = self.edge_free_s = self.cloud_free_s = 0.0


class TimedEdge:
    """An edge whose every forward takes the profile's time. ``reads`` says in how many tokens of its own the
    edge reads given ones: in as many, where its vocabulary is the cloud's."""

    def __init__(
        self,
        edge: EdgeModel,
        clock: ModelledClock,
        costs: EdgeCosts,
        *,
        reads: Callable[[Sequence[int]], int] = len,
    ) -> None:
        self._edge = edge
        self._clock = clock
        self._costs = costs
        self._reads = reads

    def prefill(self, prompt: Prompt) -> None:
        """As the edge; takes the profile's time for a prompt of its length."""
        self._clock.spend(self._costs.prefill((prompt.edge or prompt).length))
        self._edge.prefill(prompt)

    def extend(self, tokens: Sequence[int]) -> None:
        """As the edge; takes the profile's time for so many tokens."""
        self._clock.spend(self._costs.extend(self._reads(tokens)))
        self._edge.extend(tokens)

    def rollback(self, length: int) -> None:
        """As the edge; takes no time."""
        self._edge.rollback(length)

    def choose(self, output: Sequence[int]) -> int:
        """As the edge; takes no time."""
        return self._edge.choose(output)

    def draft(self, output: Sequence[int]) -> Drafted:
        """As the edge; takes no time."""
        return self._edge.draft(output)


class TimedCloud:
    """A cloud whose answers arrive when link and cloud of the profile would deliver them."""

    def __init__(
        self,
        cloud: CloudModel,
        clock: ModelledClock,
        hardware: HardwareProfile,
        *,
        link: Link | None = None,
        seed: int = 0,
        deadline_s: float = math.inf,
    ) -> None:
        self._cloud = cloud
        self._clock = clock
        self._hardware = hardware
        self._link = link or Link("the profile's", hardware.link)
        self._seed = seed
        self._deadline_s = deadline_s

    def open(self, prompt: Prompt, sampling: Sampling = GREEDY) -> CloudSession:
        """A session whose link has disturbances of its own, drawn from the seed and the prompt's content."""
        # The link's chances are the sample's own, whatever was decoded before it.
        times = LinkTimes(self._link, f"{self._seed}/{prompt.digest()}")
        return _TimedSession(
            self._cloud.open(prompt, sampling),
            self._clock,
            self._hardware,
            times,
            self._deadline_s,
        )


class _TimedSession(CloudSession):
    """The tokens are computed when a request is made; its answer is there when link and cloud would
    have brought it."""

    def __init__(
        self,
        session: CloudSession,
        clock: ModelledClock,
        hardware: HardwareProfile,
        link: LinkTimes,
        deadline_s: float,
    ) -> None:
        self._session = session
        self._clock = clock
        self._hardware = hardware
        self._link = link
        self._left_s = deadline_s

    def start(self, count: int) -> Pending[CloudChunk]:
        chunk = self._session.start(count).result()
        # A prefill's logits give the first token for nothing.
        cost = self._busy(chunk.cost, max(0, count - 1) * self._hardware.cloud.step_s)
        return self._answer(replace(chunk, cost=cost), cost)

    def submit(
        self,
        committed: Sequence[int],
        draft: Sequence[int],
        acceptance: Acceptance,
        continuation: int = 0,
        draft_probabilities: Sequence[Distribution] = (),
    ) -> Pending[Verdict]:
        verdict = self._session.verify(
            committed, draft, acceptance, continuation, draft_probabilities
        )
        costs = self._hardware.cloud
        scored = verdict.cost.ingested_tokens + verdict.cost.verified_tokens
        verify_s = costs.verify(max(1, scored))
        cost = self._busy(verdict.cost, verify_s + len(verdict.continuation) * costs.step_s)
        return self._answer(replace(verdict, cost=cost), cost)

    def generate(self, committed: Sequence[int], limits: StopLimits) -> Iterator[CloudChunk]:
        ready_s = self._clock.now()
        first = True
        for chunk in self._session.generate(committed, limits):
            cost = self._busy(chunk.cost, self._written_s(chunk.cost))
            if first:
                ready_s = self._link.arrival("up", ready_s, cost.bytes_up)
            ready_s = self._run(ready_s, cost.busy_s)
            self._wait(self._link.arrival("down", ready_s, cost.bytes_down))
            first = False
            yield replace(chunk, cost=cost)

    def close(self) -> None:
        self._session.close()

    def _written_s(self, cost: CloudCost) -> float:
        """Seconds that the cloud writes for a chunk: a step, which a prefill's logits make needless; or the
        drafting of its own draft, and the verification."""
        costs, drafted, first = self._hardware.cloud, cost.verified_tokens, cost.prefill_tokens > 0
        if drafted:
            scored = costs.verify(cost.ingested_tokens + drafted)
            return costs.drafted(drafted, prefill=first) + scored
        return 0.0 if first else costs.step_s

    def _busy(self, cost: CloudCost, work_s: float) -> CloudCost:
        tokens = cost.prefill_tokens
        prefill_s = self._hardware.cloud.prefill(tokens) if tokens else 0.0
        return replace(cost, busy_s=prefill_s + work_s)

    def _answer(self, answer: Answer, cost: CloudCost) -> Pending[Answer]:
        """The answer to a request made now."""
        arrived_s = self._link.arrival("up", self._clock.now(), cost.bytes_up)
        done_s = self._run(arrived_s, cost.busy_s)
        there_s = self._link.arrival("down", done_s, cost.bytes_down)

        def result() -> Answer:
            self._wait(there_s)
            return answer

        return Pending(result, lambda: self._clock.now() >= there_s)

    def _wait(self, until_s: float) -> None:
        """The edge waits for an answer, as long as the session's deadline lets it.

        Raises:
            CloudTimeout: it would have waited longer; it has waited that long.
        """
        began_s = self._clock.now()
        self._clock.wait_until(min(until_s, began_s + self._left_s))
        if until_s > began_s + self._left_s:
            raise CloudTimeout("the cloud did not answer in time; raise --deadline")
        self._left_s -= self._clock.now() - began_s

    def _run(self, arrived_s: float, busy_s: float) -> float:
        """The cloud works on what arrived; returns when it is done."""
        self._clock.cloud_free_s = max(self._clock.cloud_free_s, arrived_s) + busy_s
        return self._clock.cloud_free_s
