"""Requests for a model elsewhere: each waits on a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from edgecloud.cloud.engine.boundary import contained
from edgecloud.cloud.engine.engine import UNWANTED, Outcome
from edgecloud.cloud.engine.local import Steps, alone
from edgecloud.contracts import Verdict
from edgecloud.errors import CloudTimeout, CloudUnavailable

__all__ = ["Threads"]


class Threads:
    """A :class:`edgecloud.cloud.engine.engine.Runner` for requests that wait for a model elsewhere, each
    on a thread of its own: there is nothing here that they could share.

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
        """True until :meth:`close` is called."""
        return not self._closing

    @property
    def ended(self) -> bool:
        """False while requests are accepted: a model that is away ends nothing here."""
        return self._closing

    @property
    def waiting(self) -> int:
        """Requests under way."""
        return len(self._running)

    def ready(self) -> bool:
        """True when requests are accepted and the model elsewhere says that it is healthy."""
        return self.alive and self._healthy()

    def submit(
        self, steps: Steps, deliver: Callable[[Outcome], None], *, client: str = ""
    ) -> Callable[[], None]:
        """Start the request on a thread of its own; ``deliver`` gets each outcome, on that thread. Returns a
        function that cancels it.

        Raises:
            CloudUnavailable: the service is shutting down, or no thread can be started.
        """
        unwanted = threading.Event()
        thread = threading.Thread(
            target=self._run, args=(steps, deliver, unwanted), name="edgecloud-request", daemon=True
        )
        with self._lock:
            if self._closing:
                raise CloudUnavailable("the verifier is shutting down")
            try:
                thread.start()
            except RuntimeError as error:
                raise CloudUnavailable("too many requests at once; try again later") from error
            self._running.add(thread)
        return unwanted.set

    def close(self, timeout_s: float = 10.0) -> None:
        """Accept no more, stop what runs and wait for it, ``timeout_s`` in all."""
        with self._lock:
            self._closing = True
            left = list(self._running)
        self._stop()
        until_s = time.monotonic() + timeout_s
        for thread in left:
            thread.join(max(0.0, until_s - time.monotonic()))

    def _run(
        self, steps: Steps, deliver: Callable[[Outcome], None], unwanted: threading.Event
    ) -> None:
        try:
            failed = contained(self._answered, steps, deliver, unwanted)
            if failed is not None:
                contained(deliver, failed, log=False)
        finally:
            with self._lock:
                self._running.discard(threading.current_thread())

    def _answered(
        self, steps: Steps, deliver: Callable[[Outcome], None], unwanted: threading.Event
    ) -> None:
        last = False
        for outcome in alone(steps, lambda: not unwanted.is_set()):
            last = isinstance(outcome, Verdict) or outcome.last
            deliver(outcome)
        if unwanted.is_set() and not last:
            raise CloudTimeout(UNWANTED)
