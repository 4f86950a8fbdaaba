"""Telemetry of a service: Prometheus metrics, and one line of JSON per request.

Neither holds captions, tokens, features or names of recordings.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter as Counts
from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from edgecloud.cloud.protocol.bearer_tokens import ONLY_CLIENT
from edgecloud.contracts import CloudCost

__all__ = ["JsonLines", "Limited", "Telemetry"]

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)


class Telemetry:
    """Counters of one service, in a registry of its own."""

    def __init__(
        self,
        *,
        sessions: Callable[[], int],
        memory_bytes: Callable[[], int],
        waiting: Callable[[], int],
        clients: Mapping[str, tuple[Callable[[], int], Callable[[], int]]] | None = None,
    ) -> None:
        """``clients``: open sessions and their memory, by the name of who holds them."""
        self._registry = CollectorRegistry()
        self._gauge("sessions", "open sessions", sessions)
        self._gauge("session_memory_bytes", "caches and prompts of open sessions", memory_bytes)
        self._gauge("queue", "requests that wait for the model or run on it", waiting)
        self._batch = Histogram(
            "edgecloud_batch_size",
            "sessions that shared a forward",
            buckets=_SIZES,
            registry=self._registry,
        )
        self._seconds = Histogram(
            "edgecloud_request_seconds",
            "from a request's last byte to its last answer",
            ["op"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._answers = Counter(
            "edgecloud_requests", "answered requests", ["op", "status"], registry=self._registry
        )
        self._tokens = Counter(
            "edgecloud_tokens",
            "tokens by what was done with them",
            ["kind"],
            registry=self._registry,
        )
        self._client_answers = Counter(
            "edgecloud_client_requests",
            "answered requests by client",
            ["client", "status"],
            registry=self._registry,
        )
        self._client_tokens = Counter(
            "edgecloud_client_tokens",
            "tokens by client and by what was done with them",
            ["client", "kind"],
            registry=self._registry,
        )
        of_sessions = self._by_client("sessions", "open sessions by client")
        of_memory = self._by_client("memory_bytes", "caches and prompts by client")
        for client, (count, taken_bytes) in (clients or {}).items():
            of_sessions.labels(client).set_function(count)
            of_memory.labels(client).set_function(taken_bytes)
        self._log = logging.getLogger("edgecloud.service")

    def batch(self, size: int) -> None:
        """A forward was shared by ``size`` sessions."""
        self._batch.observe(size)

    def answered(
        self, op: str, status: int, seconds: float, *, client: str = ONLY_CLIENT, **facts: Any
    ) -> None:
        """A request of ``client`` was answered with an HTTP status."""
        self._client_answers.labels(client, str(status)).inc()
        self._answers.labels(op, str(status)).inc()
        self._seconds.labels(op).observe(seconds)
        self._log.info(
            "request", extra={"facts": {"op": op, "status": status, "s": seconds, **facts}}
        )

    def spent(self, cost: CloudCost, client: str = ONLY_CLIENT) -> None:
        """Add the tokens of ``cost`` to the counters, in all and of ``client``."""
        for kind in ("prefill", "verified", "ingested", "generated"):
            tokens = getattr(cost, f"{kind}_tokens")
            self._tokens.labels(kind).inc(tokens)
            self._client_tokens.labels(client, kind).inc(tokens)

    def page(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def _by_client(self, name: str, help_: str) -> Gauge:
        return Gauge(f"edgecloud_client_{name}", help_, ["client"], registry=self._registry)

    def _gauge(self, name: str, help_: str, read: Callable[[], int]) -> None:
        gauge = Gauge(f"edgecloud_{name}", help_, registry=self._registry)
        gauge.set_function(read)


_EVENTS = 10
"""As many times as one event may be logged, all may be together."""
_MOST_COUNTED = 1000


class Limited(logging.Filter):
    """Lets no event fill the log: of each, so many lines ``per_s``, and how many were left out at the next
    one that comes through (``left_out``). Requests that were answered well are all there."""

    def __init__(self, per_s: int = 20, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._per_s = per_s
        self._now = now
        self._since_s = now()
        self._lines: Counts[tuple[object, ...]] = Counts()
        self._left_out: Counts[tuple[object, ...]] = Counts()
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """True for a line to be written; others are counted and told with the next."""
        facts = getattr(record, "facts", {})
        status = facts.get("status", 500)
        if status < 400:
            return True
        # Texts that are filled in differ from line to line; what is said does not.
        event = (record.name, str(record.msg), status)
        with self._lock:
            if self._now() - self._since_s >= 1:
                self._since_s = self._now()
                self._lines.clear()
            told = sum(self._lines.values())
            if self._lines[event] >= self._per_s or told >= _EVENTS * self._per_s:
                if len(self._left_out) < _MOST_COUNTED:
                    self._left_out[event] += 1
                return False
            self._lines[event] += 1
            if self._left_out[event]:
                record.facts = {**facts, "left_out": self._left_out.pop(event)}
            return True


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, event, and the facts given with it."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of JSON; an exception is its traceback under ``error``."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "from": record.name,
            "event": record.getMessage(),
        }
        line.update(getattr(record, "facts", {}))
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
