"""The verifier behind HTTP. docs/wire.md describes what passes.

One event loop keeps the sessions, one thread owns the model (:mod:`edgecloud.cloud.engine.engine`).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from edgecloud.cloud.engine.engine import UNWANTED, Engine, ExtendMany, Runner, extend_each
from edgecloud.cloud.engine.session_registry import (
    Answers,
    Bounds,
    Caller,
    Overloaded,
    Registry,
    SteppedCloud,
)
from edgecloud.cloud.http.telemetry import Telemetry
from edgecloud.cloud.protocol import wire
from edgecloud.cloud.protocol.bearer_tokens import ONLY_CLIENT, authorization, client_of
from edgecloud.errors import (
    CloudTimeout,
    CloudUnavailable,
    ContextLengthError,
    EdgeCloudError,
    ModelError,
    OutOfMemoryError,
    SessionLost,
    WireError,
)

__all__ = ["MEDIA_TYPE", "ServiceSettings", "service"]

MEDIA_TYPE = "application/vnd.edgecloud.messages"
_MAX_MESSAGES = 16
_MANY_FEATURES = 1 << 19
_UNREAD = "the request could not be read"
_HUNG_UP = 499
"""The status of a request whose client did not wait for its answer, in metrics and log alone."""


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """``clients``: names by the bearer tokens that are asked for; without any none is. ``read_s`` bounds
    the reading of a request, ``answer_s`` the time to its answer, ``close_s`` the waiting for the model at
    the end."""

    clients: Mapping[str, str] = field(default_factory=dict)
    bounds: Bounds = field(default_factory=Bounds)
    max_batch: int = 16
    window_s: float = 0.0
    max_body_bytes: int = 8 << 20
    read_s: float = 30.0
    answer_s: float = 60.0
    close_s: float = 10.0


def service(
    cloud: SteppedCloud,
    facts: dict[str, Any],
    settings: ServiceSettings,
    *,
    extend_many: ExtendMany = extend_each,
    prefill_beside: bool = False,
    runner: Runner | None = None,
) -> Starlette:
    """The application. ``facts`` is what ``/v1/model`` says of the model; ``extend_many`` and
    ``prefill_beside`` are the engine's. Where the cloud's model is elsewhere, ``runner`` takes its place."""
    made = _Service(
        cloud, facts, settings, extend_many, prefill_beside=prefill_beside, runner=runner
    )
    return made.app


class _Service:
    def __init__(
        self,
        cloud: SteppedCloud,
        facts: dict[str, Any],
        settings: ServiceSettings,
        extend_many: ExtendMany,
        *,
        prefill_beside: bool,
        runner: Runner | None,
    ) -> None:
        self._facts = {**facts, "protocol": wire.VERSION, "protocols": list(wire.VERSIONS)}
        self._settings = settings
        self._engine: Runner = runner or Engine(
            extend_many,
            max_batch=settings.max_batch,
            window_s=settings.window_s,
            on_batch=lambda size: self._telemetry.batch(size),
            prefill_beside=prefill_beside,
        )
        clients = sorted(set(settings.clients.values())) or [ONLY_CLIENT]
        self._registry = Registry(
            cloud,
            self._engine,
            settings.bounds,
            on_cost=lambda cost, client: self._telemetry.spent(cost, client),
            clients=clients,
        )
        self._telemetry = Telemetry(
            sessions=lambda: self._registry.count,
            memory_bytes=lambda: self._registry.memory_bytes,
            waiting=lambda: self._engine.waiting,
            clients={
                name: (
                    partial(self._registry.count_of, name),
                    partial(self._registry.memory_bytes_of, name),
                )
                for name in clients
            },
        )
        self.app = Starlette(
            routes=[
                Route("/healthz", self._health),
                Route("/readyz", self._ready),
                Route("/metrics", self._guarded(self._metrics)),
                Route("/v1/model", self._guarded(self._model)),
                Route("/v1/messages", self._guarded(self._messages), methods=["POST"]),
            ],
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        sweeper = asyncio.create_task(self._sweep())
        yield
        sweeper.cancel()
        with suppress(asyncio.CancelledError):
            await sweeper
        await asyncio.to_thread(self._engine.close, self._settings.close_s)

    async def _sweep(self) -> None:
        """Expire idle sessions, also while nobody opens one."""
        while True:
            await asyncio.sleep(min(1.0, max(0.01, self._settings.bounds.idle_s / 2)))
            self._registry.expire()

    def _guarded(
        self, answer: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """``answer``, for a client with a bearer token; ``request.state.client`` is the name it stands
        for."""
        expected = {authorization(token): name for token, name in self._settings.clients.items()}

        async def guarded(request: Request) -> Response:
            # Starlette reads headers as Latin-1; a token in one is UTF-8.
            borne = request.headers.get("authorization", "").encode("latin-1")
            request.state.client = client_of(borne, expected) if expected else ONLY_CLIENT
            if request.state.client is None:
                return _refusal(401, "a bearer token is needed", {"WWW-Authenticate": "Bearer"})
            return await answer(request)

        return guarded

    async def _health(self, _: Request) -> Response:
        """503 only where nothing will ever be answered again. (A vLLM that is away comes back.)"""
        ended = self._engine.ended
        said = "the engine's thread has ended" if ended else "alive"
        return JSONResponse({"status": said}, status_code=503 if ended else 200)

    async def _ready(self, _: Request) -> Response:
        ready = await asyncio.to_thread(self._engine.ready)
        return JSONResponse({"ready": ready}, status_code=200 if ready else 503)

    async def _metrics(self, _: Request) -> Response:
        return Response(self._telemetry.page(), media_type="text/plain; version=0.0.4")

    async def _model(self, _: Request) -> Response:
        return JSONResponse(self._facts)

    async def _messages(self, request: Request) -> Response:
        """Sessions to close or open, then at most one request that is answered."""
        op, size, began = "unread", 0, time.monotonic()
        client: str = request.state.client
        try:
            body = await self._body(request)
            size, began = len(body), time.monotonic()
            messages, rest = wire.unpack_frames(body, most=_MAX_MESSAGES)
            if rest or not 1 <= len(messages) <= _MAX_MESSAGES:
                raise WireError(f"1 to {_MAX_MESSAGES} whole messages were expected")
            answers: Answers | None = None
            async with self._watched(request) as caller:
                # All of them are read before any of them acts.
                for seq, op, values in [wire.unpack(message) for message in messages]:
                    if answers is not None:
                        raise WireError("nothing may follow a request that is answered")
                    answers = await self._handle(seq, op, values, client, caller)
                response = await self._response(answers, caller, op, client, began, size)
        except EdgeCloudError as error:
            response = _failure(error)
        except (ClientDisconnect, HTTPException) as error:
            response = (
                _refusal(error.status_code, error.detail, error.headers)
                if isinstance(error, HTTPException)
                else _refusal(400, _UNREAD)
            )
        if not isinstance(response, StreamingResponse):
            self._told(op, client, response.status_code, began, size)
        return response

    @asynccontextmanager
    async def _watched(self, request: Request) -> AsyncIterator[Caller]:
        """Whoever waits for the answer, for as long as it may: what it no longer waits for is ended.

        Raises:
            CloudTimeout: it may wait no longer.
        """
        caller = Caller()
        watching = asyncio.create_task(_watch(request, caller))
        try:
            async with asyncio.timeout(self._settings.answer_s):
                yield caller
        except TimeoutError:
            raise CloudTimeout("the model is too busy to answer in time") from None
        finally:
            watching.cancel()
            if not caller.streams:
                caller.leave()

    async def _body(self, request: Request) -> bytes:
        """The whole request, within its bounds of size and time."""
        if "content-length" not in request.headers:
            raise HTTPException(411, "a body needs its Content-Length", {"Connection": "close"})
        limit = self._settings.max_body_bytes
        body = bytearray()
        try:
            async with asyncio.timeout(self._settings.read_s):
                async for part in request.stream():
                    body += part
                    if len(body) > limit:
                        raise HTTPException(413, _UNREAD)
        except TimeoutError:
            raise HTTPException(408, _UNREAD) from None
        return bytes(body)

    async def _handle(
        self, seq: int, op: str, values: list[Any], client: str, caller: Caller
    ) -> Answers | None:
        name = values.pop(0) if values else None
        if not isinstance(name, bytes) or len(name) != 16 or not wire.counted(seq):
            raise WireError(
                f"{op!r:.40}: a session of 16 bytes and a number from 0 on were expected"
            )
        if op == "close":
            if values:
                raise WireError("close: nothing was expected after the session")
            self._registry.close(name, client=client)
            return None
        if op == "open":
            # Meanwhile others are answered: a long recording takes tens of milliseconds to inflate.
            opening = (
                await asyncio.to_thread(wire.unpack_open, values)
                if _is_long(values)
                else wire.unpack_open(values)
            )
            self._registry.open(name, *opening, client=client)
            return None
        return await self._registry.ask(name, seq, op, values, client=client, caller=caller)

    async def _response(
        self,
        answers: Answers | None,
        caller: Caller,
        op: str,
        client: str,
        began: float,
        size: int,
    ) -> Response:
        """The answers as they come. Their first decides the status."""
        if answers is None:
            return Response(status_code=204)
        stream = answers.stream()
        first = await anext(stream)
        ending: dict[str, Any] = {"status": _HUNG_UP}

        async def body() -> AsyncIterator[bytes]:
            yield wire.pack_frames([first])
            try:
                async with asyncio.timeout(self._settings.answer_s):
                    async for message in stream:
                        yield wire.pack_frames([message])
            except (EdgeCloudError, TimeoutError) as error:
                # The status has been said: the client sees an answer that ends too soon.
                ending.update(status=500, error=type(error).__name__)
                return
            ending["status"] = 200

        def ended() -> None:
            """Whatever ended it, its client's going away included."""
            caller.leave()
            self._told(op, client, began=began, size=size, **ending)

        if answers.done and len(answers.messages) == 1:
            return Response(wire.pack_frames([first]), media_type=MEDIA_TYPE)
        caller.streams = True
        return _Streamed(body(), ended)

    def _told(
        self, op: str, client: str, status: int, began: float, size: int, **facts: Any
    ) -> None:
        known = op if op in wire.OPERATIONS else "other"
        took_s = time.monotonic() - began
        self._telemetry.answered(known, status, took_s, client=client, bytes_up=size, **facts)


