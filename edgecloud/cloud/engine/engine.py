"""The engine: requests of many sessions on one model, with forwards shared by those that wait for one.

One thread owns the model. Each request is a generator that says which forward it needs next
(:data:`edgecloud.cloud.engine.local.Steps`); at each turn the thread takes what has come in, runs one forward
for all who wait, and hands every request its own logits. A request joins and leaves between any two
turns, so nobody waits for another's end (iteration-level scheduling, Yu et al. 2022, "Orca"). What all see
of their drafts comes to the host together. Prompts are prefilled on a second thread where the model allows
it: one prompt is the work of many extensions, and those who only extend need not wait for it. On a
processor the two threads then share the cores instead of both using all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from edgecloud.cloud.engine.boundary import contained
from edgecloud.cloud.engine.local import DraftScoring, Forward, Given, Pause, Steps, timed
from edgecloud.contracts import CloudChunk, Model, Verdict
from edgecloud.decoding.draft_scores import DraftScores, score_drafts
from edgecloud.errors import CloudTimeout, CloudUnavailable, EdgeCloudError

__all__ = ["UNWANTED", "Engine", "Outcome", "Runner", "extend_each"]

Outcome = CloudChunk | Verdict | EdgeCloudError
"""An answer of a request: chunks, the last one marked; or one verdict; or an error."""


class Runner(Protocol):
    """Runs the requests of a service."""

    @property
    def alive(self) -> bool:
        """True when it takes requests."""
        ...

    @property
    def ended(self) -> bool:
        """True when it is over for good: no request will ever be answered again."""
        ...

    @property
    def waiting(self) -> int:
        """Requests that have come in and are not finished."""
        ...

    def ready(self) -> bool:
        """True when a request now would be answered; finding out may take a moment."""
        ...

    def submit(
        self, steps: Steps, deliver: Callable[[Outcome], None], *, client: str = ""
    ) -> Callable[[], None]:
        """Run ``steps`` for ``client``; ``deliver`` is called with each outcome, on a thread of the
        runner's.

        Returns what to call, from any thread, when nobody waits for them any longer: the request ends
        after at most one more turn, with :data:`UNWANTED`.

        Raises:
            CloudUnavailable: it is closed.
        """
        ...

    def close(self, timeout_s: float = 10.0) -> None:
        """Accept no more requests; unfinished ones are answered with CloudUnavailable."""
        ...


UNWANTED = "nobody waited for the answer any longer"
"""The text of the CloudTimeout in which a request ends that nobody waits for."""

_PREFILLS_AHEAD = 2
"""Prefills given to the second thread at once: it need not wait for the next one, and whoever comes now
waits for few."""

ExtendMany = Callable[[Sequence[Model], Sequence[Sequence[int]]], list[Tensor]]


def extend_each(models: Sequence[Model], tokens: Sequence[Sequence[int]]) -> list[Tensor]:
    """:func:`edgecloud.models.audio_lm.extend_many` for any model: one forward after the other."""
    return [model.extend(new) for model, new in zip(models, tokens, strict=True)]


@dataclass(slots=True, eq=False)
class _Request:
    """A request under way. ``busy_s`` is its share of the cloud's time since its last answer;
    ``prefilled`` is its prompt, or a part of it, once that is on the second thread."""

    steps: Steps
    deliver: Callable[[Outcome], None]
    client: str = ""
    wants: Forward | DraftScoring | Pause | None = None
    busy_s: float = 0.0
    prefilled: Future[tuple[Tensor | None, float]] | None = None
    unwanted: bool = False

    @property
    def extension(self) -> Forward | None:
        """The forward it waits for that it can share."""
        wants = self.wants
        return wants if isinstance(wants, Forward) and not wants.apart else None

    @property
    def unprefilled(self) -> bool:
        """True when it waits for a prefill, or a part of one, that has not begun."""
        wants = self.wants
        return isinstance(wants, Forward) and wants.apart and self.prefilled is None

    @property
    def in_turns(self) -> bool:
        """True when it waits for a part of something long."""
        return isinstance(self.wants, Forward) and self.wants.in_turns


class Engine:
    """Runs requests until closed.

    ``max_batch`` bounds how many share a forward; where more wait for one they take turns, so that nobody
    waits for another's end. ``window_s`` is how long a lone request waits for
    company (0: not at all). ``on_batch`` is told the size of each batch, on the engine's thread.
    ``prefill_beside``: whether one session's prefill may run while others are extended, on another thread.
    """

    def __init__(
        self,
        extend_many: ExtendMany = extend_each,
        *,
        max_batch: int = 16,
        window_s: float = 0.0,
        on_batch: Callable[[int], None] | None = None,
        prefill_beside: bool = False,
    ) -> None:
        self._extend_many = extend_many
        self._max_batch = max_batch
        self._window_s = window_s
        self._on_batch = on_batch
        self._threads = torch.get_num_threads()
        self._arrived: SimpleQueue[_Request | None] = SimpleQueue()
        """New requests; None only wakes the engine."""
        self._active: list[_Request] = []
        self._taking = threading.Lock()
        """Held while a request is taken or refused: none comes in behind the last one to be answered."""
        self._taken = self._finished = 0
        self._prefills = 0
        self._prefilled_for: dict[str, int] = {}
        """Which prefill, or part of one, was the last that began for each client."""
        self._some_unwanted = False
        self._beside = (
            ThreadPoolExecutor(1, thread_name_prefix="edgecloud-prefill")
            if prefill_beside
            else None
        )
        self._prefills_at_once = _PREFILLS_AHEAD if prefill_beside else 1
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="edgecloud-engine", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """True while requests are accepted: the thread runs and :meth:`close` was not called."""
        return self._thread.is_alive() and not self._closing

    @property
    def ended(self) -> bool:
        """True once the thread has ended."""
        return not self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Requests that have come in and are not finished."""
        return self._taken - self._finished

    def ready(self) -> bool:
        """True when a request submitted now would be answered; here the same as ``alive``."""
        return self.alive

    def submit(
        self, steps: Steps, deliver: Callable[[Outcome], None], *, client: str = ""
    ) -> Callable[[], None]:
        """Run ``steps``; ``deliver`` is called on the engine's thread with each outcome. The prompts of
        different ``client``s are prefilled in turns.

        Returns what to call when nobody waits for them any longer.

        Raises:
            CloudUnavailable: the engine is closed.
        """
        request = _Request(steps, deliver, client)
        with self._taking:
            if not self.alive:
                raise CloudUnavailable("the verifier is shutting down")
            self._taken += 1
            self._arrived.put(request)

        def cancel() -> None:
            request.unwanted = True
            self._some_unwanted = True
            self._arrived.put(None)

        return cancel

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
            with self._taking:
                self._closing = True
            if self._beside is not None:
                self._beside.shutdown(cancel_futures=True)
            for request in (*self._active, *self._new()):
                self._end(request, CloudUnavailable("the verifier is shutting down"))

    def _admit(self) -> None:
        """Take in new requests; wait for one only when there is nothing else to do."""
        new: list[_Request] = []
        if self._idle:
            first = self._arrived.get()
            new = [] if first is None else [first]
            if self._window_s and not self._active and self._arrived.empty():
                time.sleep(self._window_s)
        new += self._new()
        self._active += new
        for request in list(self._active):
            self._take_up(request)
        if self._some_unwanted:
            self._drop_unwanted()
        for request in new:
            if request in self._active:
                self._resume(request, None)

    @property
    def _idle(self) -> bool:
        """True when there is nothing to do but to wait for requests, and for prefills on the second
        thread."""
        none_begins = self._begun >= self._prefills_at_once
        return all(
            request.prefilled is not None or (request.unprefilled and none_begins)
            for request in self._active
        )

    @property
    def _begun(self) -> int:
        """How many prefills are on the second thread."""
        return sum(request.prefilled is not None for request in self._active)

    def _new(self) -> list[_Request]:
        """The requests that have come in."""
        new: list[_Request] = []
        while True:
            try:
                request = self._arrived.get_nowait()
            except Empty:
                return new
            if request is not None:
                new.append(request)

    def _turn(self) -> None:
        """One prefill, or a few on the second thread, and one forward for as many as may share it, after
        which all drafts that wait for it are scored together."""
        pausing = [request for request in self._active if isinstance(request.wants, Pause)]
        for _ in range(self._prefills_at_once - self._begun):
            request = self._next_prefill()
            if request is None:
                break
            self._prefill(request)
            if request.in_turns and request in self._active:
                # The next part is computed after everybody else's.
                self._to_the_end([request])
        extending = [request for request in self._active if request.extension]
        if len(extending) > self._max_batch:
            extending = extending[: self._max_batch]
            self._to_the_end(extending)
        if extending:
            self._extend(extending)
        scoring = [request for request in self._active if isinstance(request.wants, DraftScoring)]
        if scoring:
            self._score(scoring)
        for request in pausing:
            self._resume(request, None)

    def _next_prefill(self) -> _Request | None:
        """The first to wait for a prefill, of the client that has waited for one for longest."""
        waiting = [request for request in self._active if request.unprefilled]
        if not waiting:
            return None
        found = min(waiting, key=lambda request: self._prefilled_for.get(request.client, 0))
        self._prefills += 1
        self._prefilled_for[found.client] = self._prefills
        return found

    def _to_the_end(self, requests: list[_Request]) -> None:
        """Let all others go before these."""
        others = [request for request in self._active if request not in requests]
        self._active = [*others, *requests]

    def _prefill(self, request: _Request) -> None:
        """Run a request's prefill here and now, or on the second thread."""
        if self._beside is None or not isinstance(request.wants, Forward):
            self._alone(request)
            return
        begun = contained(
            self._beside.submit, self._prefilled, request.wants, len(self._active) > 1
        )
        if isinstance(begun, EdgeCloudError):
            self._end(request, begun)
            return
        request.prefilled = begun
        begun.add_done_callback(lambda _: self._arrived.put(None))

    def _drop_unwanted(self) -> None:
        """End the requests that nobody waits for; one with a prefill on the second thread, after that."""
        self._some_unwanted = False
        for request in list(self._active):
            if request.unwanted and (request.prefilled is None or request.prefilled.cancel()):
                self._end(request, CloudTimeout(UNWANTED))

    def _prefilled(self, forward: Forward, with_company: bool) -> tuple[Tensor | None, float]:
        """A prompt's or a part's logits, and the seconds they took; on the second thread."""
        self._use_cores(shared=with_company)
        began = time.perf_counter()
        logits = forward.run()
        return logits, time.perf_counter() - began

    def _use_cores(self, *, shared: bool) -> None:
        """Let the calling thread compute on all cores of the process, or on half of them."""
        torch.set_num_threads(max(1, self._threads // 2) if shared else self._threads)

    def _take_up(self, request: _Request) -> None:
        """Let a request go on whose prefill has ended on the second thread."""
        if request.prefilled is None or not request.prefilled.done():
            return
        prefilled, request.prefilled = request.prefilled, None
        found = contained(prefilled.result)
        if isinstance(found, EdgeCloudError):
            self._end(request, found)
            return
        logits, busy_s = found
        request.busy_s += busy_s
        self._resume(request, logits)

    def _extend(self, requests: list[_Request]) -> None:
        wants = [request.extension for request in requests if request.extension]
        lengths = [want.model.length for want in wants]
        self._use_cores(shared=any(request.prefilled for request in self._active))
        began = time.perf_counter()
        found = contained(self._extended, wants, log=len(wants) == 1)
        if not isinstance(found, EdgeCloudError):
            self._share(requests, found, time.perf_counter() - began)
        elif len(requests) == 1:
            self._end(requests[0], found)
        else:
            # One of them is at fault, or all together are too large: each answers for itself.
            for request, length in zip(requests, lengths, strict=True):
                self._alone(request, length)

    def _extended(self, wants: Sequence[Forward]) -> list[Tensor]:
        if self._on_batch is not None:
            self._on_batch(len(wants))
        found = self._extend_many([want.model for want in wants], [want.tokens for want in wants])
        return _one_each(found, wants)

    def _score(self, requests: list[_Request]) -> None:
        wants = [request.wants for request in requests if isinstance(request.wants, DraftScoring)]
        began = time.perf_counter()
        found = contained(_scored, wants, log=len(wants) == 1)
        if not isinstance(found, EdgeCloudError):
            self._share(requests, found, time.perf_counter() - began)
        elif len(requests) == 1:
            self._end(requests[0], found)
        else:
            for request in requests:
                self._alone(request)

    def _share(self, requests: list[_Request], found: Sequence[Given], took_s: float) -> None:
        """Split the batched outputs, resume each request with its own, and charge each an equal part of the
        elapsed time."""
        for request, given in zip(requests, found, strict=True):
            request.busy_s += took_s / len(requests)
            self._resume(request, given)

    def _alone(self, request: _Request, length: int | None = None) -> None:
        """One request's forward or draft scoring by itself; ``length`` is what its model held before a
        forward for many that failed, maybe half-way."""
        began = time.perf_counter()
        given = contained(_run, request.wants, length)
        if isinstance(given, EdgeCloudError):
            self._end(request, given)
            return
        request.busy_s += time.perf_counter() - began
        self._resume(request, given)

    def _resume(self, request: _Request, given: Given) -> None:
        """Advance a request to its next forward or draft scoring, delivering its chunks on the way."""
        if request.unwanted:
            self._end(request, CloudTimeout(UNWANTED))
            return
        request.wants = None
        outcome = contained(self._gone_on, request, given)
        if request.wants is None:
            self._end(request, outcome)

    def _gone_on(self, request: _Request, given: Given) -> Outcome | None:
        """Advance to the next forward or scoring. Returns the outcome that ends the request, where one is
        told."""
        while True:
            began = time.perf_counter()
            try:
                step = request.steps.send(given)
            except StopIteration as end:
                request.busy_s += time.perf_counter() - began
                verdict: Verdict | None = end.value
                return verdict and timed(verdict, request.busy_s)
            request.busy_s += time.perf_counter() - began
            if isinstance(step, Forward | DraftScoring | Pause):
                request.wants = step
                return None
            given = None
            request.deliver(timed(step, request.busy_s))
            request.busy_s = 0.0

    def _end(self, request: _Request, outcome: Outcome | None) -> None:
        request.wants = request.prefilled = None
        if request in self._active:
            self._active.remove(request)
        self._finished += 1
        contained(request.steps.close)
        if outcome is None:
            return
        failed = contained(request.deliver, outcome, log=not isinstance(outcome, EdgeCloudError))
        if failed is not None:
            # An answer that cannot be delivered: its reader may still be told so.
            contained(request.deliver, failed, log=False)


def _run(wants: Forward | DraftScoring | Pause | None, length: int | None) -> Given:
    if wants is None:
        raise ValueError("a request without a next step was to be run")
    if isinstance(wants, Forward) and length is not None and wants.model.length > length:
        wants.model.rollback(length)
    return wants.run()


def _scored(wants: Sequence[DraftScoring]) -> list[DraftScores]:
    return _one_each(
        score_drafts([want.logits for want in wants], [want.draft for want in wants]), wants
    )


Found = TypeVar("Found")


def _one_each(found: list[Found], wants: Sequence[object]) -> list[Found]:
    """Return ``found``. Raises ValueError where its length is not that of ``wants``."""
    if len(found) != len(wants):
        raise ValueError(f"{len(found)} answers to {len(wants)} requests")
    return found
