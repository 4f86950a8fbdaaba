"""The way to a verifier behind HTTP: a :class:`edgecloud.cloud.protocol.remote.Channel`.

``open`` and ``close`` wait for the next request and travel with it, so that neither costs a round
trip. A request that failed on the way is sent again, under the same number: the service answers it
once. Every wait ends at the caller's deadline, whatever the network does.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

import httpx
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_before_delay,
    wait_random_exponential,
)

from edgecloud.cloud.protocol import wire
from edgecloud.cloud.protocol.bearer_tokens import authorization
from edgecloud.errors import (
    CloudError,
    CloudTimeout,
    CloudUnavailable,
    ContextLengthError,
    ModelError,
    OutOfMemoryError,
    SessionLost,
    WireError,
)
from edgecloud.textfiles import parse_json

__all__ = ["Breaker", "HttpChannel", "model_metadata"]

_ATTEMPTS = 4
_WAITING_MESSAGES = 8
_MAX_ANSWER_BYTES = 1 << 20
_END_WITHIN_S = 0.05


class _Retryable(CloudUnavailable):
    """Worth another try. ``after_s``: not before."""

    def __init__(self, text: str, after_s: float = 0.0) -> None:
        super().__init__(text)
        self.after_s = after_s


class Breaker:
    """Asks no cloud that keeps failing: after ``failures`` in a row, one trial every ``rest_s``."""

    def __init__(
        self,
        failures: int = 3,
        rest_s: float = 2.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = failures
        self._rest_s = rest_s
        self._now = now
        self._failures = 0
        self._until_s = 0.0

    @property
    def resting(self) -> bool:
        """True when the cloud is left alone now."""
        return self._failures >= self._limit and self._until_s > self._now()

    def check(self) -> None:
        """Raises CloudUnavailable while the cloud is left alone."""
        if self.resting:
            left_s = self._until_s - self._now()
            raise CloudUnavailable(
                f"the cloud failed {self._failures} times in a row; it is asked again in {left_s:.1f} s"
            )

    def failed(self) -> None:
        """Count a failed attempt; the pause begins anew."""
        self._failures += 1
        self._until_s = self._now() + self._rest_s

    def worked(self) -> None:
        """Forget the failures: the service answered."""
        self._failures = 0


class HttpChannel:
    """Messages to and from the service at ``url``. One request at a time."""

    def __init__(
        self, url: str, *, token: str | None = None, breaker: Breaker | None = None
    ) -> None:
        self._url = url.rstrip("/")
        self._headers = _headers(token)
        self._breaker = breaker or Breaker()
        # Read once: a client made anew after a failure must not spend a caption's time on it.
        self._trusted = _trusted(url)
        self._client = self._fresh_client()
        self._waiting: list[bytes] = []
        self._body = b""
        self._exchange: _Exchange | None = None
        self._received = 0

    def send(self, message: bytes, *, answered: bool) -> None:
        """Queue ``message``. One that is ``answered`` makes a request of all that is queued; it goes out
        at :meth:`start` or :meth:`receive`."""
        self._waiting.append(message)
        if not answered:
            del self._waiting[:-_WAITING_MESSAGES]
            return
        self._body = wire.pack_frames(self._waiting)
        self._waiting = []
        self._received = 0
        if self._exchange is not None:
            # All that was asked for has come; what ends the answer is a moment behind.
            self._exchange.over.wait(_END_WITHIN_S)
        self._drop()

    def start(self, timeout_s: float) -> None:
        """Send the request now and not only at :meth:`receive`; nothing while the breaker rests."""
        if self._exchange is None and not self._breaker.resting:
            self._exchange = self._begun(timeout_s)

    def ready(self) -> bool:
        """True when :meth:`receive` would not wait for an answer under way."""
        return self._exchange is None or not self._exchange.answers.empty()

    def receive(self, timeout_s: float) -> bytes:
        """The next message of the answer; the request is repeated while that may help and time is left.

        Raises:
            CloudError: nothing within ``timeout_s``, a refusal, or the breaker rests.
        """
        began = time.monotonic()
        self._breaker.check()
        retrying = Retrying(
            retry=retry_if_exception_type(_Retryable),
            stop=stop_after_attempt(_ATTEMPTS) | stop_before_delay(max(0.0, timeout_s)),
            wait=_pause,
            reraise=True,
        )
        try:
            message: bytes = retrying(self._next, began + timeout_s)
        except (CloudUnavailable, CloudTimeout):
            self._breaker.failed()
            raise
        self._breaker.worked()
        return message

    def close(self) -> None:
        """Let the service know what is closed, as far as it can be reached at once."""
        self._drop()
        if self._waiting:
            body, self._waiting = wire.pack_frames(self._waiting), []
            with suppress(httpx.HTTPError):  # then the sessions expire by themselves
                self._client.post(self._messages, content=body, headers=self._headers, timeout=1.0)
        self._client.close()

    @property
    def _messages(self) -> str:
        return f"{self._url}/v1/messages"

    def _next(self, deadline_s: float) -> bytes:
        """The next answer; on a new exchange where there is none under way."""
        left_s = deadline_s - time.monotonic()
        if self._exchange is None:
            self._exchange = self._begun(left_s)
        try:
            found = self._exchange.answers.get(timeout=max(0.0, left_s))
        except Empty:
            self._drop()
            raise CloudTimeout("the cloud did not answer in time; raise --deadline") from None
        if isinstance(found, bytes):
            self._received += 1
            return found
        self._drop()
        raise found

    def _begun(self, timeout_s: float) -> _Exchange:
        return _Exchange(
            self._client, self._messages, self._body, self._headers, timeout_s, self._received
        )

    def _drop(self) -> None:
        """Leave an exchange that is over, or that is given up: then its connection goes with it."""
        if self._exchange is not None and not self._exchange.over.is_set():
            self._exchange.abandon()
            self._client = self._fresh_client()
        self._exchange = None

    def _fresh_client(self) -> httpx.Client:
        # Head and body leave as two small writes: the second must not wait for the first's receipt.
        at_once = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
        transport = httpx.HTTPTransport(verify=self._trusted, socket_options=at_once)
        return httpx.Client(transport=transport, trust_env=False)


class _Exchange:
    """One HTTP request on a thread of its own, so that no slow byte holds up the caller.

    ``answers`` gives the messages after the first ``skip``, then what ended them.
    """

    def __init__(
        self,
        client: httpx.Client,
        url: str,
        body: bytes,
        headers: dict[bytes, bytes],
        timeout_s: float,
        skip: int,
    ) -> None:
        self.answers: SimpleQueue[bytes | CloudError | ModelError] = SimpleQueue()
        self.over = threading.Event()
        self._abandoned = False
        self._client = client
        self._request = client.build_request(
            "POST", url, content=body, headers=headers, timeout=max(0.001, timeout_s)
        )
        self._skip = skip
        threading.Thread(target=self._run, name="edgecloud-http", daemon=True).start()

    def _run(self) -> None:
        try:
            ended = self._exchanged()
        except httpx.TimeoutException:
            ended = CloudTimeout("the cloud did not answer in time; raise --deadline")
        except (httpx.HTTPError, httpx.StreamError) as error:
            ended = _Retryable(
                f"the cloud at {self._request.url} cannot be reached ({error or type(error).__name__})"
            )
        self.answers.put(ended)
        self.over.set()
        if self._abandoned:
            self._client.close()

    def abandon(self) -> None:
        """Nobody listens any more; the connection is closed when the exchange ends."""
        self._abandoned = True
        if self.over.is_set():
            self._client.close()

    def _exchanged(self) -> CloudError | ModelError:
        response = self._client.send(self._request, stream=True)
        try:
            if response.status_code != 200:
                response.read()
                return _refused(response)
            rest, size = b"", 0
            for part in response.iter_raw():
                size += len(part)
                if size > _MAX_ANSWER_BYTES:
                    return WireError(f"the cloud's answer is longer than {_MAX_ANSWER_BYTES} bytes")
                messages, rest = wire.unpack_frames(rest + part)
                for message in messages:
                    if self._skip:
                        self._skip -= 1
                    else:
                        self.answers.put(message)
        finally:
            response.close()
        return _Retryable("the cloud's answer ended too soon")


def _refused(response: httpx.Response) -> CloudError | ModelError:
    """The error that a status other than 200 means."""
    status = response.status_code
    try:
        said = parse_json(response.content)
        name, text = str(said["error"]), str(said["text"])[:500]
    except (ValueError, TypeError, KeyError):
        name, text = "", f"HTTP status {status}"
    if status == 401:
        return CloudUnavailable("the cloud refuses the token; check EDGECLOUD_TOKEN")
    if name == "OutOfMemoryError":
        return OutOfMemoryError(text)
    if status == 422 and name == "ModelError":
        return ModelError(text)
    if name == "SessionLost":
        return SessionLost(text)
    if name == "CloudError":
        return CloudError(text)  # a fault that it would meet again
    if name == "ContextLengthError":
        return ContextLengthError(text)
    if status >= 500 or status in (408, 429):
        return _Retryable(
            f"the cloud failed: {text}", _seconds(response.headers.get("Retry-After"))
        )
    return WireError(f"the cloud refused the request: {text}")


def _seconds(text: str | None) -> float:
    return float(text) if text is not None and text.isdigit() else 0.0


_JITTER = wait_random_exponential(multiplier=0.05, max=2.0)


def _pause(state: RetryCallState) -> float:
    """Longer each time, at random, and not before the cloud asked to be asked again."""
    error = state.outcome and state.outcome.exception()
    after_s = error.after_s if isinstance(error, _Retryable) else 0.0
    return max(after_s, _JITTER(state))


def _headers(token: str | None) -> dict[bytes, bytes]:
    return {b"Authorization": authorization(token)} if token else {}


def _trusted(url: str) -> ssl.SSLContext | bool:
    """Whose certificates are believed: the usual authorities', or those in SSL_CERT_FILE. Not read where
    nothing is encrypted, which takes longer than a verification."""
    return httpx.create_ssl_context() if url.lower().startswith("https:") else False


def model_metadata(url: str, *, token: str | None, timeout_s: float) -> dict[str, Any]:
    """The model's metadata as the service at ``url`` gives it.

    Raises:
        ConfigError: the token cannot stand in a header.
        CloudUnavailable: nothing answers there in time, or not to this token.
        WireError: what answers is no verifier of this version.
    """
    try:
        response = httpx.get(
            f"{url.rstrip('/')}/v1/model",
            headers=_headers(token),
            timeout=timeout_s,
            verify=_trusted(url),
            trust_env=False,
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise CloudUnavailable(
            f"no cloud answers at {url} ({error}); start one with `edgecloud serve`, check --cloud-url"
        ) from error
    if response.status_code == 401:
        raise CloudUnavailable(f"the cloud at {url} refuses the token; check EDGECLOUD_TOKEN")
    try:
        facts = parse_json(response.content)
    except ValueError:
        facts = None
    if not isinstance(facts, dict) or facts.get("protocol") != wire.VERSION:
        raise WireError(
            f"what answers at {url} is no verifier of protocol version {wire.VERSION}; "
            "check --cloud-url, and that both sides run the same edgecloud"
        )
    return facts
