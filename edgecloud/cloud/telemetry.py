"""What a service tells of itself: Prometheus metrics, and one line of JSON per request.

Neither holds captions, tokens, features or names of recordings.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from edgecloud.contracts import CloudCost

__all__ = ["JsonLines", "Telemetry"]

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
    ) -> None:
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
        self._log = logging.getLogger("edgecloud.service")

    def batch(self, size: int) -> None:
        """A forward was shared by ``size`` sessions."""
        self._batch.observe(size)

    def answered(self, op: str, status: int, seconds: float, **facts: Any) -> None:
        """A request was answered with an HTTP status."""
        self._answers.labels(op, str(status)).inc()
        self._seconds.labels(op).observe(seconds)
        self._log.info(
            "request", extra={"facts": {"op": op, "status": status, "s": seconds, **facts}}
        )

    def spent(self, cost: CloudCost) -> None:
        for kind in ("prefill", "verified", "ingested", "generated"):
            self._tokens.labels(kind).inc(getattr(cost, f"{kind}_tokens"))

    def page(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def _gauge(self, name: str, help_: str, read: Callable[[], int]) -> None:
        gauge = Gauge(f"edgecloud_{name}", help_, registry=self._registry)
        gauge.set_function(read)


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, event, and the facts given with it."""

    def format(self, record: logging.LogRecord) -> str:
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
