"""Many sessions on one model: whoever waits for a forward at the same time shares it.

One thread owns the model. Each request is a generator that says which forward it needs next
(:data:`edgecloud.cloud.local.Steps`); at each turn the thread takes what has come in, runs one forward
for all who wait, and hands every request its own logits. A request joins and leaves between any two
turns, so nobody waits for another's end (iteration-level scheduling, Yu et al. 2022, "Orca").
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Protocol

from torch import Tensor

from edgecloud.cloud.local import Forward, Steps, alone, timed
from edgecloud.contracts import CloudChunk, Model, Verdict
from edgecloud.errors import CloudUnavailable, EdgeCloudError

__all__ = ["Engine", "Outcome", "Runner", "Threads", "extend_each"]

Outcome = CloudChunk | Verdict | EdgeCloudError
"""What a request gives: chunks, the last one marked; or one verdict; or what went wrong."""


class Runner(Protocol):
    """Runs the requests of a service."""

    @property
    def alive(self) -> bool: ...

    @property
    def waiting(self) -> int:
        """Requests that have come in and are not finished."""
        ...

    def ready(self) -> bool:
        """Whether a request now would be answered; finding out may take a moment."""
        ...

    def submit(self, steps: Steps, deliver: Callable[[Outcome], None]) -> None:
        """Run ``steps``; ``deliver`` is called with each outcome, on a thread of the runner's.

        Raises:
            CloudUnavailable: it is closed.
        """
        ...

    def close(self, timeout_s: float = 10.0) -> None:
        """Take no more; what is unfinished is answered with CloudUnavailable."""
        ...


ExtendMany = Callable[[Sequence[Model], Sequence[Sequence[int]]], list[Tensor]]


def extend_each(models: Sequence[Model], tokens: Sequence[Sequence[int]]) -> list[Tensor]:
    """:func:`edgecloud.models.audio_lm.extend_many` for any model: one forward after the other."""
    return [model.extend(new) for model, new in zip(models, tokens, strict=True)]


@dataclass(slots=True)
class _Request:
    """A request under way. ``busy_s`` is its share of the cloud's time since its last answer."""

    steps: Steps
    deliver: Callable[[Outcome], None]
    wants: Forward | None = None
    busy_s: float = 0.0


