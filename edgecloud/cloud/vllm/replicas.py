"""The vLLM servers behind a gateway: which one a session uses, and how they are spoken to.

Every wait has an end, every answer is checked, and what goes wrong is one of our errors. Their texts go
to whoever asked the gateway, so they name no address behind it; the log does.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from edgecloud.cloud.engine.engine import UNWANTED
from edgecloud.cloud.http.client import Breaker
from edgecloud.cloud.protocol.bearer_tokens import authorization
from edgecloud.errors import CloudError, CloudTimeout, CloudUnavailable, ModelError
from edgecloud.textfiles import parse_json

__all__ = ["Replica", "Replicas", "VllmSettings"]

_MAX_ANSWER_BYTES = 16 << 20
_LONGEST_REASON = 300
_REST_S = 0.5
"""Less than the second after which an edge that was sent away asks again."""
_LOG = logging.getLogger("edgecloud.service")


@dataclass(frozen=True, slots=True)
class VllmSettings:
    """Settings of the connection to vLLM and of the requests to it.

    ``urls`` of equal servers; ``ranks``, how many data-parallel ranks are behind each of them.
    ``model``: its name there, ``None`` where a server has but one. ``key`` as in vLLM's ``--api-key``.
    ``logprobs`` are asked at each position, at most vLLM's ``--max-logprobs``. ``timeout_s`` bounds the
    work on one request of an edge. ``recordings``: whether the gateway takes the audio itself.
    """

    urls: tuple[str, ...]
    ranks: int = 1
    model: str | None = None
    key: str | None = field(default=None, repr=False)
    logprobs: int = 20
    timeout_s: float = 60.0
    recordings: bool = False


@dataclass(slots=True, eq=False)
class _Exchange:
    """A request under way, and its answer once the head of that is there."""

    response: httpx.Response | None = None
    abandoned: bool = False

    def abandon(self) -> None:
        """End it, from any thread: whoever reads the answer finds that it has ended."""
        self.abandoned = True
        if self.response is None:
            return
        stream = self.response.extensions.get("network_stream")
        connection = stream.get_extra_info("socket") if stream is not None else None
        if isinstance(connection, socket.socket):
            with suppress(OSError):  # it has ended by itself
                # Below TLS: its own state is the reader's.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)


class Replica:
    """One vLLM server, or one data-parallel rank of it. Used from many threads."""

    def __init__(
        self, url: str, *, model: str | None = None, key: str | None = None, rank: int | None = None
    ) -> None:
        headers = {b"Authorization": authorization(key, "EDGECLOUD_VLLM_KEY")} if key else {}
        if rank is not None:
            headers[b"X-data-parallel-rank"] = str(rank).encode()
        self._url = url
        self._model = model
        # Sessions wait for the model, not for a connection.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        # Reading the authorities takes a while, and plain HTTP has no use for them.
        verify = (
            httpx.create_ssl_context()
            if url.startswith("https:")
            else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        )
        self._client = httpx.Client(
            base_url=url, headers=headers, verify=verify, trust_env=False, limits=limits
        )
        self._lock = threading.Lock()
        self._under_way = 0
        self._exchanges: dict[str, list[_Exchange]] = {}
        """Those of each session, by its name."""
        self._closed = False
        self.breaker = Breaker(failures=2, rest_s=_REST_S)
        self.sessions = 0
        self.failure = ""
        """The last error."""

    def model(self, deadline_s: float) -> str:
        """The name that requests give the model.

        Raises:
            CloudError: the server cannot say.
            ModelError: it serves several, and none was chosen.
        """
        if self._model is None:
            with self._answered("GET", "/v1/models", None, "", deadline_s) as response:
                found = _whole(response, deadline_s)
            names = [str(entry.get("id")) for entry in _entries(found, "data")]
            if len(names) != 1:
                raise ModelError(
                    f"vLLM serves {len(names)} models; choose one with --vllm-model: {', '.join(names)}"
                )
            self._model = names[0]
        return self._model

    def post(
        self, path: str, body: Mapping[str, Any], *, session: str, deadline_s: float
    ) -> dict[str, Any]:
        """The JSON object that answers ``body``. ``session`` is the same in all requests of one, for
        whatever spreads requests over servers.

        Raises:
            CloudUnavailable: no answer, a server's fault, or nothing that can be understood.
            CloudTimeout: not before ``deadline_s`` on the monotonic clock.
            ModelError: vLLM refuses the request; its reason is in the text.
        """
        named = {"model": self.model(deadline_s), **body}
        with self._answered("POST", path, named, session, deadline_s) as response:
            return _whole(response, deadline_s)

    def stream(
        self, path: str, body: Mapping[str, Any], *, session: str, deadline_s: float
    ) -> Iterator[dict[str, Any]]:
        """The JSON objects that answer ``body``, as they come. Closed early, vLLM stops its work.

        Raises as :meth:`post` does.
        """
        named = {"model": self.model(deadline_s), **body, "stream": True}
        with self._answered("POST", path, named, session, deadline_s) as response:
            for line in response.iter_lines():
                _in_time(deadline_s)
                kind, _, data = line.partition(":")
                if kind != "data":
                    continue
                if data.strip() == "[DONE]":
                    return
                event = _object(data)
                if "error" in event:
                    raise CloudUnavailable(f"vLLM gave up: {_reason(event)}")
                yield event
        raise CloudUnavailable("vLLM's answer ended too soon")

    def abandon(self, session: str) -> None:
        """End what is asked for ``session``, from any thread: vLLM stops its work on it."""
        with self._lock:
            exchanges = list(self._exchanges.get(session, ()))
        for exchange in exchanges:
            exchange.abandon()

    def healthy(self, timeout_s: float) -> bool:
        """True when the server says that it can work."""
        try:
            return self._client.get("/health", timeout=timeout_s).status_code == 200
        except httpx.HTTPError:
            return False

    def close(self) -> None:
        """Begin no more requests. The last one under way takes the connections with it."""
        with self._lock:
            self._closed = True
            idle = not self._under_way
        if idle:
            self._client.close()

    def _failed(self, what: str, why: str = "") -> None:
        self.failure = what
        self.breaker.failed()
        _LOG.warning(what, extra={"facts": {"url": self._url, "why": why}})

    @contextmanager
    def _answered(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        session: str,
        deadline_s: float,
    ) -> Iterator[httpx.Response]:
        """An answer with status 200 whose body can be read. What goes wrong until it is read counts."""
        self.breaker.check()
        exchange = self._begin(session)
        timeout_s = max(0.001, deadline_s - time.monotonic())
        headers = {"X-Session-Id": session} if session else {}
        try:
            with self._client.stream(
                method, path, json=body, headers=headers, timeout=timeout_s
            ) as response:
                if response.status_code != 200:
                    response.read()
                    raise _refused(response)
                exchange.response = response
                if exchange.abandoned:
                    raise CloudTimeout(UNWANTED)
                yield response
        except httpx.TimeoutException as error:
            # Its own mistake or too much work: either way other servers are worth a try first.
            self._failed("vLLM did not answer in time")
            raise CloudTimeout(self.failure) from error
        except (httpx.HTTPError, httpx.StreamError) as error:
            if exchange.abandoned:
                raise CloudTimeout(UNWANTED) from error
            self._failed("vLLM cannot be reached", str(error) or type(error).__name__)
            raise CloudUnavailable(self.failure) from error
        except CloudUnavailable as error:
            self._failed(str(error))
            raise
        finally:
            self._end(session, exchange)
        self.breaker.worked()

    def _begin(self, session: str) -> _Exchange:
        exchange = _Exchange()
        with self._lock:
            if self._closed:
                raise CloudUnavailable("the gateway is shutting down")
            self._under_way += 1
            self._exchanges.setdefault(session, []).append(exchange)
        return exchange

    def _end(self, session: str, exchange: _Exchange) -> None:
        with self._lock:
            self._under_way -= 1
            self._exchanges[session].remove(exchange)
            if not self._exchanges[session]:
                del self._exchanges[session]
            last = self._closed and not self._under_way
        if last:
            self._client.close()


class Replicas:
    """Equal servers, of which a session uses one for as long as it works: it has the session's
    prefix in its cache."""

    def __init__(self, settings: VllmSettings) -> None:
        ranks = [None] if settings.ranks == 1 else list(range(settings.ranks))
        self._all = [
            Replica(url.rstrip("/"), model=settings.model, key=settings.key, rank=rank)
            for url in settings.urls
            for rank in ranks
        ]
        self._lock = threading.Lock()

    def take(self) -> Replica:
        """The server with the fewest sessions, of those that work, for one session more.

        Raises:
            CloudUnavailable: none of them works now.
        """
        with self._lock:
            working = [replica for replica in self._all if not replica.breaker.resting]
            if not working:
                said = sorted({replica.failure for replica in self._all})
                raise CloudUnavailable(
                    f"no vLLM server behind this gateway works now, of {len(self._all)}: {'; '.join(said)}"
                )
            chosen = min(working, key=lambda replica: replica.sessions)
            chosen.sessions += 1
            return chosen

    def leave(self, replica: Replica) -> None:
        """One session less."""
        with self._lock:
            replica.sessions -= 1

    def healthy(self, timeout_s: float = 2.0) -> bool:
        """True when any server says that it can work."""
        return any(replica.healthy(timeout_s) for replica in self._all)

    def close(self) -> None:
        """Close the connections to all servers."""
        for replica in self._all:
            replica.close()


def _in_time(deadline_s: float) -> None:
    if time.monotonic() > deadline_s:
        raise CloudTimeout("vLLM did not answer in time")


def _whole(response: httpx.Response, deadline_s: float) -> dict[str, Any]:
    content = bytearray()
    for part in response.iter_bytes():
        _in_time(deadline_s)
        content += part
        if len(content) > _MAX_ANSWER_BYTES:
            raise CloudUnavailable("vLLM's answer is too long to be one")
    return _object(bytes(content))


def _object(content: bytes | str) -> dict[str, Any]:
    try:
        found = parse_json(content)
    except ValueError as error:
        raise CloudUnavailable("what answers in vLLM's place does not speak JSON") from error
    if not isinstance(found, dict):
        raise CloudUnavailable("what answers in vLLM's place is no vLLM")
    return found


def _entries(found: Mapping[str, Any], key: str) -> Sequence[dict[str, Any]]:
    entries = found.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise CloudUnavailable("what answers in vLLM's place is no vLLM")
    return entries


def _refused(response: httpx.Response) -> CloudError | ModelError:
    """The error that a status other than 200 means."""
    status = response.status_code
    try:
        reason = _reason(_object(response.content))
    except CloudUnavailable:
        reason = f"HTTP status {status}"
    if status in (401, 403):
        return CloudUnavailable("vLLM refuses this gateway's key; check EDGECLOUD_VLLM_KEY")
    if status in (408, 429) or status >= 500:
        return CloudUnavailable(f"vLLM failed: {reason}")
    return ModelError(f"vLLM refuses the request: {reason}")


def _reason(said: Mapping[str, Any]) -> str:
    error = said.get("error")
    text = error.get("message") if isinstance(error, dict) else error
    return str(text)[:_LONGEST_REASON]