class _Streamed(StreamingResponse):
    """Answers as they come; ``ended`` is called when they have been sent, or cannot be."""

    def __init__(self, body: AsyncIterator[bytes], ended: Callable[[], None]) -> None:
        super().__init__(body, media_type=MEDIA_TYPE)
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ended()


def _is_long(opening: list[Any]) -> bool:
    """True when an ``open`` says that it has more features than are inflated in a few milliseconds."""
    shape = opening[1] if len(opening) > 1 else None
    if not isinstance(shape, list):
        return False
    return any(
        isinstance(one, list)
        and len(one) <= 4
        and all(type(size) is int for size in one)
        and math.prod(one) > _MANY_FEATURES
        for one in [shape, *(entry[-1] for entry in shape if isinstance(entry, list) and entry)]
    )


async def _watch(request: Request, caller: Caller) -> None:
    """Until the client has hung up: all that can still be received of it, as its request is whole."""
    await request.receive()
    caller.leave()


def _failure(error: EdgeCloudError) -> Response:
    """An error's HTTP status, and its name and text for the client."""
    headers = None
    if isinstance(error, SessionLost):
        status = 404
    elif isinstance(error, WireError):
        status = 400
    elif isinstance(error, ContextLengthError):
        status = 413
    elif isinstance(error, CloudTimeout) and str(error) == UNWANTED:
        status = _HUNG_UP
    elif isinstance(error, CloudUnavailable | CloudTimeout | OutOfMemoryError):
        status = 503
        retry_s = error.retry_after_s if isinstance(error, Overloaded) else 1
        headers = {"Retry-After": str(retry_s)}
    elif isinstance(error, ModelError):
        status = 422
    else:
        status = 500
    return _refusal(status, str(error), headers, name=type(error).__name__)


def _refusal(
    status: int, text: str, headers: Mapping[str, str] | None = None, *, name: str = "WireError"
) -> Response:
    return JSONResponse({"error": name, "text": text}, status_code=status, headers=headers)