class Engine:
    """Runs requests until closed.

    ``max_batch`` bounds how many share a forward; ``window_s`` is how long a lone request waits for
    company (0: not at all). ``on_batch`` is told the size of each batch, on the engine's thread.
    """

    def __init__(
        self,
        extend_many: ExtendMany = extend_each,
        *,
        max_batch: int = 16,
        window_s: float = 0.0,
        on_batch: Callable[[int], None] | None = None,
    ) -> None:
        self._extend_many = extend_many
        self._max_batch = max_batch
        self._window_s = window_s
        self._on_batch = on_batch
        self._arrived: SimpleQueue[_Request | None] = SimpleQueue()
        self._active: list[_Request] = []
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="edgecloud-engine", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive() and not self._closing

    @property
    def waiting(self) -> int:
        """Requests that have come in and are not finished."""
        return self._arrived.qsize() + len(self._active)

    def ready(self) -> bool:
        return self.alive

    def submit(self, steps: Steps, deliver: Callable[[Outcome], None]) -> None:
        """Run ``steps``; ``deliver`` is called on the engine's thread with each outcome.

        Raises:
            CloudUnavailable: the engine is closed.
        """
        if not self.alive:
            raise CloudUnavailable("the verifier is shutting down")
        self._arrived.put(_Request(steps, deliver))

    def close(self, timeout_s: float = 10.0) -> None:
        """Stop after the turn under way; what is unfinished is answered with CloudUnavailable."""
        self._closing = True
        self._arrived.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            while not self._closing:
                self._admit()
                self._turn()
        finally:
            # Also when a fault of ours ends the thread: nobody may be left waiting.
            self._closing = True
            while not self._arrived.empty():
                if (request := self._arrived.get()) is not None:
                    self._active.append(request)
            for request in self._active:
                request.deliver(CloudUnavailable("the verifier is shutting down"))
            self._active.clear()

    def _admit(self) -> None:
        """Take in what has arrived; wait for it only when there is nothing else to do."""
        if not self._active:
            self._take(self._arrived.get())
            if self._window_s and self._arrived.empty():
                time.sleep(self._window_s)
        while len(self._active) < self._max_batch:
            try:
                self._take(self._arrived.get_nowait())
            except Empty:
                return

    def _take(self, request: _Request | None) -> None:
        if request is not None:
            self._active.append(request)
            self._resume(request, None)

    def _turn(self) -> None:
        """One prefill, and one forward shared by all who wait for an extension."""
        prefilling = [r for r in self._active if r.wants is not None and r.wants.prompt is not None]
        extending = [r for r in self._active if r.wants is not None and r.wants.prompt is None]
        if prefilling:
            self._alone(prefilling[0])
        if extending:
            self._extend(extending)

    def _extend(self, requests: list[_Request]) -> None:
        wants = [request.wants for request in requests if request.wants is not None]
        if self._on_batch is not None:
            self._on_batch(len(wants))
        began = time.perf_counter()
        try:
            found = self._extend_many(
                [want.model for want in wants], [want.tokens for want in wants]
            )
        except EdgeCloudError:
            # One of them is at fault, or all together are too large: each answers for itself.
            for request in requests:
                self._alone(request)
            return
        share_s = (time.perf_counter() - began) / len(wants)
        for request, logits in zip(requests, found, strict=True):
            request.busy_s += share_s
            self._resume(request, logits)

    def _alone(self, request: _Request) -> None:
        if request.wants is None:
            return
        began = time.perf_counter()
        try:
            logits = request.wants.run()
        except EdgeCloudError as error:
            self._end(request, error)
            return
        request.busy_s += time.perf_counter() - began
        self._resume(request, logits)

    def _resume(self, request: _Request, logits: Tensor | None) -> None:
        """Let a request go on to its next forward, handing out what it gives on the way."""
        while True:
            began = time.perf_counter()
            try:
                step = request.steps.send(logits)
            except StopIteration as end:
                request.busy_s += time.perf_counter() - began
                self._end(request, end.value and timed(end.value, request.busy_s))
                return
            except EdgeCloudError as error:
                self._end(request, error)
                return
            request.busy_s += time.perf_counter() - began
            if isinstance(step, Forward):
                request.wants = step
                return
            request.deliver(timed(step, request.busy_s))
            request.busy_s = 0.0
            logits = None

    def _end(self, request: _Request, outcome: Outcome | None) -> None:
        request.wants = None
        self._active.remove(request)
        if outcome is not None:
            request.deliver(outcome)


class Threads:
    """A :class:`Runner` for requests that wait for a model elsewhere, each on a thread of its own: there
    is nothing here that they could share.

    ``healthy`` asks whether the model is there; ``stop`` lets it be asked no more.
    """

    def __init__(self, healthy: Callable[[], bool], stop: Callable[[], None]) -> None:
        self._healthy = healthy
        self._stop = stop
        self._running: set[threading.Thread] = set()
        self._lock = threading.Lock()
        self._closing = False

    @property
    def alive(self) -> bool:
        return not self._closing

    @property
    def waiting(self) -> int:
        return len(self._running)

    def ready(self) -> bool:
        return self.alive and self._healthy()

    def submit(self, steps: Steps, deliver: Callable[[Outcome], None]) -> None:
        thread = threading.Thread(
            target=self._run, args=(steps, deliver), name="edgecloud-request", daemon=True
        )
        with self._lock:
            if self._closing:
                raise CloudUnavailable("the verifier is shutting down")
            self._running.add(thread)
        thread.start()

    def close(self, timeout_s: float = 10.0) -> None:
        with self._lock:
            self._closing = True
            left = list(self._running)
        self._stop()
        until_s = time.monotonic() + timeout_s
        for thread in left:
            thread.join(max(0.0, until_s - time.monotonic()))

    def _run(self, steps: Steps, deliver: Callable[[Outcome], None]) -> None:
        ended: Outcome | None = CloudUnavailable("the verifier failed at this request")
        try:
            for outcome in alone(steps):
                deliver(outcome)
            ended = None
        except EdgeCloudError as error:
            ended = error
        finally:
            # Also when a fault of ours ends the thread: nobody may be left waiting.
            if ended is not None:
                deliver(ended)
            with self._lock:
                self._running.discard(threading.current_thread())
