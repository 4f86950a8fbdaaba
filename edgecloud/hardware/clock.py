"""Time: measured, or computed from a hardware profile.

In modelled time the tokens come from really running the models, and the time from the profile. Edge,
link and cloud are resources with times of their own: a message leaves when the edge sends it, the
cloud starts when it has both the message and its hands free, the edge goes on when the answer is
there. It is exact and repeatable.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from torch import Tensor

from edgecloud.contracts import (
    Acceptance,
    CloudChunk,
    CloudCost,
    CloudModel,
    CloudSession,
    Model,
    Prompt,
    StopLimits,
    Verdict,
)
from edgecloud.errors import CloudTimeout
from edgecloud.hardware.link import Link, LinkTimes
from edgecloud.hardware.profiles import EdgeCosts, HardwareProfile

__all__ = ["ModelledClock", "TimedCloud", "TimedModel", "WallClock"]


class WallClock:
    """``time.perf_counter``."""

    name = "wall"

    def now(self) -> float:
        return time.perf_counter()


class ModelledClock:
    """Discrete-event time. ``now`` is the edge's; ``cloud_free_s`` is when the cloud is free again."""

    name = "modelled"

    def __init__(self) -> None:
        self._edge_s = 0.0
        self.cloud_free_s = 0.0

    def now(self) -> float:
        return self._edge_s

    def spend(self, seconds: float) -> None:
        """The edge is busy for ``seconds``."""
        self._edge_s += seconds

    def wait_until(self, at_s: float) -> None:
        """The edge waits; a time that has passed costs nothing."""
        self._edge_s = max(self._edge_s, at_s)

    def restart(self) -> None:
        """Back to second 0, everything free: each request is timed from the same state, so that a
        resumed run adds up the very same numbers as an unbroken one."""
        self._edge_s = self.cloud_free_s = 0.0


class TimedModel:
    """An edge model whose every forward takes the profile's time."""

    def __init__(self, model: Model, clock: ModelledClock, costs: EdgeCosts) -> None:
        self._model = model
        self._clock = clock
        self._costs = costs

    @property
    def vocab_size(self) -> int:
        return self._model.vocab_size

    @property
    def length(self) -> int:
        return self._model.length

    @property
    def cache_bytes(self) -> int:
        return self._model.cache_bytes

    def prefill(self, prompt: Prompt) -> Tensor:
        self._clock.spend(self._costs.prefill(prompt.length))
        return self._model.prefill(prompt)

    def extend(self, tokens: Sequence[int]) -> Tensor:
        self._clock.spend(self._costs.extend(len(tokens)))
        return self._model.extend(tokens)

    def rewind(self, length: int) -> None:
        self._model.rewind(length)

    def fresh(self) -> TimedModel:
        return TimedModel(self._model.fresh(), self._clock, self._costs)


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

    def open(self, prompt: Prompt) -> CloudSession:
        # The link's chances are the sample's own, whatever was captioned before it.
        content = hashlib.blake2b(repr(prompt.token_ids).encode(), digest_size=8)
        if prompt.features is not None:
            content.update(prompt.features.tobytes())
        times = LinkTimes(self._link, f"{self._seed}/{content.hexdigest()}")
        return _TimedSession(
            self._cloud.open(prompt), self._clock, self._hardware, times, self._deadline_s
        )


class _TimedSession:
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

    def verify(
        self, committed: Sequence[int], draft: Sequence[int], acceptance: Acceptance
    ) -> Verdict:
        sent_s = self._clock.now()
        verdict = self._session.verify(committed, draft, acceptance)
        cost = self._busy(verdict.cost, self._hardware.cloud.verify_s)
        done_s = self._run(self._link.arrival("up", sent_s, cost.bytes_up), cost.busy_s)
        self._wait(self._link.arrival("down", done_s, cost.bytes_down))
        return replace(verdict, cost=cost)

    def generate(self, committed: Sequence[int], limits: StopLimits) -> Iterator[CloudChunk]:
        ready_s = self._clock.now()
        first = True
        for chunk in self._session.generate(committed, limits):
            # A prefill's logits give the first token for nothing; every other one is a step.
            step_s = 0.0 if chunk.cost.prefill_tokens else self._hardware.cloud.step_s
            cost = self._busy(chunk.cost, step_s)
            if first:
                ready_s = self._link.arrival("up", ready_s, cost.bytes_up)
            ready_s = self._run(ready_s, cost.busy_s)
            self._wait(self._link.arrival("down", ready_s, cost.bytes_down))
            first = False
            yield replace(chunk, cost=cost)

    def close(self) -> None:
        self._session.close()

    def _busy(self, cost: CloudCost, work_s: float) -> CloudCost:
        prefill_s = self._hardware.cloud.prefill_s if cost.prefill_tokens else 0.0
        return replace(cost, busy_s=prefill_s + work_s)

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
